from concurrent import futures
import gzip

import numpy as np
import pytest

from slot_attention.data import preprocess
from slot_attention.data.records import record_index
from slot_attention.data.records import record_stream

pytest.importorskip("tensorflow")

PAYLOADS = [[b"first", b"", b"x" * 5000], [b"next file"], [b"a", b"bc"]]
ALL = [payload for file in PAYLOADS for payload in file]


@pytest.fixture
def paths(tmp_path):
  tf = preprocess.import_tensorflow()
  paths = [tmp_path / f"data.tfrecord-{i:05d}" for i in range(len(PAYLOADS))]
  for path, payloads in zip(paths, PAYLOADS, strict=True):
    with tf.io.TFRecordWriter(str(path)) as writer:
      for payload in payloads:
        writer.write(payload)
  return paths


def test_reads_every_record_of_every_file(paths):
  index = record_index.RecordIndex.build(paths)
  assert len(index) == len(ALL)
  assert [index.read(i) for i in range(len(index))] == ALL


def test_locates_records_by_file_and_number(paths):
  index = record_index.RecordIndex.build(paths)
  places = [index.locate(i) for i in range(len(index))]
  assert places == [
    (str(path), i)
    for path, payloads in zip(paths, PAYLOADS, strict=True)
    for i in range(len(payloads))
  ]


def test_numpy_numbers_and_threads(paths):
  index = record_index.RecordIndex.build(paths)
  order = np.random.default_rng(0).integers(0, len(ALL), 500)
  with futures.ThreadPoolExecutor(8) as pool:
    read = list(pool.map(index.read, order))
  assert read == [ALL[i] for i in order]


@pytest.mark.parametrize("record", [-1, len(ALL)])
def test_no_such_record(paths, record):
  with pytest.raises(IndexError, match=f"no record {record} among {len(ALL)}"):
    record_index.RecordIndex.build(paths).read(record)


# The third record of the first file begins at byte 37 = 16 + 5 + 16.
@pytest.mark.parametrize(
  "size, record", [(5036, 2), (5000, 2), (49, 2), (40, 2), (36, 1), (3, 0)]
)
def test_truncated_file_is_named(paths, size, record):
  content = paths[0].read_bytes()
  assert len(content) == 5053
  paths[0].write_bytes(content[:size])
  with pytest.raises(ValueError, match=f"byte {size}, within record {record};"):
    record_index.RecordIndex.build(paths)


@pytest.mark.parametrize("position, record", [(0, 0), (9, 0), (21, 1), (38, 2)])
def test_damaged_length_is_found(paths, position, record):
  content = bytearray(paths[0].read_bytes())
  content[position + 4 * (record == 1)] ^= 1
  paths[0].write_bytes(content)
  with pytest.raises(ValueError, match=f"length of record {record} is wrong"):
    record_index.RecordIndex.build(paths)


def test_foreign_file(paths):
  paths[1].write_bytes(gzip.compress(paths[1].read_bytes()))
  with pytest.raises(ValueError, match="00001 is not an uncompressed TFRecord"):
    record_index.RecordIndex.build(paths)


def test_empty_file(paths):
  paths[2].write_bytes(b"")
  with pytest.raises(ValueError, match="00002 is empty; copy the file again"):
    record_index.RecordIndex.build(paths)


def test_missing_file(paths):
  paths[1].unlink()
  with pytest.raises(FileNotFoundError, match="00001 is missing; copy"):
    record_index.RecordIndex.build(paths)


def test_files_that_are_not_local(paths):
  tf = preprocess.import_tensorflow()
  remote = [f"ram://{path.name}" for path in paths]
  for path, copy in zip(paths, remote, strict=True):
    tf.io.gfile.copy(str(path), copy, overwrite=True)
  index = record_index.RecordIndex.build(remote, [3, 1, 2])
  with futures.ThreadPoolExecutor(8) as pool:
    assert list(pool.map(index.read, range(len(ALL)))) == ALL


def test_file_that_shrinks_later(paths):
  index = record_index.RecordIndex.build(paths)
  paths[0].write_bytes(paths[0].read_bytes()[:100])
  assert index.read(0) == b"first"
  with pytest.raises(ValueError, match="00000 ends within record 2, but did"):
    index.read(2)


@pytest.mark.parametrize("position", [12, 17, 37 + 12 + 4999, 5052])
def test_damaged_record_is_named(paths, position):
  content = bytearray(paths[0].read_bytes())
  content[position] ^= 64
  paths[0].write_bytes(content)
  index = record_index.RecordIndex.build(paths)
  record = 0 if position < 21 else 2
  with pytest.raises(ValueError, match=rf"Record {record} of .*-00000 cannot"):
    index.read(record)
  assert index.read(1) == b""


def test_checksum_against_the_published_value():
  # CRC-32C("123456789") = 0xE3069283, here rotated and with the constant added.
  rotated = 0xE3069283 >> 15 | (0xE3069283 << 17 & 0xFFFFFFFF)
  assert record_stream.masked_crc32c(b"123456789") == (
    rotated + 0xA282EAD8 & 0xFFFFFFFF
  )
