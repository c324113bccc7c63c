"""Flips and gray images: functions of (seed, step), on any devices."""

import itertools

import jax
import numpy as np
import pytest

from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import sharding
from slot_attention.data import augment
from slot_attention.data import pipeline

BATCH = 8


class NumberedSource:
  """Images whose left half differs from the right one, of every step."""

  num_examples = 24

  def __init__(self, mesh):
    self.mesh = mesh

  def _batch(self, step):
    rng = np.random.default_rng(step)
    image = rng.uniform(-1, 1, (BATCH, 4, 6, 3)).astype(np.float32)
    batch = {
      "image": image,
      "segmentation": rng.integers(0, 7, (BATCH, 4, 6)).astype(np.int32),
      "num_objects": np.full(BATCH, step, np.int32),
    }
    return sharding.shard_batch(batch, self.mesh)

  def train_batches(self, batch_size, seed, start_step):
    del batch_size, seed
    return map(self._batch, itertools.count(start_step))

  def eval_batches(self, batch_size, num_examples):
    del batch_size, num_examples
    return map(self._batch, range(3))


def make_mesh(devices=4):
  return jax.make_mesh(
    (devices,),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:devices],
  )


def open_source(devices=4, horizontal_flip=True, grayscale=False):
  mesh = make_mesh(devices)
  return augment.AugmentedSource(
    NumberedSource(mesh), mesh, horizontal_flip, grayscale
  )


def take(batches, count):
  return [jax.device_get(x) for x in itertools.islice(batches, count)]


def which_flipped(batch, plain):
  """Says which images are mirrored, and that all others are as they were."""
  result = []
  for i in range(BATCH):
    flipped = np.array_equal(batch["image"][i], plain["image"][i][:, ::-1])
    kept = np.array_equal(batch["image"][i], plain["image"][i])
    assert flipped != kept
    expected = plain["segmentation"][i]
    expected = expected[:, ::-1] if flipped else expected
    np.testing.assert_array_equal(batch["segmentation"][i], expected)
    result.append(flipped)
  return result


def test_half_of_the_images_are_flipped_with_their_segmentations():
  plain = take(NumberedSource(make_mesh()).train_batches(BATCH, 0, 0), 40)
  batches = take(open_source().train_batches(BATCH, 0, 0), 40)
  flips = np.array(list(map(which_flipped, batches, plain)))
  # The standard deviation of a mean of 320 coins is 0.028.
  assert abs(flips.mean() - 0.5) < 0.12
  assert flips.mean(axis=0).min() > 0.1 and flips.mean(axis=0).max() < 0.9
  assert len(set(map(tuple, flips))) > 30
  for batch, source in zip(batches, plain, strict=True):
    np.testing.assert_array_equal(batch["num_objects"], source["num_objects"])


@pytest.mark.parametrize("devices", [1, 2])
def test_flips_are_the_same_on_any_number_of_devices(devices):
  for one, four in zip(
    take(open_source(devices).train_batches(BATCH, 3, 5), 4),
    take(open_source(4).train_batches(BATCH, 3, 5), 4),
    strict=True,
  ):
    np.testing.assert_array_equal(one["image"], four["image"])
    np.testing.assert_array_equal(one["segmentation"], four["segmentation"])


def test_batches_stay_divided_over_the_devices():
  batch = next(open_source(grayscale=True).train_batches(BATCH, 0, 0))
  for value in batch.values():
    assert value.sharding.is_equivalent_to(
      sharding.batched(make_mesh()), value.ndim
    )


def test_flips_are_a_function_of_seed_and_step():
  whole = take(open_source().train_batches(BATCH, 3, 0), 6)
  started = take(open_source().train_batches(BATCH, 3, 4), 2)
  other = take(open_source().train_batches(BATCH, 4, 4), 2)
  for a, b, c in zip(whole[4:], started, other, strict=True):
    np.testing.assert_array_equal(a["image"], b["image"])
    assert (a["image"] != c["image"]).any()


def test_evaluation_is_not_flipped():
  plain = NumberedSource(make_mesh()).eval_batches(BATCH, 24)
  for batch, expected in zip(
    open_source().eval_batches(BATCH, 24), plain, strict=True
  ):
    np.testing.assert_array_equal(batch["image"], expected["image"])


def test_gray_images_in_training_and_evaluation():
  source = open_source(horizontal_flip=False, grayscale=True)
  plain = NumberedSource(make_mesh())
  for batch, expected in (
    (
      next(source.train_batches(BATCH, 0, 7)),
      next(plain.train_batches(BATCH, 0, 7)),
    ),
    (next(source.eval_batches(BATCH, 0)), next(plain.eval_batches(BATCH, 0))),
  ):
    image = np.asarray(expected["image"], np.float64)
    luma = image @ np.array([0.299, 0.587, 0.114])
    for channel in range(3):
      np.testing.assert_allclose(
        batch["image"][..., channel], luma, rtol=0, atol=1e-6
      )
    np.testing.assert_array_equal(
      batch["segmentation"], expected["segmentation"]
    )


def test_black_and_white_stay_within_the_range():
  extremes = np.array([-1.0, 1.0], np.float32)[:, None, None, None]
  image = np.broadcast_to(extremes, (2, 3, 4, 3))
  gray = np.asarray(augment.to_gray(image))
  np.testing.assert_allclose(gray, image, rtol=0, atol=2e-7)
  assert np.abs(gray).max() <= 1.0


@pytest.mark.parametrize("source", sorted(pipeline.SOURCES))
@pytest.mark.parametrize("horizontal_flip", [False, True])
@pytest.mark.parametrize("grayscale", [False, True])
def test_every_source_is_wrapped(
  monkeypatch, source, horizontal_flip, grayscale
):
  mesh = make_mesh()
  plain = NumberedSource(mesh)
  monkeypatch.setitem(pipeline.SOURCES, source, lambda *_: plain)
  config = configuration.get_default().data
  config.source = source
  config.horizontal_flip = horizontal_flip
  config.grayscale = grayscale
  opened = pipeline.open_source(config, "train", mesh)
  assert opened.num_examples == 24
  if not horizontal_flip and not grayscale:
    assert opened is plain
    return
  batch = next(opened.train_batches(BATCH, 0, 0))
  expected = open_source(4, horizontal_flip, grayscale)
  expected = next(expected.train_batches(BATCH, 0, 0))
  np.testing.assert_array_equal(batch["image"], expected["image"])


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("horizontal_flip", True, "whose coordinates are not flipped"),
    ("source", "multi_object_datasets", "are read without targets"),
    ("split_sizes", (0, 1, 1), "train more than 0"),
    ("split_sizes", (5, -1, 1), "0 or more"),
    ("split_sizes", (5, 1), "three numbers of records"),
    ("dataset", "tetrominoes", "clevr where data.source is clevr"),
  ],
)
def test_configs_that_cannot_work(key, value, message):
  config = configuration.get_default()
  config.data[key] = value
  with pytest.raises(configuration.ConfigError, match=message) as error:
    config_validation.validate(config)
  assert f"config.data.{key} is {value!r}" in str(error.value)
