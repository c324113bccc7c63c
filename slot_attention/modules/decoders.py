"""Decoders: from slots to images and masks."""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers
from slot_attention.modules import positions


class SpatialBroadcastDecoder(nn.Module):
  """Decodes each slot on its own from a broadcast grid (appendix E.3).

  Strided transposed 5x5 convolutions with ReLU, then a 3x3 one to four
  channels: RGB and the logit of the slot's mask. RGB has no output activation.
  Kernels are stored as [kh, kw, out, in], as in Keras, and padding is its SAME.

  Attributes:
    broadcast_resolution: (h0, w0) of the grid to which slots are broadcast.
    channels: output channels of each 5x5 layer.
    strides: stride of each; the image is h0, w0 times their product.
    dtype: type of the convolutions.
  """

  broadcast_resolution: Sequence[int] = (8, 8)
  channels: Sequence[int] = (64, 64, 64, 64, 64)
  strides: Sequence[int] = (2, 2, 2, 2, 1)
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, slots: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decodes slots.

    Args:
      slots: [b, k, d].

    Returns:
      RGB [b, k, h, w, 3] and mask logits [b, k, h, w], both float32.
    """
    b, k, d = slots.shape
    # [b, k, d] -> [b * k, 1, 1, d] -> [b * k, h0, w0, d]
    x = slots.reshape(b * k, 1, 1, d).astype(self.dtype)
    x = jnp.broadcast_to(x, (b * k, *self.broadcast_resolution, d))
    x = positions.SoftPositionEmbed(self.dtype, name="decoder_pos")(x)
    layers = zip(self.channels, self.strides, strict=True)
    for i, (features, stride) in enumerate(layers):
      x = nn.relu(self._convolution(features, 5, stride, i)(x))
    x = self._convolution(4, 3, 1, len(self.channels))(x)
    # [b * k, h, w, 4] -> [b, k, h, w, 4]
    x = x.reshape(b, k, *x.shape[1:]).astype(jnp.float32)
    return x[..., :3], x[..., 3]

  def _convolution(
    self, features: int, kernel_size: int, stride: int, number: int
  ) -> nn.ConvTranspose:
    return nn.ConvTranspose(
      features,
      (kernel_size, kernel_size),
      strides=(stride, stride),
      transpose_kernel=True,
      kernel_init=initializers.kernel_init,
      dtype=self.dtype,
      name=f"conv_transpose_{number}",
    )


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
