import made_up_records
import numpy as np
import pytest

from slot_attention.data.official import multi_object_specs
from slot_attention.data.official import official_records


def flat(arrays):
  return {name: array.ravel() for name, array in arrays.items()}


@pytest.mark.parametrize("name", sorted(multi_object_specs.SPECS))
def test_shapes_and_names(name):
  (example,) = made_up_records.examples(name, 1)
  spec = multi_object_specs.SPECS[name]
  arrays = official_records.to_arrays(flat(example), spec)
  assert set(arrays) == set(example)
  for key, array in arrays.items():
    np.testing.assert_array_equal(array, example[key])
  assert official_records.identify(flat(example)) == name
  masks = official_records.masks(arrays, spec)
  assert masks.shape == (spec.num_entities, *example["image"].shape[:2])
  labels = official_records.label_map(masks)
  np.testing.assert_array_equal(labels, masks.argmax(0))
  assert labels.dtype == np.uint8
  # The made-up entities that are visible are seen.
  seen = len(np.setdiff1d(labels, [0]))
  assert official_records.count_objects(arrays, spec) == seen > 0


def test_unknown_features():
  assert official_records.identify({"x": np.zeros(3, np.float32)}) is None


def test_masks_that_do_not_fit():
  masks = np.zeros((4, 1, 3), np.uint8)
  masks[0, 0, 0] = masks[1, 0, 1:] = masks[3, 0, 1] = masks[2, 0, 1] = 255
  masks[1, 0, 2] = 1
  masks[0, 0, 0] = 0
  assert official_records.label_map(masks).tolist() == [[0, 3, 1]]
