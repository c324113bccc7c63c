"""What all images share, repeated, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import positions


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_gradient_of_what_is_repeated_is_the_sum(dtype):
  plane = jax.random.normal(jax.random.key(0), (5, 3, 7), dtype)
  cotangent = jax.random.normal(jax.random.key(1), (33, 5, 3, 7), dtype)
  result, derive = jax.vjp(
    jax.jit(lambda x: positions.over_batch(x, 33)), plane
  )
  np.testing.assert_array_equal(result, np.repeat(plane[None], 33, axis=0))
  (gradient,) = derive(cotangent)
  assert gradient.dtype == dtype
  expected = np.asarray(cotangent, np.float64).sum(0)
  scale = np.abs(expected).max()
  tolerance = 1e-6 if dtype == jnp.float32 else 1e-2
  np.testing.assert_allclose(
    np.asarray(gradient, np.float64) / scale, expected / scale, atol=tolerance
  )


def test_accelerators_sum_plainly():
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(positions.over_batch(x, 4))))
  shape = jax.ShapeDtypeStruct((5, 3), jnp.float32)
  text = gradient.trace(shape).lower(lowering_platforms=("cuda",)).as_text()
  assert "stablehlo.reduce" in text and "dot_general" not in text
