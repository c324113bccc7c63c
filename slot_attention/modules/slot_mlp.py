"""The Slot MLP baseline (paper A, appendix E.5)."""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers
from slot_attention.modules import slot_attention


class SlotMLP(nn.Module):
  """Predicts all slots, in a fixed order, from the whole feature map at once.

  The map is resized, flattened, and taken through an MLP with ReLU to the slots
  one after another. There is no competition, no symmetry among slots, and their
  number belongs to the parameters.

  Attributes:
    grid: (h, w) of the inputs, which come flattened.
    num_slots: k, the only number of slots.
    slot_size: width d of a slot.
    hidden_sizes: of the MLP.
    resolution: what the map is resized to, (16, 16) in the paper.
    dtype: type of the matrix products; slots are float32.
  """

  grid: Sequence[int]
  num_slots: int
  slot_size: int = 64
  hidden_sizes: Sequence[int] = (512, 512)
  resolution: Sequence[int] = (16, 16)
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    inputs: jax.Array,
    slots: jax.Array,
    num_iterations: int | None = None,
    train: bool = False,
  ) -> slot_attention.SlotOutput:
    """Predicts slots.

    Args:
      inputs: [b, n, c] input features, n = h * w of the grid.
      slots: [b, k, d]; what they hold is not used.
      num_iterations: None or 1, since nothing is iterated.
      train: not used.

    Returns:
      SlotOutput with t = 1. Its attention is 1 / k everywhere.

    Raises:
      ValueError: another number of slots or of iterations is asked for.
    """
    b, n, c = inputs.shape
    k = slots.shape[1]
    if k != self.num_slots or num_iterations not in (None, 1):
      raise ValueError(
        f"{k} slots and {num_iterations} iterations were asked for, but "
        f"slot_mlp has {self.num_slots} slots, in its parameters, and no "
        "iterations; use those it was trained with, or another slot_module."
      )
    x = inputs.reshape(b, *self.grid, c)  # [b, n, c] -> [b, h, w, c]
    x = jax.image.resize(x, (b, *self.resolution, c), "bilinear")
    x = x.reshape(b, -1)  # [b, 16, 16, c] -> [b, 256 * c]
    for i, size in enumerate(self.hidden_sizes):
      x = nn.relu(self._dense(size, f"dense_{i}")(x))
    x = self._dense(k * self.slot_size, f"dense_{len(self.hidden_sizes)}")(x)
    # [b, k * d] -> [b, k, d]
    slots = x.reshape(b, k, self.slot_size).astype(jnp.float32)
    attention = jnp.full((b, 1, k, n), 1.0 / k)
    return slot_attention.SlotOutput(slots, attention, slots[:, None])

  def _dense(self, features: int, name: str) -> nn.Dense:
    return nn.Dense(
      features,
      kernel_init=initializers.kernel_init,
      dtype=self.dtype,
      name=name,
    )
