"""The gradient of a convolution with respect to its kernel, on CPUs.

Entry (i, j) of the kernel gets the sum over all pixels of the inputs that it
meets there times the gradient of the result.
"""

import itertools
import math

import jax
import jax.numpy as jnp

from slot_attention.modules import shards
from slot_attention.modules import value_rows
from slot_attention.modules import winograd

# Without stride, `_by_planes` is taken from so many channels to so few, where a
# convolution took 18 to 34 times as long (5x5 kernels from 32 or 64 to 4).
_FEW_OUTPUTS, _MANY_INPUTS = 4, 32
# Of one product of `_by_planes`, whose factors must stay in the cache.
_PRODUCT_PIXELS = 1024
# `_by_bands` is taken for inputs of `value_rows.WIDE` and as many outputs as
# there: 5x5, 64 channels, from 128 pixels a row to 64, it took 0.8 of the time
# of `_by_images`; from 32 pixels to 16 as long; to 16 channels 5 times as long.
# Of a band's inputs and cotangent: of 128 pixels a row and 64 channels, bands
# of 0.8 MB took 0.93 of the time of bands of 1.4 MB, and 0.92 of 0.4 MB.
_BAND_BYTES = 800_000
_MOST_BANDS = 8  # Each is an operation of its own to compile.
# Of a row of all images that `_by_images` convolves at once: of 8 pixels a row,
# in sevens 2.2 ms, one by one 3.5. With 16 channels all at once are fastest.
_ROW_PIXELS = 64
_PORTIONED_CHANNELS = 32


def compute(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  stride: int,
  padding: value_rows.Padding,
) -> jax.Array:
  """Computes the gradient.

  Args:
    inputs: [b, h, w, in], of the convolution.
    cotangent: [b, h', w', out], the gradient of its result.
    kernel_size: (kh, kw).
    stride: of the convolution.
    padding: of the convolution, for rows and columns.

  Returns:
    [kh, kw, in, out] float32, or of the inputs' type where that is wider.
  """

  def of_some(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
    return _compute(inputs, cotangent, kernel_size, stride, padding)[None]

  # One gradient for each device, [devices, kh, kw, in, out].
  gradients = shards.on_each(of_some, len(inputs))(inputs, cotangent)
  return jnp.sum(gradients, axis=0)


def _compute(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  stride: int,
  padding: value_rows.Padding,
) -> jax.Array:
  """Computes the gradient for the images of one device."""
  channels, features = inputs.shape[3], cotangent.shape[3]
  if stride == 1 and features <= _FEW_OUTPUTS and channels >= _MANY_INPUTS:
    return _by_planes(inputs, cotangent, kernel_size, padding)
  # As far as the last window reaches, which may leave inputs out.
  padding = tuple(
    (before, (there - 1) * stride + size - before - length)
    for size, length, there, (before, _) in zip(
      kernel_size, inputs.shape[1:3], cotangent.shape[1:3], padding, strict=True
    )
  )
  inputs, padding = value_rows.cut(inputs, padding)
  if winograd.faster(
    jnp.promote_types(inputs.dtype, cotangent.dtype),
    (*kernel_size, channels, features),
    stride,
    cotangent.shape[1],
  ):
    return winograd.kernel_gradient(
      inputs, cotangent, kernel_size, stride, padding
    )
  width = inputs.shape[2]
  if value_rows.faster(width, channels, features, stride):
    # Before the loop, as in the forward pass, or XLA computes them twice.
    inputs = value_rows.flatten(inputs)
  elif width < value_rows.WIDE or features < value_rows.MANY_OUTPUTS:
    return _by_images(inputs, cotangent, kernel_size, stride, padding)
  return _by_bands(inputs, cotangent, channels, kernel_size, stride, padding)


def _by_bands(
  inputs: jax.Array,
  cotangent: jax.Array,
  channels: int,
  kernel_size: tuple[int, int],
  stride: int,
  padding: value_rows.Padding,
) -> jax.Array:
  """Convolves rows of inputs with rows of the cotangent, in the cache.

  As rows of values, of which the result's are kw * in wide, so that nothing is
  transposed. The inputs may be flat already.
  """
  kh, kw = kernel_size
  b, height = inputs.shape[:2]
  _, rows, columns, features = cotangent.shape
  (top, _), sides = padding
  dtype = jnp.promote_types(inputs.dtype, jnp.float32)
  input_row = math.prod(inputs.shape[2:])
  most = _BAND_BYTES // inputs.dtype.itemsize - (kh - stride) * input_row
  row = stride * input_row + columns * features
  bands = min(_MOST_BANDS, -(-rows // max(1, most // row)))
  edges = [rows * n // bands for n in range(bands + 1)]

  def of_band(image: jax.Array, first: int, end: int) -> jax.Array:
    """Returns [1, kh, kw * in, out], or 0, for rows of the cotangent."""
    above, below = first * stride - top, (end - 1) * stride - top + kh
    start, stop = max(above, 0), min(below, height)
    if start >= stop:  # They met nothing but padding.
      return jnp.zeros((), dtype)
    some_inputs = jax.lax.dynamic_slice(
      inputs, (image, start, 0, 0), (1, stop - start, *inputs.shape[2:])
    )
    some_cotangent = jax.lax.dynamic_slice(
      cotangent, (image, first, 0, 0), (1, end - first, columns, features)
    )
    return value_rows.convolve(
      some_inputs,
      some_cotangent.transpose(1, 2, 0, 3),  # [rows, w', 1, out]
      channels,
      strides=(1, 1),
      dilation=(stride, stride * channels),
      padding=((start - above, below - stop), sides),
      dtype=dtype,
    )

  def of_image(total: jax.Array, image: jax.Array) -> tuple[jax.Array, None]:
    for first, end in itertools.pairwise(edges):
      total += of_band(image, first, end)
    return total, None

  total, _ = jax.lax.scan(
    of_image, jnp.zeros((1, kh, kw * channels, features), dtype), jnp.arange(b)
  )
  return total.reshape(kh, kw, channels, features)


def _by_images(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  stride: int,
  padding: value_rows.Padding,
) -> jax.Array:
  """Convolves the inputs with the cotangent: channels are the batch."""
  dtype = jnp.promote_types(inputs.dtype, jnp.float32)
  b, _, w, features = cotangent.shape
  channels = inputs.shape[3]
  portioned = max(channels, features) >= _PORTIONED_CHANNELS
  images = shards.portion(b, _ROW_PIXELS // w) if portioned else b

  def of_some(some_inputs: jax.Array, some_cotangent: jax.Array) -> jax.Array:
    # The order of axes that XLA's CPU backend is fast at. It transposes others
    # by itself, but not within loops, where they took 15 times as long.
    return jax.lax.conv_general_dilated(
      some_inputs.transpose(3, 1, 2, 0),  # [in, h, w, n]
      some_cotangent.transpose(1, 2, 0, 3),  # [h', w', n, out]
      window_strides=(1, 1),
      padding=padding,
      rhs_dilation=(stride, stride),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      preferred_element_type=dtype,
    )

  total = shards.sum_of_portions(
    of_some,
    jnp.zeros((channels, *kernel_size, features), dtype),
    inputs,
    cotangent,
    images,
  )
  return total.transpose(1, 2, 0, 3)  # [in, kh, kw, out] -> [kh, kw, in, out]


def _by_planes(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  padding: value_rows.Padding,
) -> jax.Array:
  """Multiplies the inputs with all shifts of a cotangent of few channels.

  Some rows at a time, so that the factors of a product stay in the cache.
  """
  kh, kw = kernel_size
  b, h, w, channels = inputs.shape
  features = cotangent.shape[3]
  rows = shards.portion(h, _PRODUCT_PIXELS // w)
  bands = h // rows
  dtype = jnp.promote_types(inputs.dtype, jnp.float32)
  # Moving the inputs one way is moving the cotangent the other way.
  room = [
    (size - 1 - before, size - 1 - after)
    for size, (before, after) in zip(kernel_size, padding, strict=True)
  ]
  # Rows of a plane are contiguous, so that shifts are cheap.
  planes = value_rows.pad(cotangent, room).transpose(0, 3, 1, 2).astype(dtype)

  def product(index: jax.Array) -> jax.Array:
    image, row = index // bands, index % bands * rows
    x = jax.lax.dynamic_slice(
      inputs, (image, row, 0, 0), (1, rows, w, channels)
    )
    y = jax.lax.dynamic_slice(
      planes, (image, 0, row, 0), (1, features, rows + kh - 1, w + kw - 1)
    )[0]
    shifts = [
      y[:, i : i + rows, j : j + w] for i in range(kh) for j in range(kw)
    ]
    # [kh * kw * out, rows * w], [rows * w, in] -> [kh * kw * out, in]
    return jnp.matmul(
      jnp.concatenate(shifts).reshape(-1, rows * w),
      x.reshape(rows * w, channels).astype(dtype),
    )

  total, _ = jax.lax.scan(
    lambda total, index: (total + product(index), None),
    jnp.zeros((kh * kw * features, channels), dtype),
    jnp.arange(b * bands),
  )
  gradient = total.reshape(kh, kw, features, channels)
  return jnp.flip(gradient, (0, 1)).swapaxes(2, 3)
