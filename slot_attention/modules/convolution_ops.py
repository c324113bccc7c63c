"""Convolutions, plain and transposed, as XLA's backends do them well.

Images are [b, h, w, c] and kernels [kh, kw, in, out] of an ordinary
convolution. Paddings are ((before, after), (before, after)), rows and columns.
What this module does otherwise than XLA, it does on CPUs only, and exactly.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from slot_attention.modules import kernel_gradient
from slot_attention.modules import shards
from slot_attention.modules import value_rows
from slot_attention.modules import winograd

Sides = tuple[int, int]
Padding = tuple[Sides, Sides]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(
  inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
  """Convolves images.

  Args:
    inputs: [b, h, w, in].
    kernel: [kh, kw, in, out].
    stride: of the window, at most kh and kw.
    padding: of the inputs with zeros; negative ones cut.

  Returns:
    [b, h', w', out].
  """
  how = {"stride": stride, "padding": padding}
  return jax.lax.platform_dependent(
    inputs,
    kernel,
    cpu=functools.partial(_on_cpu, **how),
    default=functools.partial(_convolve, **how),
  )


def _forward(
  inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return convolve(inputs, kernel, stride, padding), (inputs, kernel)


def _backward(
  stride: int,
  padding: Padding,
  residuals: tuple[jax.Array, jax.Array],
  cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  inputs, kernel = residuals
  resolution = inputs.shape[1:3]
  return (
    transpose(cotangent, kernel, stride, padding, resolution),
    _kernel_gradient(inputs, cotangent, kernel, stride, padding),
  )


convolve.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def transpose(
  inputs: jax.Array,
  kernel: jax.Array,
  stride: int,
  padding: Padding,
  resolution: tuple[int, int],
) -> jax.Array:
  """Computes the transposed convolution, the gradient of `convolve`.

  Args:
    inputs: [b, h', w', out], such as the convolution returns.
    kernel: [kh, kw, in, out], of the convolution, as the others.
    stride: see there.
    padding: see there.
    resolution: (h, w) of the images that it would convolve.

  Returns:
    [b, h, w, in].
  """
  how = {"stride": stride, "padding": padding, "resolution": resolution}
  return jax.lax.platform_dependent(
    inputs,
    kernel,
    # XLA's CPU backend multiplies by the zeros between the inputs.
    cpu=functools.partial(_by_phases, **how),
    default=functools.partial(_dilated, **how),
  )


def _transpose_forward(
  inputs: jax.Array, kernel: jax.Array, *how: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  return transpose(inputs, kernel, *how), (inputs, kernel)


def _transpose_backward(
  stride: int,
  padding: Padding,
  resolution: tuple[int, int],
  residuals: tuple[jax.Array, jax.Array],
  cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  del resolution  # The cotangent's.
  inputs, kernel = residuals
  # The sum of cotangent * transpose(inputs, kernel) is that of inputs *
  # convolve(cotangent, kernel), so their gradients are one.
  return (
    convolve(cotangent, kernel, stride, padding),
    _kernel_gradient(cotangent, inputs, kernel, stride, padding),
  )


transpose.defvjp(_transpose_forward, _transpose_backward)


def _convolve(
  inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
  """Computes `convolve`; its gradient is that of JAX."""
  # Convolutions with negative padding have wrong gradients in JAX 0.10.
  inputs, padding = value_rows.cut(inputs, padding)
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(stride, stride),
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _on_cpu(
  inputs: jax.Array,
  kernel: jax.Array,
  stride: int,
  padding: Padding,
  whole: bool = False,
) -> jax.Array:
  """Computes `convolve` in the way that takes CPUs the least time.

  Args:
    inputs: see there.
    kernel: see there.
    stride: see there.
    padding: see there.
    whole: leave out loops over images, after which XLA fuses nothing.

  Returns:
    See there.
  """
  kh, kw, channels, features = kernel.shape
  rows, columns = (
    (length + sum(sides) - size) // stride + 1
    for length, size, sides in zip(
      inputs.shape[1:3], (kh, kw), padding, strict=True
    )
  )
  if winograd.faster(inputs.dtype, kernel.shape, stride, rows):
    if whole:
      return winograd.convolve(inputs, kernel, stride, padding)
    return shards.in_portions(
      lambda kernel, some: winograd.convolve(some, kernel, stride, padding),
      kernel,
      inputs,
      winograd.num_images((rows, columns)),
    )
  if not value_rows.faster(inputs.shape[2], channels, features, stride):
    return _convolve(inputs, kernel, stride, padding)
  inputs, padding = value_rows.cut(inputs, padding)
  return value_rows.convolve(
    inputs,
    kernel.reshape(kh, kw * channels, 1, features),
    channels,
    strides=(stride, stride * channels),
    dilation=(1, 1),
    padding=padding,
  )


def _kernel_gradient(
  inputs: jax.Array,
  cotangent: jax.Array,
  kernel: jax.Array,
  stride: int,
  padding: Padding,
) -> jax.Array:
  """Returns the gradient of `convolve` with respect to its kernel."""

  def on_cpu(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
    return kernel_gradient.compute(
      inputs, cotangent, kernel.shape[:2], stride, padding
    ).astype(kernel.dtype)

  def derived(inputs: jax.Array, cotangent: jax.Array) -> jax.Array:
    def linear(kernel: jax.Array) -> jax.Array:
      return _convolve(inputs, kernel, stride, padding)

    (gradient,) = jax.linear_transpose(linear, kernel)(cotangent)
    return gradient

  return jax.lax.platform_dependent(
    inputs, cotangent, cpu=on_cpu, default=derived
  )


def _dilated(
  inputs: jax.Array,
  kernel: jax.Array,
  stride: int,
  padding: Padding,
  resolution: tuple[int, int],
) -> jax.Array:
  """Computes `transpose` by convolving inputs with zeros put between them."""
  spread_padding = []
  for length, there, size, (before, _) in zip(
    resolution, inputs.shape[1:3], kernel.shape, padding, strict=False
  ):
    spread = (there - 1) * stride + 1
    spread_padding.append((size - 1 - before, length + before - spread))
  return jax.lax.conv_transpose(
    inputs,
    kernel,
    strides=(stride, stride),
    padding=spread_padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    transpose_kernel=True,
  )


def _by_phases(
  inputs: jax.Array,
  kernel: jax.Array,
  stride: int,
  padding: Padding,
  resolution: tuple[int, int],
) -> jax.Array:
  """Computes `transpose` by stride^2 ordinary convolutions.

  Rows of the result with the same remainder by the stride see the same rows of
  the kernel, every stride-th one; likewise columns.
  """
  # Enough inputs that the result covers what no window of `convolve` begins at.
  missing = (
    max(0, -(-length // stride) - there)
    for length, there in zip(resolution, inputs.shape[1:3], strict=True)
  )
  inputs = value_rows.pad(inputs, [(0, n) for n in missing])
  # Of the ordinary convolution over spread inputs: [kh, kw, out, in].
  kernel = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
  row_phases, column_phases = (
    [_phase(phase, size, stride, size - 1 - before) for phase in range(stride)]
    for size, (before, _) in zip(kernel.shape, padding, strict=False)
  )
  rows = [
    jnp.stack(
      [
        _on_cpu(
          inputs,
          kernel[first_row::stride, first_column::stride],
          1,
          (row_sides, column_sides),
          # XLA puts phases between each other with what comes next.
          whole=stride > 1,
        )
        for first_column, column_sides in column_phases
      ],
      axis=3,
    )
    for first_row, row_sides in row_phases
  ]  # stride times [b, h', w', stride, in]
  result = jnp.stack(rows, axis=2)  # [b, h', stride, w', stride, in]
  b, h, _, w, _, channels = result.shape
  result = result.reshape(b, h * stride, w * stride, channels)
  return result[:, : resolution[0], : resolution[1]]


def _phase(
  phase: int, kernel_size: int, stride: int, padding: int
) -> tuple[int, Sides]:
  """Returns the first kernel entry of a phase, and its inputs' padding."""
  first = (padding - phase) % stride
  entries = len(range(first, kernel_size, stride))
  before = (padding - phase - first) // stride
  return first, (before, entries - 1 - before)
