"""Adam in Keras' form, and the optimizer that a config describes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from slot_attention import schedules


class KerasAdamState(NamedTuple):
  """Steps done and the two moments."""

  count: jax.Array
  mu: optax.Updates
  nu: optax.Updates


def scale_by_keras_adam(
  b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8
) -> optax.GradientTransformation:
  """Adam whose epsilon stands outside the bias correction ("epsilon hat").

  The update is `sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)`, which
  is what Keras and Kingma & Ba (2015, end of section 2) compute.
  `optax.scale_by_adam` corrects v first, so its epsilon weighs 32 times less at
  t = 1.

  Args:
    b1: decay of the first moment.
    b2: decay of the second moment.
    epsilon: added to the root of the uncorrected second moment.

  Returns:
    An optax transformation.
  """

  def init(params: optax.Params) -> KerasAdamState:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return KerasAdamState(jnp.zeros([], jnp.int32), zeros, zeros)

  def update(
    updates: optax.Updates,
    state: KerasAdamState,
    params: optax.Params | None = None,
  ) -> tuple[optax.Updates, KerasAdamState]:
    del params
    count = optax.safe_increment(state.count)
    mu = optax.tree.update_moment(updates, state.mu, b1, 1)
    nu = optax.tree.update_moment(updates, state.nu, b2, 2)
    t = count.astype(jnp.float32)
    scale = jnp.sqrt(1.0 - jnp.float32(b2) ** t) / (1.0 - jnp.float32(b1) ** t)
    updates = jax.tree.map(
      lambda m, v: scale * m / (jnp.sqrt(v) + epsilon), mu, nu
    )
    return updates, KerasAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)


def create_schedule(config: ml_collections.ConfigDict) -> optax.Schedule:
  """Returns the learning rate as a function of the 0-based step.

  Args:
    config: of the run; `optimizer` and `train.num_steps` are read.
  """
  return SCHEDULES[config.optimizer.schedule](config)


def create_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """Returns the optimizer of a run.

  Args:
    config: of the run; `optimizer` and `train.num_steps` are read.

  Returns:
    An optax transformation.
  """
  optimizer = config.optimizer
  parts = [
    OPTIMIZERS[optimizer.name](config),
    optax.scale_by_learning_rate(create_schedule(config)),
  ]
  if optimizer.clip_norm:
    parts.insert(0, optax.clip_by_global_norm(optimizer.clip_norm))
  return optax.chain(*parts)


def _warmup_exponential(config: ml_collections.ConfigDict) -> optax.Schedule:
  optimizer = config.optimizer
  return schedules.warmup_exponential_decay(
    optimizer.learning_rate,
    optimizer.warmup_steps,
    optimizer.decay_rate,
    optimizer.decay_steps,
  )


def _warmup_then_decay(config: ml_collections.ConfigDict) -> optax.Schedule:
  optimizer = config.optimizer
  return schedules.warmup_then_decay(
    optimizer.learning_rate,
    optimizer.warmup_steps,
    optimizer.decay_rate,
    optimizer.decay_steps,
    optimizer.warmup_start_factor,
  )


def _one_cycle(config: ml_collections.ConfigDict) -> optax.Schedule:
  """PyTorch's defaults: from 1 / 25 of the rate to 1 / 10,000 of that."""
  optimizer = config.optimizer
  start = optimizer.learning_rate / 25
  return schedules.one_cycle(
    optimizer.learning_rate,
    config.train.num_steps,
    optimizer.one_cycle_warmup_fraction,
    start,
    start / 1e4,
  )


def _constant(config: ml_collections.ConfigDict) -> optax.Schedule:
  return optax.constant_schedule(config.optimizer.learning_rate)


def _keras_adam(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  optimizer = config.optimizer
  return scale_by_keras_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)


def _adam(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
  optimizer = config.optimizer
  if not optimizer.one_cycle_momentum:
    return optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)
  # The momentum goes down while the rate goes up. Each step corrects the bias
  # with its own b1, as PyTorch does.
  b1 = schedules.one_cycle(
    0.85,
    config.train.num_steps,
    optimizer.one_cycle_warmup_fraction,
    0.95,
    0.95,
  )
  return optax.inject_hyperparams(optax.scale_by_adam)(
    b1=b1, b2=optimizer.b2, eps=optimizer.epsilon
  )


def _adamw(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
  return optax.chain(
    _adam(config), optax.add_decayed_weights(config.optimizer.weight_decay)
  )


SCHEDULES = {
  "warmup_exponential": _warmup_exponential,
  "warmup_then_decay": _warmup_then_decay,
  "one_cycle": _one_cycle,
  "constant": _constant,
}
OPTIMIZERS = {"keras_adam": _keras_adam, "adam": _adam, "adamw": _adamw}
