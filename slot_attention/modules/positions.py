"""Position embeddings."""

from collections.abc import Sequence
import functools

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
    return inputs + over_batch(embedding.astype(self.dtype), len(inputs))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def over_batch(plane: jax.Array, batch_size: int) -> jax.Array:
  """Repeats what all images share.

  Args:
    plane: [...].
    batch_size: b.

  Returns:
    [b, ...].
  """
  return jnp.broadcast_to(plane, (batch_size, *plane.shape))


def _forward(plane: jax.Array, batch_size: int) -> tuple[jax.Array, None]:
  return over_batch(plane, batch_size), None


def _backward(
  batch_size: int, residuals: None, cotangent: jax.Array
) -> tuple[jax.Array]:
  del residuals

  def multiply(cotangent: jax.Array) -> jax.Array:
    # XLA's CPU backend sums over the first axis at a fiftieth of this speed.
    ones = jnp.ones((batch_size,), cotangent.dtype)
    return jnp.einsum("b,b...->...", ones, cotangent, precision="highest")

  total = jax.lax.platform_dependent(
    cotangent, cpu=multiply, default=functools.partial(jnp.sum, axis=0)
  )
  return (total,)


over_batch.defvjp(_forward, _backward)
