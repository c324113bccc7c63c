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
  """Returns the schedule of `config.optimizer`."""
  return schedules.warmup_exponential_decay(
    config.learning_rate,
    config.warmup_steps,
    config.decay_rate,
    config.decay_steps,
  )


def create_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """Returns the optimizer of `config.optimizer`."""
  return optax.chain(
    scale_by_keras_adam(config.b1, config.b2, config.epsilon),
    optax.scale_by_learning_rate(create_schedule(config)),
  )
