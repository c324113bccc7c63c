import itertools

import jax
import numpy as np
import pytest

from slot_attention import configuration
from slot_attention import sharding
from slot_attention.data import pipeline
from slot_attention.data import stored

pytest.importorskip("tensorflow")

COUNT = 300  # More than are read at a time.


@pytest.fixture(scope="module")
def directory(multi_object_directory):
  return multi_object_directory("tetrominoes", "converted", COUNT)


def open_source(directory, num_devices=4, **changes):
  config = configuration.get_default().data
  config.source, config.dataset = "multi_object_datasets", "tetrominoes"
  config.data_dir = str(directory)
  config.split_sizes, config.resolution = (COUNT - 10, 5, 5), (35, 35)
  config.min_num_objects = 2
  config.update(changes)
  return pipeline.open_source(
    config, "train", sharding.create_mesh(num_devices)
  )


def equal(batch, other):
  assert batch.keys() == other.keys()
  for name in batch:
    assert batch[name].dtype == other[name].dtype
    np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


@pytest.mark.parametrize("num_devices", [1, 4])
def test_same_batches_as_from_the_host(directory, num_devices):
  source = open_source(directory, num_devices, keep_on_devices=True)
  assert isinstance(source, stored.StoredSource)
  host = open_source(directory, num_devices)
  assert source.num_examples == host.num_examples < COUNT - 10
  # Into the third epoch.
  batches = [x.train_batches(64, 3, 7) for x in (source, host)]
  for batch, expected in itertools.islice(zip(*batches, strict=True), 6):
    equal(batch, expected)
    assert len(batch["image"].sharding.device_set) == num_devices
  batches = [x.eval_batches(64, 0) for x in (source, host)]
  for batch, expected in zip(*batches, strict=True):
    equal(batch, expected)


def test_a_run_goes_on_in_the_middle(directory):
  source = open_source(directory, keep_on_devices=True)
  later = next(source.train_batches(8, 1, 5))
  equal(later, next(itertools.islice(source.train_batches(8, 1, 0), 5, None)))


def test_what_is_kept(directory):
  source = open_source(directory, keep_on_devices=True)
  assert set(source._examples) == {"image", "segmentation", "num_objects"}
  assert source._examples["image"].dtype == np.uint8
  assert source._examples["segmentation"].dtype == np.uint8


def test_images_that_are_not_of_8_bits(directory):
  source = open_source(directory, keep_on_devices=True, resolution=(24, 24))
  with pytest.raises(ValueError, match=r"not of 8 bits .* `python -m .*conver"):
    next(source.train_batches(8, 0, 0))


def test_labels_beyond_8_bits_keep_their_type():
  labels = np.full((2, 3, 3), 300, np.int32)
  assert stored._pack("segmentation", labels).dtype == np.int32
  batch = stored._take({"segmentation": labels}, np.array([1, 1]))
  np.testing.assert_array_equal(batch["segmentation"], labels)


def test_labels_beyond_8_bits_that_come_late():
  labels = np.zeros((COUNT, 2, 2), np.int32)
  labels[-1] = 300
  chunks = np.split(labels, [256])

  class Reader:
    num_examples = COUNT

    def eval_batches(self, *_):
      yield from ({"segmentation": chunk} for chunk in chunks)

  np.testing.assert_array_equal(stored._read(Reader())["segmentation"], labels)


def test_every_level_comes_back():
  levels = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1)
  image = (levels / np.float32(255.0) - np.float32(0.5)) * np.float32(2.0)
  for rows in (image, levels.astype(np.uint8)):
    back = jax.jit(stored._take)(
      {"image": stored._pack("image", rows)}, np.array([0])
    )
    np.testing.assert_array_equal(back["image"], image)
