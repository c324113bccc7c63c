"""Random access to GZIP TFRecord files, and the index that is kept."""

from concurrent import futures
import gzip
import io
import os
import pathlib
import struct
import zipfile
import zlib

import numpy as np
import pytest

from slot_attention.data.records import gzip_index
from slot_attention.data.records import gzip_points
from slot_attention.data.records import record_stream

NUM_RECORDS = 300


def make_payloads():
  """Records of many lengths, of noise and of what compresses well."""
  rng = np.random.default_rng(0)
  noise = [rng.bytes(int(n)) for n in rng.integers(0, 9000, NUM_RECORDS)]
  return [
    noise[i] if i % 3 else noise[i][:50] * 200 for i in range(NUM_RECORDS)
  ]


PAYLOADS = make_payloads()


@pytest.fixture
def path(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  path = tmp_path / "data" / "file.tfrecords"
  path.parent.mkdir()
  write(path, PAYLOADS)
  return path


def write(path, payloads):
  path.write_bytes(gzip.compress(b"".join(map(record_stream.frame, payloads))))


def count(payload):
  return len(payload) % 200


def open_index(path, max_records=NUM_RECORDS):
  return gzip_index.GzipRecordIndex.open(path, max_records, count)


def check(index, number=NUM_RECORDS):
  assert len(index) == number
  for i in reversed(range(number)):
    assert index.read(i) == PAYLOADS[i]
  assert index.num_objects.tolist() == [count(x) for x in PAYLOADS[:number]]


def sidecar(path):
  return pathlib.Path(f"{path}.index.npz")


@pytest.fixture
def no_building(monkeypatch):
  """Makes building fail when it is switched on."""

  def switch_on():
    def fail(*_):
      raise AssertionError("The index was built again.")

    monkeypatch.setattr(gzip_index, "_build", fail)

  return switch_on


def test_reads_every_record_in_any_order(path):
  index = open_index(path)
  check(index)
  assert len(index.points.table) > 3
  assert index.locate(np.int64(7)) == (str(path), 7)


def test_tensorflow_writes_such_files(tmp_path):
  tf = pytest.importorskip("tensorflow")
  path = tmp_path / "file.tfrecords"
  with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
    for payload in PAYLOADS:
      writer.write(payload)
  check(open_index(path))


def test_search_in_steps_finds_the_same_points(path, monkeypatch):
  whole = open_index(path)
  sidecar(path).unlink()
  monkeypatch.setattr(gzip_points, "_STEP", 1 << 16)
  monkeypatch.setattr(gzip_index, "_CATCH_UP", 1 << 15)
  index = open_index(path)
  check(index)
  assert len(np.unique(index.points.table["offset"])) == len(index.points.table)
  assert abs(len(index.points.table) - len(whole.points.table)) < 3


def test_threads(path):
  index = open_index(path)
  order = np.random.default_rng(0).integers(0, NUM_RECORDS, 400)
  with futures.ThreadPoolExecutor(8) as pool:
    read = list(pool.map(index.read, order))
  assert read == [PAYLOADS[i] for i in order]


@pytest.mark.parametrize("record", [-1, NUM_RECORDS])
def test_no_such_record(path, record):
  with pytest.raises(IndexError, match=f"no record {record} among 300"):
    open_index(path).read(record)


def test_second_opening_loads_what_was_kept(path, no_building):
  open_index(path)
  assert sidecar(path).is_file()
  assert sorted(os.listdir(path.parent)) == [path.name, sidecar(path).name]
  no_building()
  check(open_index(path))
  assert len(open_index(path, 10)) == NUM_RECORDS


def test_only_the_needed_records_are_looked_at(path, no_building):
  seen = []

  def spy(payload):
    seen.append(payload)
    return 0

  index = gzip_index.GzipRecordIndex.open(path, 20, spy)
  assert seen == PAYLOADS[:20] and len(index) == 20
  assert [index.read(i) for i in range(20)] == PAYLOADS[:20]
  check(open_index(path))  # More of them are looked for.
  no_building()
  check(open_index(path))


def test_file_with_fewer_records_is_known_to_be_whole(path, no_building):
  check(open_index(path, 10_000))
  no_building()
  check(open_index(path, 20_000))


@pytest.mark.parametrize("how", ["time", "content"])
def test_changed_file_is_looked_at_again(path, how):
  open_index(path)
  if how == "time":
    os.utime(path, (1, 1))
    check(open_index(path))
  else:
    write(path, [b"other", b"records"])
    index = open_index(path)
    assert [index.read(i) for i in range(2)] == [b"other", b"records"]


@pytest.mark.parametrize(
  "how", ["cut", "empty", "garbage", "flipped", "header"]
)
def test_damaged_index_is_made_again(path, how, no_building):
  open_index(path)
  content = bytearray(sidecar(path).read_bytes())
  if how == "flipped":
    content[len(content) // 2] ^= 1
  sidecar(path).write_bytes(
    {
      "cut": content[:-100],
      "empty": b"",
      "garbage": b"garbage" * 99,
      "flipped": content,
      "header": with_an_open_parenthesis(),
    }[how]
  )
  check(open_index(path))
  no_building()
  check(open_index(path))


def with_an_open_parenthesis() -> bytes:
  """An archive of an array whose header is no Python."""
  header = b"{'descr': (\n"
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    archive.writestr(
      "identity.npy",
      b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header,
    )
  return file.getvalue()


def test_index_goes_to_the_cache_where_the_file_cannot_have_it(
  path, tmp_path, no_building
):
  sidecar(path).mkdir()  # Stands for a directory that cannot be written to.
  check(open_index(path))
  (kept,) = (tmp_path / "cache" / "slot_attention").iterdir()
  assert kept.name.endswith("-file.tfrecords.index.npz")
  assert os.listdir(path.parent).count("incomplete") == 0
  no_building()
  check(open_index(path))


def test_index_that_can_be_kept_nowhere(path, tmp_path):
  sidecar(path).mkdir()
  (tmp_path / "cache").write_bytes(b"")
  check(open_index(path))


@pytest.mark.parametrize("part", [0.02, 0.5, 0.999])
def test_cut_off_file(path, part):
  content = path.read_bytes()
  path.write_bytes(content[: int(part * len(content))])
  with pytest.raises(ValueError, match=r"file.tfrecords is corrupt at record"):
    open_index(path)
  assert not sidecar(path).exists()


def test_file_that_is_damaged_just_behind_the_needed_records(path):
  content = path.read_bytes()
  needed = sum(len(record_stream.frame(x)) for x in PAYLOADS[:100])
  stream, size, end = zlib.decompressobj(31), 0, 0
  while size < needed + 16_384:  # As far as gzip reads ahead.
    size += len(stream.decompress(content[end : end + 64]))
    end += 64
  path.write_bytes(content[:end])
  check(open_index(path, 100), 100)
  # The search for access points notices some damages, others it does not.
  rng = np.random.default_rng(0)
  for _ in range(40):
    place = end + int(rng.integers(0, 60_000))
    damaged = content[:place] + rng.bytes(4) + content[place + 4 :]
    path.write_bytes(damaged)
    sidecar(path).unlink()
    check(open_index(path, 100), 100)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_flipped_byte(path, part):
  content = bytearray(path.read_bytes())
  content[int(part * len(content))] ^= 0x55
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"file.tfrecords is corrupt at rec"):
    open_index(path)


def test_record_with_a_wrong_checksum(path):
  frames = list(map(record_stream.frame, PAYLOADS))
  frames[40] = frames[40][:-1] + b"?"
  path.write_bytes(gzip.compress(b"".join(frames)))
  with pytest.raises(ValueError, match=r"at record 40, .* checksum of its "):
    open_index(path)


def test_record_that_is_not_as_it_should_be(path):
  def refuse(payload):
    if payload == PAYLOADS[4]:
      raise ValueError("it is no good")
    return 0

  with pytest.raises(ValueError, match=r"Record 4 of .* damaged: it is no go"):
    gzip_index.GzipRecordIndex.open(path, 10, refuse)


def test_file_that_changes_later(path):
  index = open_index(path)
  content = path.read_bytes()
  path.write_bytes(content[: len(content) // 2])
  with pytest.raises(ValueError, match=r"Record 299 of .* any more .* chang"):
    index.read(299)
  write(path, [bytes(reversed(x)) for x in PAYLOADS])
  with pytest.raises(ValueError, match=r"Record 250 of .* any more .* chang"):
    index.read(250)


def test_file_without_records(path):
  path.write_bytes(gzip.compress(b""))
  with pytest.raises(ValueError, match=r"file.tfrecords holds no records"):
    open_index(path)
