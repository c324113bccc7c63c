import pathlib
import time

import numpy as np
import pytest

from slot_attention.metrics import average_precision as ap_lib

GOLDEN = np.load(
  pathlib.Path(__file__).parents[1] / "data" / "google_tf_metrics.npz"
)


def _scenes(num_images, num_objects=10, seed=0):
  """Returns [n, o, 19] targets with 1 to `num_objects` objects."""
  rng = np.random.default_rng(seed)
  targets = np.zeros((num_images, num_objects, 19), np.float32)
  targets[..., :3] = rng.random((num_images, num_objects, 3))
  for part in ap_lib.ATTRIBUTES.values():
    classes = np.eye(part.stop - part.start, dtype=np.float32)
    labels = rng.integers(len(classes), size=(num_images, num_objects))
    targets[..., part] = classes[labels]
  targets[..., 18] = 1
  counts = rng.integers(1, num_objects + 1, size=(num_images, 1))
  targets[np.arange(num_objects) >= counts] = 0
  return targets


def _one_object(distance=0.0, presence=1.0):
  """Returns [1, 1, 19], an object `distance` scene units from the origin."""
  item = np.zeros((1, 1, 19), np.float32)
  item[0, 0, [3, 5, 7, 10]] = 1
  item[0, 0, 0] = distance / 6
  item[0, 0, 18] = presence
  return item


@pytest.mark.parametrize("case", GOLDEN["ap_cases"].tolist())
def test_values_of_the_original(case):
  values = ap_lib.average_precision(
    GOLDEN[f"ap/{case}/pred"], GOLDEN[f"ap/{case}/target"]
  )
  # The original writes infinity as -1.
  assert list(values)[1:] == GOLDEN["ap_thresholds"].tolist()[1:]
  np.testing.assert_allclose(
    list(values.values()), GOLDEN[f"ap/{case}/values"], rtol=0, atol=1e-12
  )


def test_only_the_asked_thresholds():
  targets = _scenes(4)
  values = ap_lib.average_precision(targets, targets, thresholds=(0.3,))
  assert values == {0.3: 1.0}


def test_threshold_is_strict():
  predictions = _one_object(distance=0.75)
  values = ap_lib.average_precision(
    predictions, _one_object(), thresholds=(0.75, 0.7500001)
  )
  assert list(values.values()) == [0.0, 1.0]


def test_second_detection_of_an_object_is_wrong():
  targets = np.concatenate([_one_object(), _one_object(distance=3)], 1)
  predictions = np.concatenate(
    [_one_object(0.1, presence=0.9), _one_object(0.2, presence=0.8)], 1
  )
  value = ap_lib.average_precision(predictions, targets, (np.inf,))[np.inf]
  assert value == pytest.approx(0.5)


def test_a_miss_takes_nothing():
  # The higher-ranked one is too far to count, so the other is a hit.
  predictions = np.concatenate(
    [_one_object(0.9, presence=0.9), _one_object(0.1, presence=0.8)], 1
  )
  values = ap_lib.average_precision(predictions, _one_object(), (np.inf, 0.5))
  assert values[np.inf] == 1.0
  assert values[0.5] == pytest.approx(0.5)


def test_equal_presence_ranks_the_later_prediction_first():
  predictions = np.concatenate([_one_object(0.9), _one_object(0.1)], 1)
  assert ap_lib.average_precision(predictions, _one_object(), (0.5,)) == {
    0.5: 1.0
  }


def test_many_equal_presences_are_ranked_by_their_place():
  # Small arrays are sorted stably whatever the algorithm; this is a large one.
  targets = _scenes(300)
  rng = np.random.default_rng(1)
  predictions = targets + rng.normal(0, 0.1, targets.shape)
  predictions[..., 18] = rng.integers(3, size=(300, 10))
  ranked = predictions.copy()
  ranked[..., 18] *= 3000
  ranked[..., 18] += np.arange(3000).reshape(300, 10)
  assert ap_lib.average_precision(
    predictions, targets
  ) == ap_lib.average_precision(ranked, targets)


def test_nothing_is_found_ten_thousand_units_away():
  values = [
    ap_lib.average_precision(_one_object(x), _one_object(), (np.inf,))[np.inf]
    for x in (9990.0, 10010.0)
  ]
  assert values == [1.0, 0.0]


def test_objects_of_other_images_are_not_found():
  targets = np.concatenate([_one_object(), np.zeros((1, 1, 19))])
  predictions = np.concatenate([np.zeros((1, 1, 19)), _one_object()])
  # The zero prediction has the attributes of the object by argmax's ties.
  predictions[0, 0, [3, 4]] = 0, 1
  assert ap_lib.average_precision(predictions, targets, (np.inf,)) == {
    np.inf: 0.0
  }


def test_no_object_in_the_whole_set_is_nan():
  empty = np.zeros((2, 3, 19), np.float32)
  assert np.isnan(list(ap_lib.average_precision(empty, empty).values())).all()


def test_not_finite_prediction_is_nan():
  targets = _scenes(3)
  predictions = targets.copy()
  predictions[2, 1, 4] = np.nan
  values = ap_lib.average_precision(predictions, targets)
  assert np.isnan(list(values.values())).all()


def test_wrong_shapes_are_named():
  with pytest.raises(
    ValueError, match=r"\(2, 3, 18\) and targets \(2, 3, 19\)"
  ):
    ap_lib.average_precision(np.zeros((2, 3, 18)), np.zeros((2, 3, 19)))
  with pytest.raises(ValueError, match="of the same images"):
    ap_lib.average_precision(np.zeros((1, 3, 19)), np.zeros((2, 3, 19)))


def test_two_thousand_images_take_less_than_a_second():
  targets = _scenes(2000)
  rng = np.random.default_rng(1)
  predictions = targets + rng.normal(0, 0.1, targets.shape)
  start = time.process_time()
  ap_lib.average_precision(predictions, targets)
  assert time.process_time() - start < 1


def _identity(targets):
  indices = np.arange(targets.shape[1])
  return np.broadcast_to(indices, targets.shape[:2])


def test_attribute_accuracy_of_the_truth_is_one():
  targets = _scenes(5)
  rows = _identity(targets)
  columns = rows[:, ::-1]
  accuracy = ap_lib.attribute_accuracy(targets[:, ::-1], targets, rows, columns)
  assert accuracy == dict.fromkeys(
    ("size", "material", "shape", "color", "all"), 1.0
  )


def test_attribute_accuracy_counts_real_objects_only():
  targets = _scenes(1, num_objects=4)
  targets[0] = targets[0, 0]
  targets[0, 2:] = 0
  predictions = targets.copy()
  predictions[0, 0, 10:18] = np.roll(targets[0, 0, 10:18], 1)  # colour
  predictions[0, 1, 5:7] = targets[0, 1, [6, 5]]  # material
  predictions[0, 2:, 4] = 1  # padding: no matter
  rows = _identity(targets)
  assert ap_lib.attribute_accuracy(predictions, targets, rows, rows) == {
    "size": 1.0,
    "material": 0.5,
    "shape": 1.0,
    "color": 0.5,
    "all": 0.0,
  }


def test_attribute_accuracy_counts_unmatched_objects_as_wrong():
  targets = np.repeat(_one_object(), 4, axis=1)
  pairs = np.array([[1, 3]]), np.array([[0, 1]])
  accuracy = ap_lib.attribute_accuracy(targets[:, :2], targets, *pairs)
  assert set(accuracy.values()) == {0.5}


def test_attribute_accuracy_without_objects_is_nan():
  empty = np.zeros((2, 3, 19))
  rows = _identity(empty)
  accuracy = ap_lib.attribute_accuracy(empty, empty, rows, rows)
  assert np.isnan(list(accuracy.values())).all()
