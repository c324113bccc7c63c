import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention import losses
from slot_attention import matching

GOLDEN = np.load(
  pathlib.Path(__file__).parent / "data" / "google_tf_metrics.npz"
)
CASES = GOLDEN["hungarian_cases"].tolist()
METHODS = sorted(matching.METHODS)


def _case(name):
  return {
    key: GOLDEN[f"hungarian/{name}/{key}"]
    for key in ("x", "y", "loss", "indices", "grad_x", "pairwise_cost")
  }


_set_loss = jax.jit(losses.set_loss, static_argnums=2)


@functools.partial(jax.jit, static_argnums=2)
def _mean_loss(predictions, targets, method="optax"):
  return losses.set_loss(predictions, targets, method)[0].mean()


_gradient = jax.jit(jax.grad(_mean_loss), static_argnums=2)


def _sets(b=3, m=5, n=4, f=6, seed=0):
  rng = np.random.default_rng(seed)
  return (
    rng.random((b, m, f), np.float32),
    rng.random((b, n, f), np.float32),
  )


def test_huber_is_quadratic_then_linear():
  errors = jnp.array([-3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0])
  np.testing.assert_allclose(
    losses.huber(errors), [2.5, 0.5, 0.125, 0, 0.125, 0.5, 2.5]
  )
  np.testing.assert_allclose(
    losses.huber(errors, delta=0.5),
    [1.375, 0.375, 0.125, 0, 0.125, 0.375, 1.375],
  )


@pytest.mark.parametrize("case", CASES)
def test_pairwise_cost_of_the_original(case):
  golden = _case(case)
  cost = losses.pairwise_huber(jnp.asarray(golden["x"]), golden["y"])
  np.testing.assert_allclose(cost, golden["pairwise_cost"], atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_loss_of_the_original(case, method):
  golden = _case(case)
  loss = _mean_loss(golden["x"], golden["y"], method)
  np.testing.assert_allclose(loss, golden["loss"], rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_indices_of_the_original(case):
  golden = _case(case)
  _, indices = _set_loss(
    jnp.asarray(golden["x"]), jnp.asarray(golden["y"]), "scipy"
  )
  # With optax, equal targets may be paired otherwise at the same cost.
  np.testing.assert_array_equal(np.stack(indices, 1), golden["indices"])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_gradient_of_the_original(case, method):
  if (case, method) == ("identical_predictions", "optax"):
    pytest.skip("which of the equal predictions gets which target is free")
  golden = _case(case)
  gradient = _gradient(golden["x"], golden["y"], method)
  np.testing.assert_allclose(gradient, golden["grad_x"], atol=1e-6)


@pytest.mark.parametrize(("m", "n"), [(5, 4), (4, 4), (3, 4)])
def test_gradient_against_finite_differences(m, n):
  predictions, targets = _sets(m=m, n=n)
  predictions = 3 * predictions - 1  # both branches of the Huber loss
  gradient = _gradient(predictions, targets)
  rng = np.random.default_rng(1)
  for _ in range(5):
    direction = rng.normal(size=predictions.shape).astype(np.float32)
    step = 1e-2
    difference = _mean_loss(predictions + step * direction, targets)
    difference -= _mean_loss(predictions - step * direction, targets)
    np.testing.assert_allclose(
      difference / (2 * step), np.vdot(gradient, direction), atol=2e-3
    )


def test_unmatched_predictions_get_no_gradient():
  predictions, targets = _sets(m=6, n=2)
  gradient = _gradient(predictions, targets)
  touched = np.abs(gradient).sum(-1) > 0
  np.testing.assert_array_equal(touched.sum(1), [2, 2, 2])


def test_order_of_both_sets_is_irrelevant():
  predictions, targets = _sets(m=6, n=6)
  permuted = _set_loss(predictions[:, ::-1], np.roll(targets, 2, 1))[0]
  np.testing.assert_allclose(
    permuted, _set_loss(predictions, targets)[0], rtol=1e-6
  )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_prediction_poisons_its_image_even_if_unmatched(method, value):
  predictions, targets = _sets(m=5, n=4)
  clean, (_, columns) = _set_loss(
    jnp.asarray(predictions), jnp.asarray(targets), method
  )
  (unmatched,) = set(range(5)) - set(np.asarray(columns[1]).tolist())
  predictions[1, unmatched, 2] = value
  loss, gradient = jax.jit(
    jax.value_and_grad(
      lambda x: (lambda y: (y.sum(), y))(
        losses.set_loss(x, targets, method)[0]
      ),
      has_aux=True,
    )
  )(predictions)
  assert np.isnan(loss[1][1])
  assert np.isnan(gradient[1]).any()
  np.testing.assert_array_equal(loss[1][::2], clean[::2])
  assert np.isfinite(gradient[::2]).all()


def test_bad_target_poisons_its_image():
  predictions, targets = _sets(m=3, n=4)
  targets[0, 3, 0] = np.nan
  loss = _set_loss(jnp.asarray(predictions), jnp.asarray(targets))[0]
  np.testing.assert_array_equal(np.isnan(loss), [True, False, False])


def test_bfloat16_is_computed_in_float32():
  predictions, targets = (jnp.asarray(x, jnp.bfloat16) for x in _sets())
  # Not compiled: XLA may keep more digits than bfloat16 has by itself.
  loss, _ = losses.set_loss(predictions, targets)
  assert loss.dtype == jnp.float32
  reference, _ = losses.set_loss(
    predictions.astype(jnp.float32), targets.astype(jnp.float32)
  )
  np.testing.assert_array_equal(loss, reference)
  error = losses.mean_squared_error(predictions, predictions * 2)
  assert error.dtype == jnp.float32
  assert losses.huber(predictions).dtype == jnp.float32
  assert losses.pairwise_huber(predictions, targets).dtype == jnp.float32


@pytest.mark.parametrize(
  ("shapes", "sentence"),
  [
    (((2, 3, 5), (2, 3, 4)), r"\(2, 3, 5\) and targets \(2, 3, 4\)"),
    (((2, 3, 5), (1, 3, 5)), r"are not sets of one batch"),
    (((3, 5), (3, 5)), r"pass \[b, num_predictions, f\]"),
  ],
)
def test_wrong_shapes_are_named(shapes, sentence):
  with pytest.raises(ValueError, match=sentence):
    losses.set_loss(*(jnp.zeros(shape) for shape in shapes))


def test_mean_squared_error_of_the_original():
  error = losses.mean_squared_error(
    jnp.asarray(GOLDEN["l2/x"]), jnp.asarray(GOLDEN["l2/y"])
  )
  assert error.shape == (2,)
  np.testing.assert_allclose(error.mean(), GOLDEN["l2/loss"], rtol=1e-6)


def test_mean_squared_error_does_not_broadcast():
  with pytest.raises(ValueError, match=r"\(2, 4\) and \(2, 1\)"):
    losses.mean_squared_error(jnp.zeros((2, 4)), jnp.zeros((2, 1)))
