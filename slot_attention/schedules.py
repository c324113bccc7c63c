"""Learning-rate schedules of the three papers.

All are functions of the 0-based step and return float32.
"""

import jax.numpy as jnp
import optax


def warmup_exponential_decay(
  learning_rate: float,
  warmup_steps: int,
  decay_rate: float,
  decay_steps: int,
  warmup_start: int = 0,
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
    warmup_start: what the warm-up counts step 0 as; 1 in SLATE's code.

  Returns:
    A function from the 0-based step to the float32 rate.
  """

  def schedule(step: int) -> jnp.ndarray:
    step = jnp.asarray(step, jnp.float32)
    warmed = step + warmup_start
    warmup = jnp.where(
      warmed < warmup_steps, warmed / jnp.float32(max(warmup_steps, 1)), 1.0
    )
    decay = jnp.float32(decay_rate) ** (step / jnp.float32(decay_steps))
    return jnp.float32(learning_rate) * warmup * decay

  return schedule


def warmup_then_decay(
  learning_rate: float,
  warmup_steps: int,
  decay_rate: float,
  decay_steps: int,
  start_factor: float,
) -> optax.Schedule:
  """Linear warm-up, and exponential decay from its end on (paper C's code).

  Args:
    learning_rate: the highest rate, reached at `warmup_steps`.
    warmup_steps: see above.
    decay_rate: factor per `decay_steps`, applied continuously.
    decay_steps: see `decay_rate`.
    start_factor: the rate of step 0 over `learning_rate`.

  Returns:
    A function from the 0-based step to the float32 rate.
  """

  def schedule(step: int) -> jnp.ndarray:
    step = jnp.asarray(step, jnp.float32)
    # optax' own loses the first steps' digits: it adds them to the highest.
    progress = step / jnp.float32(max(warmup_steps, 1))
    warmup = start_factor + jnp.float32(1.0 - start_factor) * progress
    passed = (step - warmup_steps) / jnp.float32(decay_steps)
    factor = jnp.where(
      step < warmup_steps, warmup, jnp.float32(decay_rate) ** passed
    )
    return jnp.float32(learning_rate) * factor

  return schedule


def one_cycle(
  high: float,
  num_steps: int,
  warmup_fraction: float,
  start: float,
  end: float,
) -> optax.Schedule:
  """Half a cosine from `start` to `high` and one to `end` (paper B).

  This is PyTorch's OneCycleLR: the warm-up ends one step before
  `warmup_fraction * num_steps`, and the last step has the last value.
  `optax.cosine_onecycle_schedule` is one step behind.

  Args:
    high: value where the warm-up ends.
    num_steps: of the run; the last value stays after them.
    warmup_fraction: share of the steps.
    start: value of step 0.
    end: value of step num_steps - 1.

  Returns:
    A function from the 0-based step to the float32 value.
  """
  # A cycle shorter than its warm-up's step or two has no first half.
  top = max(warmup_fraction * num_steps - 1.0, 0.0)
  last = max(num_steps - 1.0, top + 1.0)

  def schedule(step: int) -> jnp.ndarray:
    step = jnp.asarray(step, jnp.float32)
    up = _cosine(start, high, step / jnp.float32(max(top, 1e-6)))
    down = _cosine(high, end, (step - top) / jnp.float32(last - top))
    return jnp.where(step <= top, up, down)

  return schedule


def cosine(start: float, end: float, num_steps: int) -> optax.Schedule:
  """Half a cosine, and `end` from there on: SLATE's Gumbel temperature.

  Args:
    start: value of step 0.
    end: value from step num_steps on.
    num_steps: see above.

  Returns:
    A function from the 0-based step to the float32 value.
  """

  def schedule(step: int) -> jnp.ndarray:
    progress = jnp.asarray(step, jnp.float32) / jnp.float32(max(num_steps, 1))
    return _cosine(start, end, progress)

  return schedule


def _cosine(start: float, end: float, progress: jnp.ndarray) -> jnp.ndarray:
  """Goes from start to end while progress goes from 0 to 1."""
  progress = jnp.clip(progress, 0.0, 1.0)
  return end + (start - end) * (1.0 + jnp.cos(jnp.pi * progress)) / 2.0
