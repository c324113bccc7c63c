"""Counts the multiplications that a computation is defined by.

Only products of matrices and convolutions count, two operations for each
multiplication and addition; what stands beside them costs next to nothing. The
count is of a function's jaxpr before differentiation, so neither how gradients
are computed nor what is computed again for them changes it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core
import jax.numpy as jnp

from slot_attention.benchmarking import work as work_lib

Work = work_lib.Work


def forward_work(function: Callable[..., Any], *args: Any) -> Work:
  """Counts one call.

  Args:
    function: of arrays.
    *args: arrays or their shapes.

  Returns:
    The work.

  Raises:
    ValueError: a product stands in a loop of unknown length, or inside of an
      operation that this module does not know.
  """
  jaxpr = jax.make_jaxpr(function)(*args).jaxpr
  forward, _, _ = _count(jaxpr, [False] * len(jaxpr.invars), [])
  return forward


def training_work(loss: Callable[..., Any], variables: Any, *args: Any) -> Work:
  """Counts one call and its gradient.

  The gradient of a product with respect to an operand takes as much as the
  product; it counts where the operand depends on the variables and the product
  reaches the loss. So the first layer needs none for the images, and what comes
  before a `stop_gradient` none at all. The first pass of a loop counts like the
  others, and an array as a whole: slots of all iterations, of which the loss
  takes the last, keep the gradients of all.

  Args:
    loss: (variables, *args) -> the loss, or a tuple that begins with it.
    variables: by which the loss is differentiated: arrays or shapes.
    *args: of the loss: arrays or shapes.

  Returns:
    The work.

  Raises:
    ValueError: see `forward_work`.
  """

  def only_loss(*args: Any) -> jax.Array:
    return jax.tree.leaves(loss(*args))[0]

  jaxpr = jax.make_jaxpr(only_loss)(variables, *args).jaxpr
  num_variables = len(jax.tree.leaves(variables))
  active = [i < num_variables for i in range(len(jaxpr.invars))]
  forward, backward, _ = _count(jaxpr, active, [True])
  return forward.plus(backward)


# `active`: depends on the variables; `useful`: the loss depends on it. Lists of
# both follow the inputs or outputs of a jaxpr or of an equation.


def _count(
  jaxpr: core.Jaxpr, active: Sequence[bool], useful: Sequence[bool]
) -> tuple[Work, Work, list[bool]]:
  """Returns the work forward, that of gradients, and which inputs are useful.

  Args:
    jaxpr: of the computation.
    active: for each input.
    useful: for each output; none counts where the list is empty.

  Returns:
    See above.
  """
  is_active = _propagate(jaxpr, active)
  reached = {
    variable
    for variable, flag in zip(jaxpr.outvars, useful, strict=False)
    if flag and not isinstance(variable, core.Literal)
  }
  forward, backward = Work(), Work()
  for equation in reversed(jaxpr.eqns):
    inputs = [is_active.get(_key(v), False) for v in equation.invars]
    outputs = [
      v in reached and is_active.get(_key(v), False) for v in equation.outvars
    ]
    there, back, needed = _count_equation(equation, inputs, outputs)
    forward, backward = forward.plus(there), backward.plus(back)
    reached |= {
      v
      for v, flag in zip(equation.invars, needed, strict=True)
      if flag and not isinstance(v, core.Literal)
    }
  return forward, backward, [v in reached for v in jaxpr.invars]


def _count_equation(
  equation: core.JaxprEqn, active: list[bool], useful: list[bool]
) -> tuple[Work, Work, list[bool]]:
  """Returns what `_count` does, of one equation."""
  name = equation.primitive.name
  if name in work_lib.PRODUCTS:
    work = work_lib.of_product(equation)
    return (
      work,
      work.times(sum(active) * any(useful)),
      _only_if(active, any(useful)),
    )
  bodies = _bodies(equation)
  if not bodies:
    if any(map(_has_products, core.jaxprs_in_params(equation.params))):
      raise ValueError(
        f"Products inside of {name!r} cannot be counted; write it as a scan."
      )
    return Work(), Work(), _only_if(active, any(useful))
  if name == "scan":
    return _count_scan(equation, active, useful)
  skipped = len(active) - len(bodies[0].invars)  # The index of a branch.
  results = [_count(body, active[skipped:], useful) for body in bodies]
  forward, backward, _ = max(results, key=lambda r: r[0].flops)
  if name == "shard_map":  # What it calls is the part of one device.
    num_devices = equation.params["mesh"].size
    forward, backward = (x.times(num_devices) for x in (forward, backward))
  needed = [any(flags) for flags in zip(*(r[2] for r in results), strict=True)]
  return forward, backward, [False] * skipped + needed


def _only_if(active: list[bool], condition: bool) -> list[bool]:
  """Returns the flags, all False unless the condition holds."""
  return [flag and condition for flag in active]


def _count_scan(
  equation: core.JaxprEqn, active: list[bool], useful: list[bool]
) -> tuple[Work, Work, list[bool]]:
  body, carry = equation.params["jaxpr"].jaxpr, _carry(equation)
  active = _settle_activity(equation, active)
  num_carry = equation.params["num_carry"]
  while True:
    forward, backward, needed = _count(body, active, useful)
    carried = [a or b for a, b in zip(useful, needed[carry], strict=False)]
    if carried == useful[:num_carry]:
      break
    useful = carried + useful[num_carry:]
  length = equation.params["length"]
  return forward.times(length), backward.times(length), needed


def _propagate(
  jaxpr: core.Jaxpr, active: Sequence[bool]
) -> dict[core.Var, bool]:
  """Returns which variables of a jaxpr depend on active inputs."""
  flags = dict(zip(jaxpr.invars, active, strict=True))
  for equation in jaxpr.eqns:
    inputs = [flags.get(_key(v), False) for v in equation.invars]
    outputs = _active_outputs(equation, inputs)
    flags |= {
      v: flag and jnp.issubdtype(v.aval.dtype, jnp.inexact)
      for v, flag in zip(equation.outvars, outputs, strict=True)
    }
  return flags


def _active_outputs(
  equation: core.JaxprEqn, active: list[bool]
) -> Sequence[bool]:
  name, bodies = equation.primitive.name, _bodies(equation)
  if name == "stop_gradient":
    return [False]
  if not bodies:
    return [any(active)] * len(equation.outvars)
  if name == "scan":
    active = _settle_activity(equation, active)
  skipped = len(active) - len(bodies[0].invars)
  outputs = []
  for body in bodies:
    flags = _propagate(body, active[skipped:])
    outputs.append([flags.get(_key(v), False) for v in body.outvars])
  return [any(flags) for flags in zip(*outputs, strict=True)]


def _settle_activity(equation: core.JaxprEqn, active: list[bool]) -> list[bool]:
  """Returns the flags of a scan's inputs in its last pass."""
  body, carry = equation.params["jaxpr"].jaxpr, _carry(equation)
  active = list(active)
  while True:
    flags = _propagate(body, active)
    carried = [
      old or flags.get(_key(v), False)
      for old, v in zip(active[carry], body.outvars, strict=False)
    ]
    if carried == active[carry]:
      return active
    active[carry] = carried


def _carry(equation: core.JaxprEqn) -> slice:
  """Returns which inputs of a scan are its carry."""
  start = equation.params["num_consts"]
  return slice(start, start + equation.params["num_carry"])


def _bodies(equation: core.JaxprEqn) -> list[core.Jaxpr]:
  """Returns the jaxprs that an equation calls with its own inputs."""
  params, name = equation.params, equation.primitive.name
  if name == "cond":
    branches = [branch.jaxpr for branch in params["branches"]]
    platforms = params.get("branches_platforms")
    # Shortcuts are for one platform; None is the one without.
    return [branches[platforms.index(None)]] if platforms else branches
  if name == "while":
    return []
  body = params.get("jaxpr", params.get("call_jaxpr"))
  body = getattr(body, "jaxpr", body)
  fits = isinstance(body, core.Jaxpr) and (
    len(body.invars) == len(equation.invars)
    and [v.aval.shape for v in body.invars]
    == [v.aval.shape for v in equation.invars]
  )
  return [body] if fits or name in ("scan", "shard_map") else []


def _has_products(jaxpr: core.Jaxpr) -> bool:
  return any(
    equation.primitive.name in work_lib.PRODUCTS
    or any(map(_has_products, core.jaxprs_in_params(equation.params)))
    for equation in jaxpr.eqns
  )


def _key(variable: core.Var | core.Literal) -> core.Var | None:
  """Returns what flags are kept by: literals are never active."""
  return None if isinstance(variable, core.Literal) else variable
