import time

import numpy as np
import pytest

from slot_attention.data import record_index
from slot_attention.data import record_source

tf = pytest.importorskip("tensorflow")


def test_order_is_kept_when_decoding_takes_uneven_time(tmp_path):
  path = tmp_path / "data.tfrecord"
  with tf.io.TFRecordWriter(str(path)) as writer:
    for i in range(40):
      writer.write(str(i).encode())

  def slow_number(record):
    number = int(record)
    time.sleep(0.01 * (number % 4 == 0))
    return np.int64(number)

  def decode(record):
    number = tf.numpy_function(slow_number, [record], tf.int64)
    return {"image": tf.ensure_shape(number, [])}

  index = record_index.RecordIndex.build([path])
  numbers = tf.data.Dataset.range(40)
  decoded = record_source.map_records(index, numbers, decode)
  assert [int(x["image"]) for x in decoded] == list(range(40))
  source = record_source.RecordSource(index, np.arange(40), decode)
  batches = list(source.eval_batches(16, slice(0, 16)))
  images = np.concatenate([batch["image"] for batch in batches])
  assert images.tolist() == [*range(40)] + [0] * 8
  assert [batch["valid"].sum() for batch in batches] == [16, 16, 8]


def test_permutations_of_a_large_set_are_uncorrelated():
  """Neighbours in the files must not stay neighbours."""
  size = 70_000
  records = np.arange(size)
  places = tf.data.Dataset.range(2000).map(
    lambda p: record_source.shuffle(p + 35_000, 0, records)
  )
  order = np.fromiter(places.as_numpy_iterator(), np.int64)
  assert len(set(order)) == 2000
  assert np.mean(np.abs(np.diff(order)) < 100) < 0.01
  # Uniform numbers have mean size / 2 with a deviation of size / sqrt(12 n).
  deviation = size / np.sqrt(12 * 2000)
  assert abs(order.mean() - size / 2) < 4 * deviation
