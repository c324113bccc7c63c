"""Convolutions of the encoders and decoders, in two alignments.

"same" is TensorFlow's and XLA's SAME, that of the 2020 code. "torch" pads both
sides alike, as PyTorch code does: strided layers then see the image one pixel
further up and left. Layers without stride are the same in both.
"""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.modules import convolution_ops
from slot_attention.modules import initializers
from slot_attention.modules import positions

PADDINGS = ("same", "torch")


def conv(
  features: int,
  kernel_size: int,
  stride: int,
  padding: str,
  dtype: jnp.dtype,
  name: str,
) -> nn.Conv:
  """Returns a convolution of square kernels.

  Args:
    features: output channels.
    kernel_size: odd side of the kernel.
    stride: rows and columns of the result are those of the input divided by it,
      rounded up.
    padding: "same" or "torch".
    dtype: type of the computation.
    name: of the submodule.

  Returns:
    The layer; its kernel is [kh, kw, in, out].
  """
  margin = kernel_size // 2
  return nn.Conv(
    features,
    (kernel_size, kernel_size),
    strides=(stride, stride),
    padding="SAME" if padding == "same" else margin,
    kernel_init=initializers.kernel_init,
    dtype=dtype,
    name=name,
    conv_general_dilated=_conv_general_dilated,
  )


def _conv_general_dilated(
  inputs: jax.Array,
  kernel: jax.Array,
  strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  **_: Any,
) -> jax.Array:
  """Stands in for JAX' function of this name, of which `conv` needs so much."""
  sides = (
    jax.lax.padtype_to_pads(
      inputs.shape[1:3], kernel.shape[:2], strides, padding
    )
    if isinstance(padding, str)
    else padding
  )
  return convolution_ops.convolve(
    inputs, kernel, strides[0], tuple(tuple(x) for x in sides)
  )


class ConvTranspose(nn.Module):
  """A transposed convolution, the gradient of `conv`.

  Its kernel is [kh, kw, out, in], as in Keras. Rows and columns of the result
  are those of the input times the stride.

  Attributes:
    features: output channels.
    kernel_size: odd side of the kernel, at least the stride.
    stride: see above.
    padding: "same", or "torch" for PyTorch's padding = kernel_size // 2 and
      output_padding = stride - 1.
    dtype: type of the computation.
  """

  features: int
  kernel_size: int
  stride: int
  padding: str = "same"
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps [b, h, w, in] to [b, h * stride, w * stride, features]."""
    size = self.kernel_size
    kernel = self.param(
      "kernel",
      initializers.kernel_init,
      (size, size, self.features, inputs.shape[-1]),
    )
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    # Of the convolution whose gradient this is.
    margin = size // 2
    before = margin if self.padding == "torch" else (size - self.stride) // 2
    sides = (before, size - self.stride - before)
    h, w = inputs.shape[1:3]
    result = convolution_ops.transpose(
      inputs.astype(self.dtype),
      kernel.astype(self.dtype),
      self.stride,
      (sides, sides),
      (h * self.stride, w * self.stride),
    )
    return result + bias.astype(self.dtype)[None, None, None]


class BroadcastConvTranspose(nn.Module):
  """A stride-1 `ConvTranspose` of vectors spread over a plane, plus a map.

  All pixels whose window lies within the plane see the same of a vector, so
  that its part of the result takes few values: one for the interior and one for
  each place near the border, 25 in all for a 5x5 kernel. The map's part is the
  same for all vectors. Both are exact, and so are the gradients; no plane of
  vectors is ever built.

  Attributes:
    features: output channels.
    kernel_size: odd side of the kernel.
    dtype: type of the computation.
  """

  features: int
  kernel_size: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, vectors: jax.Array, plane: jax.Array) -> jax.Array:
    """Convolves `vectors[:, None, None] + plane`.

    Args:
      vectors: [m, d].
      plane: [h, w, d].

    Returns:
      [m, h, w, features].
    """
    h, w, d = plane.shape
    size = self.kernel_size
    kernel = self.param(
      "kernel", initializers.kernel_init, (size, size, self.features, d)
    ).astype(self.dtype)
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    # Of the ordinary convolution that does the same: [kh, kw, d, features].
    kernel = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    sides = (size // 2, size // 2)
    (fixed,) = convolution_ops.convolve(
      plane[None].astype(self.dtype), kernel, 1, (sides, sides)
    )  # [h, w, features]
    fixed += bias.astype(self.dtype)[None, None]
    sums = jnp.einsum(
      "yi,xj,ijdf->yxdf",
      _window_cases(h, size).astype(self.dtype),
      _window_cases(w, size).astype(self.dtype),
      kernel,
    )  # Kernel entries that fall into the plane, summed, for each case.
    varying = jnp.einsum("md,yxdf->myxf", vectors.astype(self.dtype), sums)
    varying = _spread(_spread(varying, 1, h, size), 2, w, size)
    return varying + positions.over_batch(fixed, len(vectors))


def _window_cases(length: int, kernel_size: int) -> np.ndarray:
  """Returns which entries of a window lie on a line, [cases, kernel_size].

  There is a case for each place near the ends and one for those in between, or
  one for each place of a line that is too short for an interior.
  """
  margin = kernel_size // 2
  cases = min(length, kernel_size)
  places = np.arange(cases)
  # Of a longer line, the last cases are its last places.
  places = np.where(places > margin, places + length - cases, places)
  window = places[:, None] + np.arange(-margin, margin + 1)
  return (window >= 0) & (window < length)


def _spread(
  cases: jax.Array, axis: int, length: int, kernel_size: int
) -> jax.Array:
  """Repeats the middle one of the cases so that the axis has `length`."""
  if length <= kernel_size:
    return cases
  margin = kernel_size // 2
  first, middle, last = jnp.split(cases, [margin, margin + 1], axis)
  shape = list(middle.shape)
  shape[axis] = length - 2 * margin
  return jnp.concatenate([first, jnp.broadcast_to(middle, shape), last], axis)
