"""The gradient of a convolution with respect to its kernel, on CPUs.

Entry (i, j) of the kernel gets the sum over all pixels of the inputs that it
meets there times the gradient of the result.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from slot_attention.modules import shards

Padding = Sequence[tuple[int, int]]

# Without stride, `_by_planes` is taken from so many channels to so few, where a
# convolution took 18 to 34 times as long (5x5 kernels from 32 or 64 to 4).
_FEW_OUTPUTS, _MANY_INPUTS = 4, 32
# Of one product of `_by_planes`, whose factors must stay in the cache.
_PRODUCT_PIXELS = 1024
# Of a row of all images convolved at once: 14 images of 128 pixels a row took
# 857 ms, in twos 282, one by one 276 (5x5, 64 channels); of 8 pixels a row, in
# sevens 2.2 ms, one by one 3.5. With 16 channels all at once are the fastest.
_ROW_PIXELS = 64
_PORTIONED_CHANNELS = 32


def compute(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  stride: int,
  padding: Padding,
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


def pad(images: jax.Array, padding: Padding) -> jax.Array:
  """Adds zeros around [b, h, w, c], or cuts what is negative."""
  edges = [(0, 0, 0), *((*sides, 0) for sides in padding), (0, 0, 0)]
  return jax.lax.pad(images, jnp.zeros((), images.dtype), edges)


def _compute(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  stride: int,
  padding: Padding,
) -> jax.Array:
  """Computes the gradient for the images of one device."""
  channels, features = inputs.shape[3], cotangent.shape[3]
  if stride == 1 and features <= _FEW_OUTPUTS and channels >= _MANY_INPUTS:
    return _by_planes(inputs, cotangent, kernel_size, padding)
  return _by_convolution(inputs, cotangent, kernel_size, stride, padding)


def _by_convolution(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  stride: int,
  padding: Padding,
) -> jax.Array:
  """Convolves the inputs with the cotangent: channels are the batch."""
  # As far as the last window reaches, which may leave inputs out.
  padding = tuple(
    (before, (there - 1) * stride + size - before - length)
    for size, length, there, (before, _) in zip(
      kernel_size, inputs.shape[1:3], cotangent.shape[1:3], padding, strict=True
    )
  )
  if min(map(min, padding)) < 0:
    inputs, padding = pad(inputs, padding), ((0, 0), (0, 0))
  dtype = jnp.promote_types(inputs.dtype, jnp.float32)

  b, _, w, features = cotangent.shape
  channels = inputs.shape[3]
  portioned = max(channels, features) >= _PORTIONED_CHANNELS
  images = _portion(b, _ROW_PIXELS // w) if portioned else b

  def of_some(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
    # Not arrays to scan over: reshaped in portions, they are computed again.
    some_inputs, some_cotangent = (
      jax.lax.dynamic_slice_in_dim(x, first, images)
      for x in (inputs, cotangent)
    )
    # The order of axes that XLA's CPU backend is fast at. It transposes others
    # by itself, but not within loops, where they took 15 times as long.
    gradient = jax.lax.conv_general_dilated(
      some_inputs.transpose(3, 1, 2, 0),  # [in, h, w, n]
      some_cotangent.transpose(1, 2, 0, 3),  # [h', w', n, out]
      window_strides=(1, 1),
      padding=padding,
      rhs_dilation=(stride, stride),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      preferred_element_type=dtype,
    )
    return total + gradient, None

  total, _ = jax.lax.scan(
    of_some,
    jnp.zeros((channels, *kernel_size, features), dtype),
    jnp.arange(0, b, images),
  )
  return total.transpose(1, 2, 0, 3)  # [in, kh, kw, out] -> [kh, kw, in, out]


def _portion(total: int, most: int) -> int:
  """Returns the largest divisor of a number up to `most`, or 1."""
  return max(n for n in range(1, max(1, min(total, most)) + 1) if not total % n)


def _by_planes(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  padding: Padding,
) -> jax.Array:
  """Multiplies the inputs with all shifts of a cotangent of few channels.

  Some rows at a time, so that the factors of a product stay in the cache.
  """
  kh, kw = kernel_size
  b, h, w, channels = inputs.shape
  features = cotangent.shape[3]
  rows = _portion(h, _PRODUCT_PIXELS // w)
  bands = h // rows
  dtype = jnp.promote_types(inputs.dtype, jnp.float32)
  # Moving the inputs one way is moving the cotangent the other way.
  room = [
    (size - 1 - before, size - 1 - after)
    for size, (before, after) in zip(kernel_size, padding, strict=True)
  ]
  # Rows of a plane are contiguous, so that shifts are cheap.
  planes = pad(cotangent, room).transpose(0, 3, 1, 2).astype(dtype)

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
