"""Generation of tokens, one after the other, in one compiled loop."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from slot_attention.modules import transformer

# state, previous tokens [b], position [] -> logits [b, v], state.
NextLogits = Callable[[Any, jax.Array, jax.Array], tuple[jax.Array, Any]]


def generate(
  next_logits: NextLogits,
  state: Any,
  batch_size: int,
  num_tokens: int,
  key: jax.Array | None = None,
  temperature: float = 1.0,
) -> jax.Array:
  """Generates sequences.

  Args:
    next_logits: a step of the model, such as one with a cache.
    state: what the first step starts from; keeps its shapes.
    batch_size: b.
    num_tokens: n.
    key: of the random choices; None takes the most probable token each time.
    temperature: what logits are divided by before a random choice.

  Returns:
    [b, n] int32.
  """

  def step(
    carry: tuple[Any, jax.Array], position: jax.Array
  ) -> tuple[tuple[Any, jax.Array], jax.Array]:
    state, previous = carry
    logits, state = next_logits(state, previous, position)
    if key is None:
      tokens = jnp.argmax(logits, axis=-1)
    else:
      step_key = jax.random.fold_in(key, position)
      tokens = jax.random.categorical(step_key, logits / temperature)
    tokens = tokens.astype(jnp.int32)
    return (state, tokens), tokens

  first = jnp.full((batch_size,), transformer.BEGIN, jnp.int32)
  _, tokens = jax.lax.scan(step, (state, first), jnp.arange(num_tokens))
  return tokens.T  # [n, b] -> [b, n]
