"""Convolutions of fewer products, by Winograd's minimal filtering, on CPUs.

Four rows of a result that see n rows of a kernel take n + 3 convolutions of
single rows instead of 4 n: 8 instead of 20 for 5x5 kernels. They are of sums of
the inputs' rows with sums of the kernel's, and the result's rows are sums of
theirs. This is F(4, n) of Lavin and Gray 2016, "Fast Algorithms for
Convolutional Neural Networks", in one dimension, and exact but for rounding.

With a stride, rows of inputs and kernel fall into as many phases, each of which
is convolved without one.
"""

from collections.abc import Sequence
import functools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.modules import shards
from slot_attention.modules import value_rows

_TILE = 4  # Rows of a result that are computed together.
# Polynomials are evaluated at as many of these as needed, and at infinity.
_POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2)
_MOST_ROWS = len(_POINTS) + 2 - _TILE  # Of a kernel.
# Both of inputs and result. Without a stride, 5x5: of 32 channels a convolution
# took 0.6 of the time of an ordinary one and its kernel gradient 0.85, of 64
# channels 0.5 and 0.7, of 16 channels 0.7 and 1.9.
_FEWEST_CHANNELS = 32
# Of images that go through the cache together.
_PORTION_PIXELS = 2**13


def faster(
  dtype: jnp.dtype,
  kernel_shape: tuple[int, int, int, int],
  stride: int,
  height: int,
) -> bool:
  """Returns whether a convolution had better be computed here.

  Args:
    dtype: of inputs and kernel; float32, or too much is lost in the sums.
    kernel_shape: (kh, kw, in, out).
    stride: of the window.
    height: rows of the result.
  """
  kh, _, channels, features = kernel_shape
  return (
    dtype == jnp.float32
    and 1 < _rows(kh, stride) <= _MOST_ROWS
    and height >= _TILE
    and min(channels, features) >= _FEWEST_CHANNELS
  )


def num_images(resolution: tuple[int, int]) -> int:
  """Returns how many images of a result are best computed together."""
  return max(1, _PORTION_PIXELS // math.prod(resolution))


def convolve(
  inputs: jax.Array,
  kernel: jax.Array,
  stride: int,
  padding: value_rows.Padding,
) -> jax.Array:
  """Convolves images.

  Args:
    inputs: [b, h, w, in].
    kernel: [kh, kw, in, out], of at most 5 * stride rows.
    stride: of the window, at most kh and kw.
    padding: of the inputs with zeros, for rows and columns; negative ones cut.

  Returns:
    [b, h', w', out].
  """
  kh, kw, _, features = kernel.shape
  inputs, padding = value_rows.cut(inputs, padding)
  (top, bottom), (left, right) = padding
  height = (inputs.shape[1] + top + bottom - kh) // stride + 1
  width = (inputs.shape[2] + left + right - kw) // stride + 1
  of_inputs, of_kernel, of_products = _weights(_rows(kh, stride))
  rows = _input_rows(inputs, height, kh, stride, top)

  def product(point: int, phase: int) -> jax.Array:
    """Returns [b, tiles, w', out]."""
    return jax.lax.conv_general_dilated(
      _sum(of_inputs[point], rows[phase]),
      _sum(of_kernel[point], kernel[phase::stride])[None],
      window_strides=(1, stride),
      padding=((0, 0), (left, right)),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  products = [
    functools.reduce(
      operator.add, [product(point, phase) for phase in range(phases)]
    )
    for point, phases in enumerate(_num_phases(kh, stride))
  ]
  tiles = jnp.stack([_sum(weights, products) for weights in of_products], 2)
  return tiles.reshape(len(inputs), -1, width, features)[:, :height]


def kernel_gradient(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel_size: tuple[int, int],
  stride: int,
  padding: value_rows.Padding,
) -> jax.Array:
  """Computes the gradient of `convolve` with respect to its kernel.

  Args:
    inputs: [b, h, w, in].
    cotangent: [b, h', w', out], the gradient of its result.
    kernel_size: (kh, kw).
    stride: see there.
    padding: of the inputs, as far as the last window reaches; not negative.

  Returns:
    [kh, kw, in, out].
  """
  kh, kw = kernel_size
  b, height, width, features = cotangent.shape
  channels = inputs.shape[3]
  (top, _), columns = padding
  of_inputs, of_kernel, of_products = _weights(_rows(kh, stride))
  num_phases = _num_phases(kh, stride)

  def of_some(
    some_inputs: jax.Array, some_cotangent: jax.Array
  ) -> list[list[jax.Array]]:
    rows = _input_rows(some_inputs, height, kh, stride, top)
    tiles = value_rows.pad(some_cotangent, ((0, -height % _TILE), (0, 0)))
    result_rows = [tiles[:, i::_TILE] for i in range(_TILE)]

    def product(point: int, phase: int) -> jax.Array:
      """Returns [1, 1, kw * in, out]."""
      x = _sum(of_inputs[point], rows[phase])
      y = _sum(of_products[:, point], result_rows)
      # The rows of all tiles are those of one image, and the kernel's columns
      # those of the result, so that nothing is transposed.
      return value_rows.convolve(
        x.reshape(1, -1, *x.shape[2:]),
        y.reshape(-1, width, 1, features),
        channels,
        strides=(1, 1),
        dilation=(1, stride * channels),
        padding=((0, 0), columns),
      )

    return [
      [product(point, phase) for phase in range(phases)]
      for point, phases in enumerate(num_phases)
    ]

  zeros = jnp.zeros((1, 1, kw * channels, features), inputs.dtype)
  totals = shards.sum_of_portions(
    of_some,
    [[zeros] * phases for phases in num_phases],
    inputs,
    cotangent,
    shards.portion(b, num_images((height, width))),
  )
  gradient = [
    _sum(
      of_kernel[:, row // stride],
      [phases[row % stride] for phases in totals if row % stride < len(phases)],
    )
    for row in range(kh)
  ]
  return jnp.stack(gradient).reshape(kh, kw, channels, features)


def _rows(kernel_rows: int, stride: int) -> int:
  """Returns the rows of the kernel's first phase; others may have one less."""
  return -(-kernel_rows // stride)


@functools.cache
def _weights(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the weights of all sums, for so many rows of a kernel.

  Of n = rows + 3 products: [n, n] of the inputs' rows, [n, rows] of the
  kernel's, and [4, n] of the products.
  """
  count = rows + _TILE - 1

  def evaluation(degree: int) -> np.ndarray:
    """Returns [n, degree]: coefficients to values at all points."""
    finite = np.vander(_POINTS[: count - 1], degree, increasing=True)
    return np.concatenate([finite, np.eye(degree)[-1:]])

  # Filtering is the transpose of multiplying polynomials, which takes values at
  # n points to n coefficients.
  interpolation = np.linalg.inv(evaluation(count)).round(12)
  return interpolation.T, evaluation(rows), evaluation(_TILE).T


def _num_phases(kernel_rows: int, stride: int) -> list[int]:
  """Returns how many phases have a product at each point.

  At infinity, the last point, a polynomial is its last coefficient, which only
  phases of as many rows as the first one have.
  """
  rows = _rows(kernel_rows, stride)
  return [stride] * (rows + _TILE - 2) + [kernel_rows - (rows - 1) * stride]


def _input_rows(
  inputs: jax.Array, height: int, kernel_rows: int, stride: int, top: int
) -> list[list[jax.Array]]:
  """Returns the rows of all tiles, [b, tiles, w, in], for each phase."""
  count = _rows(kernel_rows, stride) + _TILE - 1
  last = (-(-height // _TILE) - 1) * _TILE
  below = (last + count) * stride - top - inputs.shape[1]
  inputs = value_rows.pad(inputs, ((top, below), (0, 0)))
  return [
    [
      inputs[:, first : first + last * stride + 1 : _TILE * stride]
      for first in range(phase, count * stride, stride)
    ]
    for phase in range(stride)
  ]


def _sum(
  weights: np.ndarray, terms: Sequence[jax.Array] | jax.Array
) -> jax.Array:
  """Sums terms, as many as there are, with weights that are often 0 or 1."""
  weighted = [
    term if weight == 1 else float(weight) * term
    for weight, term in zip(weights, terms, strict=False)
    if weight
  ]
  return functools.reduce(operator.add, weighted)
