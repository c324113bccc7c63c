"""The gradient of a stride-1 convolution with respect to its kernel, on CPUs.

Entry (i, j) of the kernel gets the sum over all pixels of inputs moved by i
rows and j columns times the gradient of the result.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from slot_attention.modules import shards

# Where both sides have so many channels, `_by_stacks` is taken. With 64 it took
# the busier of two cores 19 ms where XLA, which ran on one, took 33 (5x5, two
# images of 128x128), with 32 as long as XLA, and with 16 longer. On a machine
# with a single core XLA's is 10 to 15 % faster.
_STACK_CHANNELS = 64
# Of one product, whose factors (2 x 2.6 MB for 5x5 and 64 channels) must stay
# in the cache.
_STACK_PIXELS = 2048


def compute(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  padding: Sequence[tuple[int, int]],
) -> jax.Array:
  """Computes the gradient.

  Args:
    inputs: [b, h, w, in], of the convolution.
    cotangent: [b, h', w', out], the gradient of its result.
    kernel_size: (kh, kw).
    padding: of the convolution, for rows and columns.

  Returns:
    [kh, kw, in, out] of the inputs' type, or float32.
  """
  if min(inputs.shape[3], cotangent.shape[3]) < _STACK_CHANNELS:
    return _by_convolution(inputs, cotangent, padding)
  inputs = pad(inputs, padding)

  def of_some(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
    return _by_stacks(inputs, cotangent, kernel_size)[None]

  # One gradient for each device, [devices, kh, kw, in, out].
  gradients = shards.on_each(of_some, len(inputs))(inputs, cotangent)
  return jnp.sum(gradients, axis=0)


def pad(images: jax.Array, padding: Sequence[tuple[int, int]]) -> jax.Array:
  """Adds zeros around [b, h, w, c], or cuts what is negative."""
  edges = [(0, 0, 0), *((*sides, 0) for sides in padding), (0, 0, 0)]
  return jax.lax.pad(images, jnp.zeros((), images.dtype), edges)


def _by_convolution(
  inputs: jax.Array,
  cotangent: jax.Array,
  padding: Sequence[tuple[int, int]],
) -> jax.Array:
  """Convolves the inputs with the cotangent: channels are the batch."""
  if min(map(min, padding)) < 0:
    inputs, padding = pad(inputs, padding), ((0, 0), (0, 0))
  # The order of axes that XLA's CPU backend is fast at. It transposes others
  # by itself, but not within loops, where they took 15 times as long.
  result = jax.lax.conv_general_dilated(
    inputs.transpose(3, 1, 2, 0),  # [in, h, w, b]
    cotangent.transpose(1, 2, 0, 3),  # [h', w', b, out]
    window_strides=(1, 1),
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  return result.transpose(1, 2, 0, 3)  # [in, kh, kw, out] -> [kh, kw, in, out]


def _by_stacks(
  inputs: jax.Array, cotangent: jax.Array, kernel_size: tuple[int, int]
) -> jax.Array:
  """Multiplies all row shifts of the inputs with all column shifts of the rest.

  A product of matrices has both for a number of pixels, [pixels, kh * in] and
  [pixels, kw * out]; XLA divides it over the cores, not so the convolution.
  """
  kh, kw = kernel_size
  b, h, w, features = cotangent.shape
  channels, width = inputs.shape[3], w + kw - 1
  images, rows, bands = _portions(b, h, width)
  missing = bands * rows - h
  dtype = jnp.promote_types(inputs.dtype, jnp.float32)
  inputs = pad(inputs, ((0, missing), (0, 0)))
  cotangent = pad(cotangent, ((0, missing), (kw - 1, kw - 1)))

  def product(index: jax.Array | int) -> jax.Array:
    start = (index // bands * images, index % bands * rows, 0, 0)
    x = jax.lax.dynamic_slice(
      inputs, start, (images, rows + kh - 1, width, channels)
    ).astype(dtype)
    y = jax.lax.dynamic_slice(
      cotangent, start, (images, rows, width + kw - 1, features)
    ).astype(dtype)
    x = jnp.concatenate([x[:, i : i + rows] for i in range(kh)], axis=-1)
    y = jnp.concatenate(
      [y[:, :, kw - 1 - j :][:, :, :width] for j in range(kw)], axis=-1
    )
    # [images, rows, width, kh * in], [..., kw * out] -> [kh * in, kw * out]
    return jnp.einsum("byxc,byxf->cf", x, y)

  total, _ = jax.lax.scan(
    lambda total, index: (total + product(index), None),
    product(0),
    jnp.arange(1, b // images * bands),
  )
  # [kh * in, kw * out] -> [kh, in, kw, out] -> [kh, kw, in, out]
  return total.reshape(kh, channels, kw, features).swapaxes(1, 2)


def _portions(b: int, h: int, width: int) -> tuple[int, int, int]:
  """Returns images and rows of one product, and such bands in an image."""
  fitting_rows = max(1, _STACK_PIXELS // width)
  bands = -(-h // fitting_rows)
  rows = -(-h // bands)
  most = max(1, fitting_rows // h)
  images = max(n for n in range(1, min(b, most) + 1) if b % n == 0)
  return images, rows, bands
