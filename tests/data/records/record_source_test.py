import dataclasses
import errno
import itertools
import os
import time

import numpy as np
import pytest

from slot_attention.data.records import record_index
from slot_attention.data.records import record_retry
from slot_attention.data.records import record_source

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
  positions = tf.constant(np.arange(35_000, 37_000))
  order = record_source.shuffle(positions, 0, records).numpy()
  assert len(set(order)) == 2000
  assert np.mean(np.abs(np.diff(order)) < 100) < 0.01
  # Uniform numbers have mean size / 2 with a deviation of size / sqrt(12 n).
  deviation = size / np.sqrt(12 * 2000)
  assert abs(order.mean() - size / 2) < 4 * deviation


def test_positions_are_independent_of_what_they_are_asked_with():
  records = np.arange(100, 137)
  positions = np.arange(30, 120)
  whole = record_source.shuffle(tf.constant(positions), 5, records).numpy()
  # `tf.random.experimental.index_shuffle` for one position at a time.
  single = [
    100
    + int(
      tf.random.experimental.index_shuffle(
        np.int64(p % 37), tf.constant([5, p // 37], tf.int64), np.int64(36)
      )
    )
    for p in positions
  ]
  assert whole.tolist() == single


def make_sources(tmp_path, payloads):
  """The same records read one by one and in batches."""
  path = tmp_path / "data.tfrecord"
  with tf.io.TFRecordWriter(str(path)) as writer:
    for payload in payloads:
      writer.write(payload)
  index = record_index.RecordIndex.build([path])
  records = np.arange(len(payloads))

  def decode(record):
    return {"image": record, "length": tf.strings.length(record)}

  return [
    record_source.RecordSource(index, records, decode, batched)
    for batched in (False, True)
  ]


def test_batched_decoding_gives_the_same(tmp_path):
  # Strings of numpy's own would lose the zeros at the end.
  payloads = [b"", b"\0", b"a\0\0", *(b"%d" % i for i in range(8))]
  single, batched = make_sources(tmp_path, payloads)
  rows = slice(2, 5)
  ours = itertools.islice(single.train_batches(6, 3, 4, rows), 40)
  theirs = batched.train_batches(6, 3, 4, rows)
  seen = set()
  for expected, batch in zip(ours, theirs, strict=False):
    assert batch["image"].tolist() == expected["image"].tolist()
    assert batch["length"].tolist() == [len(x) for x in batch["image"]]
    seen.update(batch["image"])
  assert seen == set(payloads)


@pytest.mark.parametrize("rows", [slice(0, 4), slice(4, 8)])
def test_batched_evaluation_is_padded_alike(tmp_path, rows):
  payloads = [b"%d" % i for i in range(10)]
  single, batched = make_sources(tmp_path, payloads)
  for source in (single, batched):
    decode = source.decode
    # Padding is made of zeros, of which there are none in strings.
    source = dataclasses.replace(
      source, decode=lambda x, decode=decode: {"image": decode(x)["length"]}
    )
    batches = list(source.eval_batches(8, rows))
    assert [batch["valid"].tolist() for batch in batches] == [
      [True] * 4,
      [rows.start == 0] * 2 + [False] * 2,
    ]
    assert [len(batch["image"]) for batch in batches] == [4, 4]


def test_error_names_the_record_of_a_batch(tmp_path):
  _, source = make_sources(tmp_path, [b"1", b"2", b"three", b"4"])
  source = dataclasses.replace(
    source, decode=lambda x: {"image": tf.strings.to_number(x)}
  )
  with pytest.raises(ValueError, match=r"Record 2 of .*data.tfrecord cannot"):
    list(source.eval_batches(4, slice(0, 4)))
  with pytest.raises(ValueError, match=r"Record 2 of .*data.tfrecord cannot"):
    next(source.train_batches(4, 0, 0, slice(0, 4)))


@pytest.mark.parametrize("failures", [3, 10**6])
def test_errors_of_the_disk_in_the_middle_of_an_epoch(
  tmp_path, monkeypatch, failures
):
  source, _ = make_sources(tmp_path, [b"%d" % i for i in range(40)])
  batches = source.train_batches(4, 0, 0, slice(0, 4))
  expected = [next(source.train_batches(4, 0, 8, slice(0, 4)))["image"]]
  for _ in range(4):
    next(batches)
  waits, left, read = [], [failures], os.pread

  def pread(*args):
    if left[0] > 0:
      left[0] -= 1
      raise OSError(errno.EIO, os.strerror(errno.EIO))
    return read(*args)

  monkeypatch.setattr(record_retry.time, "sleep", waits.append)
  monkeypatch.setattr(record_index.os, "pread", pread)
  if failures == 3:
    for _ in range(4):
      next(batches)
    assert next(batches)["image"].tolist() == expected[0].tolist()
    assert len(waits) == 3
  else:
    with pytest.raises(
      OSError, match=r"Record \d+ of .*data.tfrecord .* tried"
    ):
      for _ in range(20):
        next(batches)
