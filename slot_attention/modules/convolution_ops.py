"""Convolutions, plain and transposed, as XLA's backends do them well.

Images are [b, h, w, c] and kernels [kh, kw, in, out] of an ordinary
convolution, [kh, kw, out, in] of a transposed one. Paddings are ((before,
after), (before, after)) of rows and columns. What this module does otherwise
than XLA, it does on CPUs only, and exactly.
"""

import functools

import jax
import jax.numpy as jnp

from slot_attention.modules import kernel_gradient

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
  if stride == 1:
    return _convolve(inputs, kernel, stride, padding)
  how = {"stride": stride, "padding": padding}
  return jax.lax.platform_dependent(
    inputs,
    kernel,
    cpu=functools.partial(_convolve_phases, **how),
    default=functools.partial(_convolve, **how),
  )


def _convolve(
  inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
  """Computes `convolve`; its gradient is that of JAX."""
  if min(map(min, padding)) < 0:
    # Convolutions with negative padding have wrong gradients in JAX 0.10.
    inputs, padding = kernel_gradient.pad(inputs, padding), ((0, 0), (0, 0))
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    window_strides=(stride, stride),
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _convolve_phases(
  inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
  """Computes `convolve` from every stride-th row and column of the inputs."""
  result = jax.eval_shape(
    functools.partial(_convolve, stride=stride, padding=padding), inputs, kernel
  )

  def transposed(cotangent: jax.Array) -> jax.Array:
    return _transposed(cotangent, kernel, stride, padding, inputs.shape[1:3])

  # It is linear, and its gradient anywhere is the convolution.
  _, derive = jax.vjp(transposed, jnp.zeros(result.shape, result.dtype))
  (outputs,) = derive(inputs)
  return outputs


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
  return jax.lax.platform_dependent(
    *residuals,
    cotangent,
    cpu=functools.partial(_cpu_gradients, stride=stride, padding=padding),
    default=functools.partial(_gradients, stride=stride, padding=padding),
  )


convolve.defvjp(_forward, _backward)


def _gradients(
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
  stride: int,
  padding: Padding,
) -> tuple[jax.Array, jax.Array]:
  """Returns the gradients of inputs and kernel as JAX derives them."""
  plain = functools.partial(_convolve, stride=stride, padding=padding)
  return jax.vjp(plain, inputs, kernel)[1](cotangent)


def _cpu_gradients(
  inputs: jax.Array,
  kernel: jax.Array,
  cotangent: jax.Array,
  stride: int,
  padding: Padding,
) -> tuple[jax.Array, jax.Array]:
  """Returns the same by convolutions without stride or zeros in between."""
  transposed = functools.partial(
    _transposed, stride=stride, padding=padding, resolution=inputs.shape[1:3]
  )
  if stride == 1:
    gradient = kernel_gradient.compute(
      inputs, cotangent, kernel.shape[:2], padding
    ).astype(kernel.dtype)
  else:
    # The sum of cotangent * convolve(inputs, kernel) is that of inputs *
    # transposed(cotangent, kernel), so their gradients are one.
    _, derive = jax.vjp(functools.partial(transposed, cotangent), kernel)
    (gradient,) = derive(inputs)
  return transposed(cotangent, kernel), gradient


def _transposed(
  cotangent: jax.Array,
  kernel: jax.Array,
  stride: int,
  padding: Padding,
  resolution: tuple[int, int],
) -> jax.Array:
  """Returns the gradient of a convolution's inputs, of that resolution."""
  h, w = resolution
  # Enough of it that the result covers inputs which no window begins at.
  missing = (
    max(0, -(-length // stride) - there)
    for length, there in zip(resolution, cotangent.shape[1:3], strict=True)
  )
  cotangent = kernel_gradient.pad(cotangent, [(0, n) for n in missing])
  # Of the cotangent among zeros: a kernel reaches this far beyond its place.
  spread_padding = tuple(
    (size - 1 - before, size - 1 - after)
    for size, (before, after) in zip(kernel.shape, padding, strict=False)
  )
  return by_phases(cotangent, kernel, stride, spread_padding)[:, :h, :w]


def dilated(
  inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
  """Convolves inputs with zeros put between them.

  Args:
    inputs: [b, h, w, in].
    kernel: [kh, kw, out, in].
    stride: of the inputs among the zeros.
    padding: of the spread inputs, such that the result has the size below.

  Returns:
    [b, h * stride, w * stride, out].
  """
  return jax.lax.conv_transpose(
    inputs,
    kernel,
    strides=(stride, stride),
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    transpose_kernel=True,
  )


def by_phases(
  inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> jax.Array:
  """Computes what `dilated` does by stride^2 ordinary convolutions.

  Rows of the result with the same remainder by the stride see the same rows of
  the kernel, every stride-th one; likewise columns.

  Args:
    inputs: see `dilated`, and for the others.
    kernel: see there.
    stride: see there.
    padding: see there; what stands behind the inputs follows from the result.

  Returns:
    [b, h * stride, w * stride, out].
  """
  b, h, w, _ = inputs.shape
  # Of the ordinary convolution over spread inputs: [kh, kw, in, out].
  kernel = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
  row_phases, column_phases = (
    [_phase(phase, size, stride, before) for phase in range(stride)]
    for size, (before, _) in zip(kernel.shape, padding, strict=False)
  )
  rows = [
    jnp.stack(
      [
        convolve(
          inputs,
          kernel[first_row::stride, first_column::stride],
          1,
          (row_sides, column_sides),
        )
        for first_column, column_sides in column_phases
      ],
      axis=3,
    )
    for first_row, row_sides in row_phases
  ]  # stride times [b, h, w, stride, out]
  result = jnp.stack(rows, axis=2)  # [b, h, stride, w, stride, out]
  return result.reshape(b, h * stride, w * stride, -1)


def _phase(
  phase: int, kernel_size: int, stride: int, padding: int
) -> tuple[int, Sides]:
  """Returns the first kernel entry of a phase, and its inputs' padding."""
  first = (padding - phase) % stride
  entries = len(range(first, kernel_size, stride))
  before = (padding - phase - first) // stride
  return first, (before, entries - 1 - before)
