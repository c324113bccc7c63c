"""One update: a pure function of (state, batch), and how it is compiled."""

from collections.abc import Callable, Mapping
import time
from typing import Any

from absl import logging
from clu import parameter_overview
import jax
import jax.numpy as jnp
import ml_collections
import optax

from slot_attention import optimizers
from slot_attention import sharding
from slot_attention import train_state as train_state_lib
from slot_attention.data import pipeline
from slot_attention.tasks import base

# Steps dispatched before the oldest one's metrics are fetched. Enough to keep
# any device busy; more than 16 in flight deadlock several CPU devices.
STEPS_IN_FLIGHT = 8

Metrics = dict[str, jax.Array]
StepFn = Callable[
  [train_state_lib.TrainState, pipeline.Batch],
  tuple[train_state_lib.TrainState, Metrics],
]


def create_state(
  task: base.Task,
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  frozen: Mapping[str, Any] | None = None,
) -> train_state_lib.TrainState:
  """Initialises the state of step 0 on every device, from config.seed.

  Args:
    task: gives the variables.
    config: of the run.
    mesh: all devices.
    frozen: `task.load_frozen()`, if it is at hand already.

  Returns:
    The state.
  """
  if frozen is None:
    frozen = task.load_frozen()
  return with_frozen(_init_function(task, config, mesh)(), frozen, mesh)


def with_frozen(
  state: train_state_lib.TrainState,
  frozen: Mapping[str, Any],
  mesh: jax.sharding.Mesh,
) -> train_state_lib.TrainState:
  """Adds `Task.load_frozen`'s variables to a state, on every device."""
  frozen = jax.device_put(dict(frozen), sharding.replicated(mesh))
  return state.replace(model_state={**state.model_state, **frozen})


def abstract_state(
  task: base.Task,
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
) -> train_state_lib.TrainState:
  """Returns shapes, types and shardings of the state, without computing it."""
  place = sharding.replicated(mesh)
  state = jax.eval_shape(_init_function(task, config, mesh))
  model_state = {**state.model_state, **task.frozen_shapes()}
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
    state.replace(model_state=model_state),
  )


def create_train_step(
  task: base.Task, config: ml_collections.ConfigDict
) -> StepFn:
  """Returns the pure function `(state, batch) -> (state, metrics)`.

  Args:
    task: gives the loss.
    config: of the run.

  Returns:
    A function to be jitted. Its loss is the mean over the global batch; metrics
    are scalars: loss, learning_rate, grad_norm and what the task adds.
  """
  optimizer = optimizers.create_optimizer(config)
  schedule = optimizers.create_schedule(config)
  accumulation_steps = config.train.accumulation_steps

  def train_step(
    state: train_state_lib.TrainState, batch: pipeline.Batch
  ) -> tuple[train_state_lib.TrainState, Metrics]:
    rngs = train_state_lib.step_rngs(config.seed, state.step)
    grads, metrics, model_state = _accumulate_gradients(
      task, state, batch, rngs, accumulation_steps
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    cut = optimizers.plateau_factor(state.opt_state)
    metrics["learning_rate"] = schedule(state.step) * cut
    metrics["grad_norm"] = optax.tree.norm(grads)
    state = train_state_lib.TrainState(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      model_state=model_state,
      opt_state=opt_state,
    )
    return state, metrics

  return train_step


def lower_train_step(
  train_step: StepFn,
  state: train_state_lib.TrainState,
  batch: pipeline.Batch,
) -> jax.stages.Lowered:
  """Traces the step as it is compiled, with its state donated.

  Args:
    train_step: from `create_train_step`.
    state: arrays or shapes; donated at every call.
    batch: arrays or shapes.

  Returns:
    What `compile()` makes a step of.
  """
  shardings = jax.tree.map(lambda x: x.sharding, state)
  step = jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, None))
  return step.lower(state, batch)


def compile_train_step(
  train_step: StepFn,
  state: train_state_lib.TrainState,
  batch: pipeline.Batch,
) -> StepFn:
  """Compiles the step and logs what it costs, before it runs.

  Args:
    train_step: from `create_train_step`.
    state: arrays or shapes; donated at every call.
    batch: arrays or shapes.

  Returns:
    The compiled step.
  """
  start = time.monotonic()
  compiled = lower_train_step(train_step, state, batch).compile()
  seconds = time.monotonic() - start
  overview = parameter_overview.get_parameter_overview(
    state.params, include_stats=False
  )
  logging.info(
    "%s\nTrain step: %.4g GFLOP per device (XLA's count), %s, compiled in "
    "%.1f s.",
    overview,
    xla_flops(compiled) / 1e9,
    _describe(memory_bytes(compiled)),
    seconds,
  )
  return compiled


def _init_function(
  task: base.Task,
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
) -> Callable[[], train_state_lib.TrainState]:
  optimizer = optimizers.create_optimizer(config)

  def init() -> train_state_lib.TrainState:
    variables = dict(task.init(jax.random.key(config.seed)))
    params = variables.pop("params")
    return train_state_lib.TrainState(
      step=jnp.zeros([], jnp.int32),
      params=params,
      model_state=variables,
      opt_state=optimizer.init(params),
    )

  # jit with out_shardings: device_put could alias buffers that are donated.
  return jax.jit(init, out_shardings=sharding.replicated(mesh))


def _accumulate_gradients(
  task: base.Task,
  state: train_state_lib.TrainState,
  batch: pipeline.Batch,
  rngs: base.Rngs,
  steps: int,
) -> tuple[Any, Metrics, Any]:
  """Returns gradients, metrics and model state of a batch, in `steps` parts."""

  def loss_fn(
    params: Any, model_state: Any, batch: pipeline.Batch, rngs: base.Rngs
  ) -> tuple[jax.Array, tuple[Metrics, Any]]:
    loss, (metrics, new_state) = task.loss(
      {"params": params, **model_state}, batch, rngs
    )
    return loss, ({"loss": loss, **metrics}, {**model_state, **new_state})

  grad_fn = jax.grad(loss_fn, has_aux=True)
  if steps == 1:
    grads, (metrics, model_state) = grad_fn(
      state.params, state.model_state, batch, rngs
    )
    return grads, metrics, model_state

  def body(model_state: Any, part: tuple[jax.Array, pipeline.Batch]) -> Any:
    number, micro_batch = part
    part_rngs = {
      name: jax.random.fold_in(key, number) for name, key in rngs.items()
    }
    grads, (metrics, model_state) = grad_fn(
      state.params, model_state, micro_batch, part_rngs
    )
    return model_state, (grads, metrics)

  def body_sum(carry: Any, part: tuple[jax.Array, pipeline.Batch]) -> Any:
    model_state, total = carry
    model_state, result = body(model_state, part)
    return (model_state, jax.tree.map(jnp.add, total, result)), None

  # [b, ...] -> [b / steps, steps, ...] -> [steps, b / steps, ...]: every part
  # takes rows of every device, so nothing moves between them.
  parts = jax.tree.map(
    lambda x: x.reshape(-1, steps, *x.shape[1:]).swapaxes(0, 1), dict(batch)
  )
  numbers = jnp.arange(steps)
  first = jax.tree.map(lambda x: x[0], (numbers, parts))
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(body, state.model_state, first)[1],
  )
  (model_state, total), _ = jax.lax.scan(
    body_sum, (state.model_state, zeros), (numbers, parts)
  )
  grads, metrics = jax.tree.map(lambda x: x / steps, total)
  return grads, metrics, model_state


def xla_flops(compiled: jax.stages.Compiled) -> float:
  """Returns XLA's count per device; NaN where the backend keeps none."""
  return (compiled.cost_analysis() or {}).get("flops", float("nan"))


def memory_bytes(compiled: jax.stages.Compiled) -> dict[str, int] | None:
  """Returns what a program needs of each device's memory, by XLA's plan.

  Args:
    compiled: the program.

  Returns:
    Bytes of its `arguments` and of what is `temporary`, and the `total` with
    its results as far as they do not lie where arguments lay; None where the
    backend makes no plan.
  """
  analysis = compiled.memory_analysis()
  if analysis is None:
    return None
  arguments = analysis.argument_size_in_bytes
  temporary = analysis.temp_size_in_bytes
  results = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
  return {
    "arguments": arguments,
    "temporary": temporary,
    "total": arguments + temporary + results,
  }


def _describe(memory: dict[str, int] | None) -> str:
  if memory is None:
    return "memory unknown to this backend"
  return (
    f"{memory['total'] / 2**30:.2f} GiB of memory per device "
    f"({memory['temporary'] / 2**30:.2f} GiB of it temporary)"
  )
