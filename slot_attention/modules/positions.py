"""Position embeddings."""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers


def build_grid(resolution: Sequence[int]) -> jax.Array:
  """Builds the soft position grid (paper A, appendix E.2).

  Args:
    resolution: (h, w).

  Returns:
    [h, w, 4] float32 in [0, 1]: y, x, 1 - y, 1 - x, both ends included.
  """
  y, x = (jnp.linspace(0.0, 1.0, size) for size in resolution)
  grid = jnp.stack(jnp.meshgrid(y, x, indexing="ij"), axis=-1)  # [h, w, 2]
  return jnp.concatenate([grid, 1.0 - grid], axis=-1)


class SoftPositionEmbed(nn.Module):
  """Adds a learned projection of the position grid, at any resolution.

  Attributes:
    dtype: type of the result.
  """

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Adds the embedding to feature maps.

    Args:
      inputs: [b, h, w, c].

    Returns:
      [b, h, w, c].
    """
    features = inputs.shape[-1]
    grid = build_grid(inputs.shape[1:3])
    # Four inputs: the product is tiny, so it stays in float32.
    embedding = nn.Dense(
      features, kernel_init=initializers.kernel_init, name="dense"
    )(grid)
    embedding = embedding[None].astype(self.dtype)  # [1, h, w, c]
    return inputs + jnp.broadcast_to(embedding, inputs.shape)
