"""The filtering's weights, and how few products it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import winograd


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
def test_weights_filter_exactly(rows):
  rng = np.random.default_rng(rows)
  kernel = rng.integers(-9, 9, rows).astype(float)
  inputs = rng.integers(-9, 9, rows + 3).astype(float)
  of_inputs, of_kernel, of_products = winograd._weights(rows)
  result = of_products @ ((of_kernel @ kernel) * (of_inputs @ inputs))
  np.testing.assert_allclose(
    result, np.correlate(inputs, kernel, "valid"), atol=1e-9
  )


@pytest.mark.parametrize(
  ("kernel_size", "stride", "products"),
  # Of rows; ordinary ones are 4 * kernel_size for each four rows.
  [(5, 1, 8), (5, 2, 6 + 5), (3, 1, 6), (4, 2, 2 * 5), (5, 3, 5 + 5 + 4)],
)
def test_products_are_few(kernel_size, stride, products):
  resolution = (16 * stride, 16 * stride)
  inputs = jax.ShapeDtypeStruct((2, *resolution, 32), jnp.float32)
  kernel = jax.ShapeDtypeStruct((kernel_size, kernel_size, 32, 32), jnp.float32)
  rows = (0, kernel_size - stride)

  def convolve(inputs, kernel):
    return winograd.convolve(inputs, kernel, stride, (rows, rows))

  result = jax.eval_shape(convolve, inputs, kernel)
  gradient = jax.make_jaxpr(
    lambda inputs, cotangent: winograd.kernel_gradient(
      inputs, cotangent, (kernel_size,) * 2, stride, (rows, rows)
    )
  )(inputs, result)
  for program in (jax.make_jaxpr(convolve)(inputs, kernel), gradient):
    assert str(program).count("conv_general_dilated[") == products


def test_only_float32_is_precise_enough():
  shape = (5, 5, 64, 64)
  assert winograd.faster(jnp.float32, shape, 1, 32)
  assert not winograd.faster(jnp.bfloat16, shape, 1, 32)


@pytest.mark.parametrize("stride", [1, 2])
def test_errors_are_those_of_rounding(stride):
  """Against float64, as large as results get in training."""
  keys = jax.random.split(jax.random.key(0), 2)
  inputs = np.asarray(jax.random.normal(keys[0], (1, 32, 32, 64)))
  kernel = np.asarray(jax.random.normal(keys[1], (5, 5, 64, 64)))
  sides = ((2, 2), (2, 2))
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(inputs, ((0, 0), *sides, (0, 0))).astype(np.float64),
    kernel.shape[:2],
    axis=(1, 2),
  )[:, ::stride, ::stride]
  expected = np.einsum("bhwcij,ijcf->bhwf", windows, kernel, optimize=True)
  actual = winograd.convolve(inputs, kernel, stride, sides)
  error = np.abs(actual - expected).max() / np.abs(expected).max()
  assert error < 5e-6
