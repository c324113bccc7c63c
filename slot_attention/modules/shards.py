"""Functions of a batch that each device applies to its own rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Arrays [b, ...] -> arrays whose leading axis belongs to the devices.
BatchFunction = Callable[..., Any]


def on_each(
  function: BatchFunction, batch_size: int, num_whole: int = 0
) -> BatchFunction:
  """Keeps a function from gathering a batch that a mesh divides.

  Callbacks, and loops over rows, would collect the whole batch on every device;
  loops that sum over the batch would do so at every turn.

  Args:
    function: of arrays [batch_size, ...], or trees of them.
    batch_size: of the arrays, over all devices.
    num_whole: so many first arguments are whole on every device instead.

  Returns:
    The function itself, or, where `jax.set_mesh` set a mesh whose axis "data"
    divides the batch, one that applies it to each device's rows and puts the
    results behind each other.
  """
  mesh = jax.sharding.get_abstract_mesh()
  axis_types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
  # Inside a shard_map the axis is Manual and the batch is local already.
  if axis_types.get("data") in (None, jax.sharding.AxisType.Manual):
    return function
  if batch_size % mesh.shape["data"]:
    return function
  rows = jax.P("data")

  def divided(*args: Any) -> Any:
    specs = (jax.P(),) * num_whole + (rows,) * (len(args) - num_whole)
    # Unchecked, as libraries' loops begin with constants, which are of no
    # device.
    return jax.shard_map(
      function, in_specs=specs, out_specs=rows, check_vma=False
    )(*args)

  return divided


def in_portions(
  function: Callable[[jax.Array, jax.Array], jax.Array],
  whole: jax.Array,
  batch: jax.Array,
  most: int,
) -> jax.Array:
  """Applies a function to a few rows of a batch at a time.

  Args:
    function: of `whole` and so many rows.
    whole: the same for all rows, and on all devices.
    batch: [b, ...], which a mesh may divide, see `on_each`.
    most: rows at a time.

  Returns:
    Its results behind each other, [b, ...].
  """

  def of_all(whole: jax.Array, batch: jax.Array) -> jax.Array:
    b = len(batch)
    size = portion(b, most)
    if size == b:
      return function(whole, batch)
    # Not an array to map over: reshaped in portions, it is computed again.
    results = jax.lax.map(
      lambda first: function(
        whole, jax.lax.dynamic_slice_in_dim(batch, first, size)
      ),
      jnp.arange(0, b, size),
    )
    return results.reshape(b, *results.shape[2:])

  return on_each(of_all, len(batch), num_whole=1)(whole, batch)


def sum_of_portions(
  function: Callable[[jax.Array, jax.Array], Any],
  zeros: Any,
  first: jax.Array,
  second: jax.Array,
  size: int,
) -> Any:
  """Sums a function of a few rows of two batches at a time, on one device.

  Args:
    function: of so many rows of both; returns arrays.
    zeros: in the shapes of its results.
    first: [b, ...].
    second: [b, ...].
    size: rows at a time, a divisor of b.

  Returns:
    The sums of its results.
  """

  def add(totals: Any, start: jax.Array) -> tuple[Any, None]:
    # Not arrays to scan over: reshaped in portions, they are computed again.
    some = (
      jax.lax.dynamic_slice_in_dim(x, start, size) for x in (first, second)
    )
    return jax.tree.map(jnp.add, totals, function(*some)), None

  totals, _ = jax.lax.scan(add, zeros, jnp.arange(0, len(first), size))
  return totals


def portion(total: int, most: int) -> int:
  """Returns the largest divisor of a number up to `most`, or 1."""
  return max(n for n in range(1, max(1, min(total, most)) + 1) if not total % n)
