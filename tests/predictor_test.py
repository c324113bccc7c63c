"""A trained model as a function of images."""

import numpy as np
import pytest

import slot_attention


@pytest.fixture(scope="module")
def workdir(set_prediction_run):
  return str(set_prediction_run.workdir)


@pytest.fixture(scope="module")
def predictor(workdir):
  return slot_attention.load(workdir)


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)


def test_shapes_and_types(predictor):
  outputs = predictor(IMAGES)
  assert outputs["predictions"].shape == (2, 4, 19)
  assert outputs["attention"].shape == (2, 3, 4, 64)
  assert outputs["slots"].shape == (2, 4, 8)
  assert all(isinstance(value, np.ndarray) for value in outputs.values())
  assert 0 < outputs["predictions"].min() < outputs["predictions"].max() < 1


def test_bytes_and_floats_mean_the_same(predictor):
  scaled = (IMAGES.astype(np.float32) / 255 - 0.5) * 2
  np.testing.assert_allclose(
    predictor(IMAGES)["predictions"],
    predictor(scaled)["predictions"],
    atol=1e-6,
  )


def test_noise_slots_iterations_and_seed(predictor):
  noise = np.random.default_rng(1).normal(size=(2, 7, 8)).astype(np.float32)
  one = predictor(IMAGES, slot_noise=noise, num_iterations=5)
  assert one["attention"].shape == (2, 5, 7, 64)
  same = predictor(IMAGES, slot_noise=noise, num_iterations=5, seed=9)
  np.testing.assert_array_equal(one["slots"], same["slots"])
  zero, again, other = (predictor(IMAGES, seed=s)["slots"] for s in (0, 0, 1))
  np.testing.assert_array_equal(zero, again)
  assert np.abs(zero - other).max() > 0


def test_checkpoint_is_chosen_by_name_or_step(workdir):
  assert slot_attention.load(workdir, step=2).step == 2
  assert slot_attention.load(workdir, step="best").step in (2, 4)
  with pytest.raises(FileNotFoundError, match=r"no checkpoint 3; .*\[2, 4\]"):
    slot_attention.load(workdir, step=3)


@pytest.mark.parametrize(
  ("images", "sentence"),
  [
    (np.zeros((2, 32, 32, 3), np.uint8), "resize them first"),
    (np.zeros((16, 16, 3), np.uint8), "resize them first"),
    (np.zeros((1, 16, 16, 3), np.int64), "give uint8"),
    (np.full((1, 16, 16, 3), 255.0), "scale them to"),
  ],
)
def test_bad_images_are_one_sentence(predictor, images, sentence):
  with pytest.raises(ValueError, match=sentence):
    predictor(images)
