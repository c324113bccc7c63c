"""Learning-rate schedules."""

import jax.numpy as jnp
import optax


def warmup_exponential_decay(
  learning_rate: float, warmup_steps: int, decay_rate: float, decay_steps: int
) -> optax.Schedule:
  """Linear warm-up times exponential decay, both counted from step 0.

  This is the 2020 code's schedule. `optax.warmup_exponential_decay_schedule`
  starts to decay only where the warm-up ends, so its rates differ everywhere.

  Args:
    learning_rate: base rate.
    warmup_steps: steps until the warm-up factor is 1; step 0 has rate 0 unless
      this is 0.
    decay_rate: factor per `decay_steps`, applied continuously.
    decay_steps: see `decay_rate`.

  Returns:
    A function from the 0-based step to the float32 rate.
  """

  def schedule(step: int) -> jnp.ndarray:
    step = jnp.asarray(step, jnp.float32)
    warmup = jnp.where(
      step < warmup_steps, step / jnp.float32(max(warmup_steps, 1)), 1.0
    )
    decay = jnp.float32(decay_rate) ** (step / jnp.float32(decay_steps))
    return jnp.float32(learning_rate) * warmup * decay

  return schedule
