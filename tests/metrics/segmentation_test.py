"""mBO and mIoU against their definitions, one image and one pair at a time."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.metrics import segmentation

_jitted = jax.jit(
  segmentation.overlaps, static_argnames=("num_objects", "num_predicted")
)


def _iou(a, b):
  union = np.logical_or(a, b).sum()
  return np.logical_and(a, b).sum() / union if union else 0.0


def _by_hand(true, predicted, num_predicted):
  """Tries all assignments of one image; returns mBO and mIoU."""
  table = [
    [_iou(true == i, predicted == k) for k in range(num_predicted)]
    for i in np.unique(true[true > 0])
  ]
  best = sum(max(row) for row in table) / len(table)
  # None stands for an object without a segment.
  choices = [*range(num_predicted), *[None] * len(table)]
  matched = max(
    sum(row[k] for row, k in zip(table, pick, strict=True) if k is not None)
    for pick in itertools.permutations(choices, len(table))
  )
  return best, matched / len(table)


# More objects than segments, as many, and fewer.
@pytest.mark.parametrize("num_predicted", [2, 3, 5])
@pytest.mark.parametrize("noise", [0.0, 0.4, 1.0])
def test_definitions(num_predicted, noise):
  rng = np.random.default_rng(num_predicted)
  true = rng.integers(4, size=(6, 40))
  true[0][true[0] == 2] = 0  # An object that is not visible.
  true[1] = np.where(true[1] > 0, 3, 0)  # Only the last one is.
  predicted = np.where(
    rng.random(true.shape) < noise, rng.integers(99, size=true.shape), true
  )
  predicted = predicted % num_predicted
  values = _jitted(true, predicted, num_objects=3, num_predicted=num_predicted)
  by_hand = [
    _by_hand(t, p, num_predicted) for t, p in zip(true, predicted, strict=True)
  ]
  for name, expected in zip(
    ("mbo", "miou"), np.transpose(by_hand), strict=True
  ):
    assert values[name].shape == (6,) and values[name].dtype == jnp.float32
    np.testing.assert_allclose(values[name], expected, atol=1e-6)


def test_one_segment_serves_several_objects_in_mbo_only():
  true = np.array([[0, 0, 1, 1, 2, 2]])
  values = _jitted(true, 0 * true, num_objects=2, num_predicted=1)
  np.testing.assert_allclose(values["mbo"], [2 / 6], rtol=1e-6)
  np.testing.assert_allclose(values["miou"], [1 / 6], rtol=1e-6)


def test_background_in_a_segment_costs():
  true = np.array([[0, 0, 1, 1]])
  for predicted, expected in (([1, 0, 2, 2], 1.0), ([1, 0, 0, 0], 2 / 3)):
    values = _jitted(
      true, np.array([predicted]), num_objects=1, num_predicted=3
    )
    for value in values.values():
      np.testing.assert_allclose(value, [expected], rtol=1e-6)


def test_without_objects_neither_is_defined():
  true = np.zeros((2, 8), int)
  true[1, :3] = 2
  values = _jitted(true, true, num_objects=2, num_predicted=3)
  for value in values.values():
    np.testing.assert_array_equal(value, [np.nan, 1.0])


@pytest.mark.parametrize("which", [0, 1])
def test_an_id_out_of_range_is_nan_for_its_image_alone(which):
  ids = np.ones((2, 2, 8), int)
  ids[which, 0, 3] = 3
  values = _jitted(*ids, num_objects=2, num_predicted=3)
  for value in values.values():
    np.testing.assert_array_equal(np.isnan(value), [True, False])


def test_the_order_of_slots_and_of_ids_does_not_matter():
  rng = np.random.default_rng(0)
  true, predicted = rng.integers(5, size=(2, 3, 60))
  score = functools.partial(_jitted, num_objects=4, num_predicted=5)
  values = score(true, predicted)
  others = score(np.array([0, 3, 1, 4, 2])[true], rng.permutation(5)[predicted])
  for name, value in values.items():
    np.testing.assert_allclose(others[name], value, atol=1e-6)
