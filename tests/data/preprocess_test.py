import pathlib

import numpy as np
import pytest

from slot_attention.data import preprocess

tf = pytest.importorskip("tensorflow")

REFERENCE = np.load(
  pathlib.Path(__file__).parent / "google_tf_preprocess.npz",
  allow_pickle=False,
)
# What the 2020 code crops: rows 29 to 220, columns 64 to 255.
CROP = (29, 64, 192, 192)


def reference_objects(i: int) -> dict[str, np.ndarray]:
  prefix = f"objects_{i}/"
  return {
    key.removeprefix(prefix): value
    for key, value in REFERENCE.items()
    if key.startswith(prefix)
  }


def in_dataset(function, argument):
  """Runs a function as the pipeline does: in a graph, of unknown shapes."""
  signature = tf.nest.map_structure(
    lambda x: tf.TensorSpec([None] * (x.ndim > 0) + [*x.shape[1:]], x.dtype),
    argument,
  )
  dataset = tf.data.Dataset.from_generator(
    lambda: iter([argument]), output_signature=signature
  )
  return next(dataset.map(function).as_numpy_iterator())


@pytest.mark.parametrize("name, crop", [("full", None), ("crop", CROP)])
@pytest.mark.parametrize("resolution", [64, 128])
def test_images_are_those_of_the_original(name, crop, resolution):
  example = {
    "image": REFERENCE["image_uint8"],
    "objects": reference_objects(0),
  }
  result = in_dataset(
    lambda x: preprocess.preprocess_clevr(x, (resolution, resolution), crop),
    example,
  )
  assert result["image"].shape == (resolution, resolution, 3)
  assert result["image"].dtype == np.float32
  if resolution == 64:
    image, expected = result["image"], REFERENCE[f"image_{name}_64"]
  else:
    image = result["image"][1::4]
    expected = REFERENCE[f"image_{name}_128_rows_1_5_9"]
  np.testing.assert_allclose(image, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("i, num_objects", [(0, 3), (1, 10)])
def test_targets_are_those_of_the_original(i, num_objects):
  example = {
    "image": REFERENCE["image_uint8"],
    "objects": reference_objects(i),
  }
  result = in_dataset(lambda x: preprocess.preprocess_clevr(x, (8, 8)), example)
  np.testing.assert_allclose(
    result["target"], REFERENCE[f"target_{i}"], rtol=0, atol=1e-6
  )
  assert result["num_objects"] == num_objects
  assert result["num_objects"].dtype == np.int32
  assert not result["target"][num_objects:].any()


def test_coordinates_outside_the_floor_are_not_clipped():
  objects = reference_objects(0)
  objects["3d_coords"] = objects["3d_coords"] + np.float32(9.0)
  target = in_dataset(lambda x: preprocess.clevr_target(x, 4), objects)
  assert target.shape == (4, 19)
  np.testing.assert_allclose(
    target[:3, :3], REFERENCE["target_0"][:3, :3] + 1.5, rtol=0, atol=1e-6
  )


def test_more_objects_than_rows_is_an_error():
  with pytest.raises(tf.errors.InvalidArgumentError, match="more objects than"):
    in_dataset(lambda x: preprocess.clevr_target(x, 9), reference_objects(1))


def test_crop_beyond_the_image_is_an_error():
  image = np.zeros((200, 300, 3), np.float32)
  with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
    in_dataset(lambda x: preprocess.crop_image(x, CROP), image)


def test_black_and_white_are_minus_one_and_one():
  image = np.array([[[0, 255, 51]]], np.uint8)
  result = in_dataset(preprocess.normalize_image, image)
  np.testing.assert_allclose(result, [[[-1.0, 1.0, -0.6]]], rtol=0, atol=1e-6)


def floor_rows(old, new):
  return [i * old // new for i in range(new)]


@pytest.mark.parametrize("old, new", [(192, 128), (7, 12), (5, 5), (240, 128)])
def test_nearest_takes_the_floor(old, new):
  image = np.random.default_rng(0).integers(0, 256, (old, 9, 3), np.uint8)
  result = in_dataset(lambda x: preprocess.resize_nearest(x, (new, 4)), image)
  expected = image[floor_rows(old, new)][:, floor_rows(9, 4)]
  np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_batches_are_preprocessed_as_single_images(interpolation):
  images = np.random.default_rng(1).integers(0, 256, (3, 20, 30, 3), np.uint8)
  crop = (2, 5, 16, 24)
  batch = preprocess.preprocess_image(images, (8, 10), crop, interpolation)
  for image, result in zip(images, batch.numpy(), strict=True):
    expected = preprocess.preprocess_image(image, (8, 10), crop, interpolation)
    np.testing.assert_array_equal(result, expected)


def test_paper_c_crops_the_centre_and_takes_the_nearest():
  image = REFERENCE["image_uint8"]
  crop = (24, 64, 192, 192)
  result = preprocess.preprocess_clevr(
    {"image": image, "objects": reference_objects(0)},
    (128, 128),
    crop,
    interpolation="nearest",
  )
  places = floor_rows(192, 128)
  expected = image[24:216, 64:256][places][:, places] / 127.5 - 1
  np.testing.assert_allclose(result["image"], expected, rtol=0, atol=1e-6)


def test_segmentation_is_cropped_and_keeps_its_labels():
  labels = np.random.default_rng(2).integers(0, 11, (2, 20, 30), np.uint8)
  result = preprocess.preprocess_segmentation(labels, (8, 10), (2, 5, 16, 24))
  rows, columns = floor_rows(16, 8), floor_rows(24, 10)
  expected = labels[:, 2:18, 5:29][:, rows][:, :, columns]
  np.testing.assert_array_equal(result, expected)
  assert result.dtype == tf.uint8
