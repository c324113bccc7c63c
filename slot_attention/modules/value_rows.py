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


def convolve(
  values: jax.Array,
  kernel: jax.Array,
  strides: tuple[int, int],
  dilation: tuple[int, int],
  padding: Padding,
  dtype: jnp.dtype | None = None,
) -> jax.Array:
  """Convolves; everything counts rows, and values instead of pixels.

  Args:
    values: [b, h, n, 1], of `flatten`.
    kernel: [kh, kn, 1, out].
    strides: of the window.
    dilation: of the kernel.
    padding: of the values with zeros.
    dtype: of sums and result; None for that of the values.

  Returns:
    [b, h', n', out].
  """
  return jax.lax.conv_general_dilated(
    values,
    kernel,
    window_strides=strides,
    padding=padding,
    rhs_dilation=dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    preferred_element_type=dtype,
  )


def scale(sides: tuple[int, int], channels: int) -> tuple[int, int]:
  """Turns padding of so many pixels into that of values."""
  return sides[0] * channels, sides[1] * channels
