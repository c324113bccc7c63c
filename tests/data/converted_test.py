import json

import numpy as np
import pytest

from slot_attention.data import converted
from slot_attention.data.records import record_stream

tf = pytest.importorskip("tensorflow")

SHAPE = (35, 35)


def arrays(count):
  rng = np.random.default_rng(0)
  return (
    rng.integers(0, 256, (count, *SHAPE, 3), np.uint8),
    rng.integers(0, 4, (count, *SHAPE), np.uint8),
    rng.integers(0, 4, count, np.uint8),
  )


def records(count):
  factors = {"x": np.ones(4, np.float32), "code": np.arange(5, dtype=np.uint8)}
  return [
    converted.encode(image, labels, int(number), factors)
    for image, labels, number in zip(*arrays(count), strict=True)
  ]


def write(directory, lengths=(3, 2), **changes):
  """Writes a small converted data set by hand."""
  shards, content = [], records(sum(lengths))
  for i, length in enumerate(lengths):
    shard = b"".join(map(record_stream.frame, content[:length]))
    (directory / f"shard-{i}").write_bytes(shard)
    shards.append({"file": f"shard-{i}", "num_records": length})
    del content[:length]
  np.save(directory / "num_objects.npy", arrays(sum(lengths))[2])
  values = {
    "format_version": 1,
    "dataset": "tetrominoes",
    "crop": [],
    "resolution": list(SHAPE),
    "channels": 3,
    "resized": False,
    "source": {"file": "somewhere.tfrecords", "bytes": 12},
    "shards": shards,
  }
  (directory / "info.json").write_text(json.dumps(values | changes))
  return directory


def test_reads_the_description(tmp_path):
  info = converted.read_info(write(tmp_path))
  assert info.dataset == "tetrominoes"
  assert (info.crop, info.resolution, info.channels) == ((), SHAPE, 3)
  assert not info.resized
  assert info.source == {"file": "somewhere.tfrecords", "bytes": 12}
  assert info.paths == (str(tmp_path / "shard-0"), str(tmp_path / "shard-1"))
  assert info.shard_lengths == (3, 2)
  assert info.num_records == 5
  np.testing.assert_array_equal(info.num_objects, arrays(5)[2])


def test_decodes_one_and_many(tmp_path):
  info = converted.read_info(write(tmp_path))
  images, labels, counts = arrays(5)
  dataset = tf.data.TFRecordDataset(list(info.paths))
  single = list(dataset.map(lambda x: converted.decode(x, info)))
  (batch,) = dataset.batch(8).map(lambda x: converted.decode_batch(x, info))
  assert single[0]["image"].shape == (*SHAPE, 3)
  for values in ({k: [x[k] for x in single] for k in batch}, batch):
    np.testing.assert_array_equal(values["image"], images)
    np.testing.assert_array_equal(values["segmentation"], labels)
    np.testing.assert_array_equal(values["num_objects"], counts)
  assert batch["image"].dtype == tf.uint8
  assert batch["segmentation"].dtype == tf.uint8
  assert batch["num_objects"].dtype == tf.int32


def test_factors_stay():
  parsed = tf.io.parse_single_example(
    records(1)[0],
    {
      "x": tf.io.FixedLenFeature((4,), tf.float32),
      "code": tf.io.FixedLenFeature((), tf.string),
    },
  )
  np.testing.assert_array_equal(parsed["x"], np.ones(4))
  assert parsed["code"].numpy() == bytes(range(5))


def test_records_of_another_size(tmp_path):
  info = converted.read_info(write(tmp_path, resolution=[70, 35]))
  with pytest.raises(tf.errors.InvalidArgumentError):
    converted.decode_batch(tf.constant(records(2)), info)


def test_no_data_set(tmp_path):
  assert converted.read_info(tmp_path) is None
  assert converted.read_info(tmp_path / "missing") is None


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"format_version": 2}, "is of format version 2, but this code reads 1"),
    ({"dataset": "mnist"}, r"does not describe .* \(KeyError\('mnist'\)\)"),
    ({"resolution": 35}, "does not describe a converted data set"),
    ({"shards": []}, "is for 5 records, but info.json names 0"),
  ],
)
def test_damaged_descriptions(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    converted.read_info(write(tmp_path, **changes))


def test_description_that_is_no_json(tmp_path):
  (tmp_path / "info.json").write_text("{")
  with pytest.raises(ValueError, match="does not describe a converted"):
    converted.read_info(tmp_path)


@pytest.mark.parametrize("name", ["shard-1", "num_objects.npy"])
def test_missing_files(tmp_path, name):
  (write(tmp_path) / name).unlink()
  with pytest.raises(FileNotFoundError, match=name):
    converted.read_info(tmp_path)
