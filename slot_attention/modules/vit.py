"""The vision transformer whose features DINOSAUR explains (Dosovitskiy et al.).

The layout is that of timm and of DINO's published files: pre-norm blocks, a
class token, learned positions, no layer scale, exact GELU.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import mlp

EPSILON = 1e-6  # Of every LayerNorm here.
_MLP_FACTOR = 4


class VisionTransformer(nn.Module):
  """Turns images into tokens.

  Attributes:
    image_size: height and width of the images.
    patch_size: height and width p of a patch; divides the image size.
    width: c of a token.
    depth: number of blocks.
    num_heads: attention heads; divides the width.
    final_norm: whether the last LayerNorm is applied to the result. It has
      parameters either way, as the published files have.
    dtype: type of matrix products; softmax, LayerNorm and what the blocks add
      to are float32.
  """

  image_size: int = 224
  patch_size: int = 8
  width: int = 768
  depth: int = 12
  num_heads: int = 12
  final_norm: bool = True
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Applies the transformer.

    Args:
      images: [b, s, s, 3] float, normalised; s is the image size.

    Returns:
      [b, 1 + n, c] float32: the class token, then the n patches row by row.

    Raises:
      ValueError: the images have another size.
    """
    size = self.image_size
    if images.shape[1:] != (size, size, 3):
      raise ValueError(
        f"Images have shape {images.shape}; this vision transformer takes "
        f"[batch, {size}, {size}, 3]: resize them first."
      )
    x = self._embed(images)
    for i in range(self.depth):
      x = Block(self.num_heads, self.dtype, name=f"block_{i}")(x)
    normed = mlp.layer_norm("norm", EPSILON)(x)
    return normed if self.final_norm else x

  def _embed(self, images: jax.Array) -> jax.Array:
    """[b, s, s, 3] -> [b, 1 + n, c] float32."""
    patches = nn.Conv(
      self.width,
      (self.patch_size, self.patch_size),
      strides=self.patch_size,
      padding="VALID",
      dtype=self.dtype,
      name="patch_embedding",
    )(images)
    b, *grid, c = patches.shape
    patches = patches.reshape(b, -1, c).astype(jnp.float32)  # [b, n, c]
    init = nn.initializers.truncated_normal(0.02)
    token = self.param("class_token", init, (1, 1, c))
    tokens = [jnp.broadcast_to(token, (b, 1, c)), patches]
    positions = self.param(
      "position_embedding", init, (1, 1 + grid[0] * grid[1], c)
    )
    # jnp: some tests forbid that axes of length 1 grow silently.
    x = jnp.concatenate(tokens, axis=1)
    return x + jnp.broadcast_to(positions, x.shape)


class Block(nn.Module):
  """Self-attention and an MLP, each after a LayerNorm, with residuals.

  Attributes:
    num_heads: attention heads.
    dtype: type of matrix products.
  """

  num_heads: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[b, n, c] -> [b, n, c] float32."""
    b, n, c = x.shape
    y = nn.Dense(3 * c, dtype=self.dtype, name="qkv")(
      mlp.layer_norm("norm_1", EPSILON)(x)
    )
    # [b, n, 3 c] -> [b, n, 3, heads, c / heads]
    y = y.reshape(b, n, 3, self.num_heads, c // self.num_heads)
    # Scales by the root of the heads' width; its softmax is float32.
    y = jax.nn.dot_product_attention(y[:, :, 0], y[:, :, 1], y[:, :, 2])
    # [b, n, heads, c / heads] -> [b, n, c]
    y = nn.Dense(c, dtype=self.dtype, name="projection")(y.reshape(b, n, c))
    x = x + y.astype(jnp.float32)
    y = mlp.layer_norm("norm_2", EPSILON)(x)
    y = nn.Dense(_MLP_FACTOR * c, dtype=self.dtype, name="dense_0")(y)
    # The error function, not the usual approximation, in float32.
    y = nn.gelu(y.astype(jnp.float32), approximate=False)
    y = nn.Dense(c, dtype=self.dtype, name="dense_1")(y)
    return x + y.astype(jnp.float32)
