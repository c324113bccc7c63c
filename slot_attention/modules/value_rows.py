"""Convolutions over rows of values: w * c of one channel, not w pixels of c.

A window then moves by c values a pixel. On CPUs XLA takes values as they lie in
memory, which it would otherwise collect pixel by pixel, or transpose.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Padding = Sequence[tuple[int, int]]

# Inputs so wide, with a stride (5x5, stride 2, 64 channels, 128 pixels a row:
# 0.9 of the time that pixels take), or of fewer channels (3 to 32 channels, 35
# pixels a row: 0.2). To 4 outputs it took 6 times as long, otherwise as long.
WIDE, _FEW_INPUTS, MANY_OUTPUTS = 64, 8, 32


def faster(width: int, channels: int, features: int, stride: int) -> bool:
  """Returns whether a convolution of inputs so wide had better be of values."""
  suited = channels < _FEW_INPUTS or (stride > 1 and width >= WIDE)
  return suited and features >= MANY_OUTPUTS


def flatten(images: jax.Array) -> jax.Array:
  """[b, h, w, c] -> [b, h, w * c, 1]."""
  return images.reshape(*images.shape[:2], -1, 1)


def pad(images: jax.Array, padding: Padding) -> jax.Array:
  """Adds zeros around [b, h, w, c], or cuts what is negative."""
  edges = [(0, 0, 0), *((*sides, 0) for sides in padding), (0, 0, 0)]
  return jax.lax.pad(images, jnp.zeros((), images.dtype), edges)


def cut(images: jax.Array, padding: Padding) -> tuple[jax.Array, Padding]:
  """Pads at once where the padding cuts; returns what is left to be padded."""
  if min(map(min, padding)) < 0:
    return pad(images, padding), ((0, 0), (0, 0))
  return images, padding


def convolve(
  images: jax.Array,
  kernel: jax.Array,
  channels: int,
  strides: tuple[int, int],
  dilation: tuple[int, int],
  padding: Padding,
  dtype: jnp.dtype | None = None,
) -> jax.Array:
  """Convolves rows of values.

  Args:
    images: [b, h, w, c], flat or not.
    kernel: [kh, n, 1, out], n values wide.
    channels: c.
    strides: of the window, in rows and values.
    dilation: of the kernel, in rows and values.
    padding: of the images with zeros, in rows and pixels.
    dtype: of sums and result; None for that of the images.

  Returns:
    [b, h', n', out].
  """
  rows, (left, right) = padding
  return jax.lax.conv_general_dilated(
    flatten(images),
    kernel,
    window_strides=strides,
    padding=(rows, (left * channels, right * channels)),
    rhs_dilation=dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    preferred_element_type=dtype,
  )
