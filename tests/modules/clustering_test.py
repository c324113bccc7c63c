"""Soft k-means and the Gaussian mixture against float64 values."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import clustering

CASE = dict(
  np.load(
    pathlib.Path(__file__).parents[1] / "data/smm_torch_vanilla_clustering.npz"
  )
)
INPUTS, MEANS = CASE["in/inputs"], CASE["in/mu"]
STATE = np.concatenate([MEANS, 0.5 * np.log(CASE["in/var"])], axis=-1)
STEPS = 6


def test_kmeans_equals_the_formulas():
  output = clustering.SoftKMeans(STEPS).apply({}, INPUTS, MEANS)
  for actual, key in (
    (output.slots_per_iteration, "mu_steps"),
    (output.attention, "attn_steps"),
  ):
    expected = CASE[f"kmeans_dot/{key}"]
    np.testing.assert_allclose(
      actual.swapaxes(0, 1), expected, atol=1e-4 * np.abs(expected).max()
    )
  np.testing.assert_array_equal(output.slots, output.slots_per_iteration[:, -1])


def test_gmm_equals_the_formulas():
  module = clustering.GaussianMixture(6, STEPS, output="none")
  output = module.apply({}, INPUTS, STATE)
  means, variances = np.split(output.slots_per_iteration, 2, axis=-1)
  for actual, key in (
    (means, "mu_steps"),
    (variances, "var_steps"),
    (output.attention, "gammas_steps"),
  ):
    expected = CASE[f"gmm/{key}"]
    np.testing.assert_allclose(
      actual.swapaxes(0, 1), expected, atol=1e-4 * np.abs(expected).max()
    )


def test_gmm_reduces_its_slots_by_a_matrix():
  module = clustering.GaussianMixture(6, STEPS)
  variables = module.init(jax.random.key(0), INPUTS, STATE)
  assert jax.tree.map(jnp.shape, variables) == {
    "params": {"project_output": {"kernel": (12, 6)}}
  }
  raw = clustering.GaussianMixture(6, STEPS, output="none")
  np.testing.assert_allclose(
    module.apply(variables, INPUTS, STATE).slots,
    raw.apply({}, INPUTS, STATE).slots
    @ variables["params"]["project_output"]["kernel"],
    rtol=1e-4,
    atol=1e-5,
  )


@pytest.mark.parametrize("gradient", ["all", "last"])
@pytest.mark.parametrize("name", ["kmeans", "gmm"])
def test_gradient_reaches_the_initial_slots_through_all_iterations_only(
  name, gradient
):
  if name == "kmeans":
    module, slots = clustering.SoftKMeans(3, gradient=gradient), MEANS
  else:
    module, slots = (
      clustering.GaussianMixture(6, 3, gradient=gradient, output="none"),
      STATE,
    )
  grads = jax.grad(
    lambda slots: jnp.sum(module.apply({}, INPUTS, slots).slots ** 2)
  )(jnp.asarray(slots))
  assert (np.abs(grads).max() > 0) == (gradient == "all")


def test_other_widths_are_refused():
  with pytest.raises(ValueError, match="Inputs have 6 features and slots 5"):
    clustering.SoftKMeans().apply({}, INPUTS, MEANS[..., :5])
  with pytest.raises(ValueError, match="Inputs have 6 features and slots 7"):
    clustering.GaussianMixture(7).init(jax.random.key(0), INPUTS, STATE)
