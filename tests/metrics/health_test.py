"""Slot usage and the test for fixed segmentations."""

import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.metrics import health

ALL = np.ones(4, bool)


def _health(labels, num_slots=4, valid=ALL):
  return health.slot_health(jnp.asarray(labels), num_slots, jnp.asarray(valid))


def test_stripes_agree_whatever_the_order_of_slots():
  stripes = np.repeat(np.arange(4), 25)
  rng = np.random.default_rng(0)
  labels = np.stack([rng.permutation(4)[stripes] for _ in range(4)])
  result = _health(labels)
  np.testing.assert_allclose(result["mask_similarity"], 1.0)
  np.testing.assert_allclose(result["slot_entropy"], 1.0, rtol=1e-6)
  np.testing.assert_array_equal(result["dead_slots"], 0)


def test_unrelated_segmentations_do_not_agree():
  labels = np.random.default_rng(0).integers(0, 4, (4, 1000))
  result = _health(labels)
  assert np.abs(result["mask_similarity"]).max() < 0.02


def test_one_slot_that_takes_everything():
  result = _health(np.full((4, 100), 2))
  np.testing.assert_array_equal(result["slot_entropy"], 0.0)
  np.testing.assert_array_equal(result["dead_slots"], 3)
  np.testing.assert_array_equal(result["mask_similarity"], 1.0)


def test_padding_is_not_compared_with():
  rng = np.random.default_rng(0)
  labels = np.repeat(rng.integers(0, 4, (1, 100)), 4, axis=0)
  labels[3] = 0  # What a model says of an empty image.
  valid = np.array([True, True, True, False])
  result = _health(labels, valid=valid)
  np.testing.assert_allclose(result["mask_similarity"][valid], 1.0)
  alone = _health(labels, valid=np.array([True, False, False, False]))
  assert np.isnan(alone["mask_similarity"][0])


@pytest.mark.parametrize(
  ("scalars", "words"),
  [
    ({"mask_similarity": 0.6, "dead_slots": 0.0}, "depend on the image"),
    ({"mask_similarity": 0.1, "dead_slots": 6.5}, "6.5 cover nothing"),
  ],
)
def test_warnings(scalars, words):
  (sentence,) = health.warnings(scalars, 7)
  assert words in sentence


def test_no_warnings_of_a_healthy_model():
  assert not health.warnings({"mask_similarity": 0.39, "dead_slots": 2.0}, 7)
  assert not health.warnings({}, 7)
