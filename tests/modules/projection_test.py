"""Products with projected inputs against those that project them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import projection

# b, n, c, k, d: fewer inputs' channels than keys', and more.
SIZES = [(2, 30, 5, 4, 8), (3, 17, 9, 6, 3)]


def _arrays(sizes):
  b, n, c, k, d = sizes
  keys = jax.random.split(jax.random.key(0), 4)
  return (
    jax.random.normal(keys[0], (b, n, c)),
    jax.random.normal(keys[1], (c, d)),
    jax.random.normal(keys[2], (b, k, d)),
    jax.random.uniform(keys[3], (b, k, n)),
  )


def _products(inputs, kernel, queries, weights, dtype=jnp.float32):
  module = projection.Projection(kernel.shape[1], dtype)
  projected = module.apply({"params": {"kernel": kernel}}, inputs)
  return projected.dot(queries.astype(dtype)), projected.weigh(weights)


def _plain(inputs, kernel, queries, weights):
  values = inputs @ kernel
  return (
    jnp.einsum("bkd,bnd->bkn", queries, values),
    jnp.einsum("bkn,bnd->bkd", weights, values),
  )


@pytest.mark.parametrize("sizes", SIZES)
def test_products_and_gradients_are_those_of_projected_inputs(sizes):
  arrays = _arrays(sizes)
  with jax.default_matmul_precision("highest"):
    actual, derive = jax.vjp(_products, *arrays)
    expected, derive_plain = jax.vjp(_plain, *arrays)
    pairs = zip(
      (*actual, *derive(expected)),
      (*expected, *derive_plain(expected)),
      strict=True,
    )
    for x, y in pairs:
      np.testing.assert_allclose(x, y, atol=2e-6 * np.abs(y).max())


def test_bfloat16_products_are_float32():
  arrays = _arrays(SIZES[0])
  actual = _products(*arrays, dtype=jnp.bfloat16)
  for x, y in zip(actual, _plain(*arrays), strict=True):
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, y, atol=2e-2 * np.abs(y).max())


def test_inputs_are_not_projected():
  b, n, c, k, d = SIZES[0]
  program = jax.make_jaxpr(_products)(*_arrays(SIZES[0]))
  shapes = {eqn.outvars[0].aval.shape for eqn in program.jaxpr.eqns}
  assert (b, k, c) in shapes and (b, n, d) not in shapes
