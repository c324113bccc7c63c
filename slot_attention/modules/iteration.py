"""The loop and the weighing that all iterative slot modules share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# state -> next state, attention [b, k, n], slots [b, k, d].
Step = Callable[[Any], tuple[Any, jax.Array, jax.Array]]


def refine(
  step: Step,
  state: Any,
  num_iterations: int,
  detach: Callable[[Any], Any] | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Applies a step several times.

  Args:
    step: one iteration.
    state: what the first step starts from.
    num_iterations: t >= 1.
    detach: applied to the state before the last iteration, if given.

  Returns:
    Attention [b, t, k, n] and slots [b, t, k, d] of every iteration.

  Raises:
    ValueError: fewer than one iteration is asked for.
  """
  if num_iterations < 1:
    raise ValueError(
      f"num_iterations is {num_iterations}; a slot module needs at least 1."
    )
  attention_per_iteration, slots_per_iteration = [], []
  for i in range(num_iterations):
    if detach is not None and i == num_iterations - 1:
      state = detach(state)
    state, attention, slots = step(state)
    attention_per_iteration.append(attention)
    slots_per_iteration.append(slots)
  return (
    jnp.stack(attention_per_iteration, axis=1),
    jnp.stack(slots_per_iteration, axis=1),
  )


def weigh(
  weights: jax.Array, values: jax.Array, dtype: jnp.dtype = jnp.float32
) -> jax.Array:
  """Computes sum_n w v: updates, or means if weights sum to one over n.

  Args:
    weights: [b, k, n].
    values: [b, n, d].
    dtype: type of the factors; sums are float32.

  Returns:
    [b, k, d] float32.
  """
  return jnp.einsum(
    "bkn,bnd->bkd",
    weights.astype(dtype),
    values.astype(dtype),
    preferred_element_type=jnp.float32,
  )
