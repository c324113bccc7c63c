"""Decoders: from slots to images and masks."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import convolutions
from slot_attention.modules import positions
from slot_attention.modules import shards


class SpatialBroadcastDecoder(nn.Module):
  """Decodes each slot on its own from a broadcast grid (appendix E.3).

  Transposed 5x5 convolutions with ReLU, then a 3x3 one to four channels: RGB
  and the logit of the slot's mask. RGB has no output activation. With strides,
  slots are broadcast to a small grid (CLEVR); without, to the whole image
  (Table 6: Tetrominoes and Multi-dSprites). Kernels are [kh, kw, out, in].

  Attributes:
    broadcast_resolution: (h0, w0) of the grid to which slots are broadcast.
    channels: output channels of each 5x5 layer.
    strides: stride of each; the image is h0, w0 times their product.
    padding: alignment of strided layers, see `convolutions`.
    dtype: type of the convolutions.
    remat: draw the slots one by one, and again in the backward pass: memory no
      longer grows with the number of slots.
  """

  broadcast_resolution: Sequence[int] = (8, 8)
  channels: Sequence[int] = (64, 64, 64, 64, 64)
  strides: Sequence[int] = (2, 2, 2, 2, 1)
  padding: str = "same"
  dtype: jnp.dtype = jnp.float32
  remat: bool = False

  @nn.compact
  def __call__(self, slots: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decodes slots.

    Args:
      slots: [b, k, d].

    Returns:
      RGB [b, k, h, w, 3] and mask logits [b, k, h, w], both float32.
    """
    if self.remat and not self.is_initializing():
      return _one_by_one(
        self.clone(remat=False, parent=None), self.variables["params"], slots
      )
    b, k, d = slots.shape
    vectors = slots.reshape(b * k, d)
    embedding = positions.SoftPositionEmbed(self.dtype, name="decoder_pos")
    plane = embedding(jnp.zeros((1, *self.broadcast_resolution, d), self.dtype))
    x = nn.relu(self._first_layer(vectors, plane[0]))
    for i in range(1, len(self.channels)):
      x = nn.relu(self._layer(self.channels[i], 5, self.strides[i], i)(x))
    x = self._layer(4, 3, 1, len(self.channels))(x)
    # [b * k, h, w, 4] -> [b, k, h, w, 4]
    x = x.reshape(b, k, *x.shape[1:]).astype(jnp.float32)
    return x[..., :3], x[..., 3]

  def _first_layer(self, vectors: jax.Array, plane: jax.Array) -> jax.Array:
    """[b * k, d], [h0, w0, d] -> [b * k, h1, w1, c]."""
    if self.strides[0] == 1:
      return convolutions.BroadcastConvTranspose(
        self.channels[0], 5, self.dtype, name="conv_transpose_0"
      )(vectors, plane)
    x = vectors[:, None, None].astype(self.dtype) + positions.over_batch(
      plane, len(vectors)
    )
    return self._layer(self.channels[0], 5, self.strides[0], 0)(x)

  def _layer(
    self, features: int, kernel_size: int, stride: int, number: int
  ) -> convolutions.ConvTranspose:
    return convolutions.ConvTranspose(
      features,
      kernel_size,
      stride,
      self.padding,
      self.dtype,
      name=f"conv_transpose_{number}",
    )


def _one_by_one(
  decoder: SpatialBroadcastDecoder, params: Any, slots: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Applies a decoder to [b, k, d] in the memory of one slot."""

  def draw_all(params: Any, slots: jax.Array) -> tuple[jax.Array, jax.Array]:
    @jax.checkpoint
    def draw(slot: jax.Array) -> tuple[jax.Array, jax.Array]:
      return decoder.apply({"params": params}, slot[:, None])

    # [k, b, d] -> [k, b, 1, ...]
    drawn = jax.lax.map(draw, jnp.moveaxis(slots, 1, 0))
    # [k, b, 1, ...] -> [b, k, ...]
    return jax.tree.map(lambda x: jnp.moveaxis(x[:, :, 0], 0, 1), drawn)

  return shards.on_each(draw_all, len(slots), num_whole=1)(params, slots)


def combine_slots(
  colors: jax.Array, mask_logits: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mixes the slots' pictures by their masks (paper A, section 2.2).

  Args:
    colors: [b, k, h, w, 3].
    mask_logits: [b, k, h, w].

  Returns:
    The reconstruction [b, h, w, 3] and the masks [b, k, h, w], which sum to one
    over k.
  """
  masks = nn.softmax(mask_logits.astype(jnp.float32), axis=1)
  return jnp.einsum("bkhw,bkhwc->bhwc", masks, colors), masks
