"""Adam in Keras' form, against the formula and against optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slot_attention import configuration
from slot_attention import optimizers


def _keras_adam(gradients, rate, b1=0.9, b2=0.999, epsilon=1e-8):
  """Keras' update in float64, written from its documentation."""
  parameter = m = v = np.zeros_like(gradients[0], np.float64)
  for t, g in enumerate(np.asarray(gradients, np.float64), start=1):
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    alpha = rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    parameter = parameter - alpha * m / (np.sqrt(v) + epsilon)
  return parameter


def _run(transformation, gradients):
  params = jnp.zeros_like(gradients[0])
  state = transformation.init(params)
  for g in gradients:
    updates, state = transformation.update(g, state, params)
    params = optax.apply_updates(params, updates)
  return params


def test_equals_keras_where_epsilon_matters():
  rng = np.random.default_rng(0)
  scales = np.array([1.0, 1e-4, 1e-7, 1e-8], np.float32)
  gradients = rng.normal(size=(25, 4)).astype(np.float32) * scales
  ours = optax.chain(
    optimizers.scale_by_keras_adam(), optax.scale_by_learning_rate(1e-2)
  )
  expected = _keras_adam(gradients, 1e-2)
  np.testing.assert_allclose(_run(ours, gradients), expected, rtol=2e-4)
  other = _run(optax.adam(1e-2), gradients)
  assert np.abs(other - expected)[-1] > 0.1 * np.abs(expected[-1])


def test_learning_rate_of_step_0_is_0_but_moments_advance():
  config = configuration.get_default().optimizer
  optimizer = optimizers.create_optimizer(config)
  params = {"w": jnp.ones(3)}
  state = optimizer.init(params)
  updates, state = optimizer.update({"w": jnp.ones(3)}, state, params)
  np.testing.assert_array_equal(updates["w"], np.zeros(3))
  assert state[0].count == 1
  assert jax.tree.leaves(state[0].mu)[0][0] > 0
