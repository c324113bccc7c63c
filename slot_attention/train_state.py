"""What a training step reads and writes."""

from typing import Any

from flax import struct
import jax
import optax

# Streams get fixed numbers, so that a new one leaves the others as they were.
RNG_STREAMS = {"slots": 0, "gumbel": 1, "dropout": 2}

# A collection of variables that come from a file, are never trained, and stand
# in no checkpoint.
FROZEN = "frozen"


class TrainState(struct.PyTreeNode):
  """The whole state of a run; everything else follows from config and step.

  Attributes:
    step: [] int32, updates done.
    params: learned parameters.
    model_state: other variable collections, such as running statistics.
    opt_state: of the optax optimizer.
  """

  step: jax.Array
  params: Any
  model_state: Any
  opt_state: optax.OptState


def step_rngs(seed: int, step: jax.Array) -> dict[str, jax.Array]:
  """Returns the random streams of one step, a function of seed and step only.

  Neither device nor host is folded in: the same seed gives the same run on any
  number of them.
  """
  key = jax.random.fold_in(jax.random.key(seed), step)
  return {
    name: jax.random.fold_in(key, number)
    for name, number in RNG_STREAMS.items()
  }
