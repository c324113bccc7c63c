import numpy as np
import pytest

from slot_attention.data import preprocess
from slot_attention.data import resizing

tf = pytest.importorskip("tensorflow")

SIZES = [
  ((192, 192, 3), (128, 128)),
  ((240, 320, 3), (37, 53)),
  ((35, 35, 3), (64, 64)),
  ((64, 64, 1), (35, 100)),
  ((7, 9, 3), (7, 9)),
]


@pytest.mark.parametrize("shape, resolution", SIZES)
def test_images_as_tensorflow(shape, resolution):
  image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
  expected = preprocess.resize_bilinear(image.astype(np.float32), resolution)
  resized = resizing.resize_bilinear(image, resolution)
  assert resized.dtype == np.uint8
  np.testing.assert_array_equal(resized, np.rint(expected.numpy()))


@pytest.mark.parametrize("shape, resolution", SIZES)
def test_labels_as_tensorflow(shape, resolution):
  labels = np.random.default_rng(0).integers(0, 11, shape[:2], np.uint8)
  expected = preprocess.resize_nearest(labels[..., None], resolution)
  resized = resizing.resize_nearest(labels, resolution)
  np.testing.assert_array_equal(resized, np.asarray(expected)[..., 0])


def test_labels_by_hand():
  labels = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
  resized = resizing.resize_nearest(labels, (1, 5))
  assert resized.tolist() == [[1, 1, 2, 2, 3]]
