import gzip

import pytest

from slot_attention.data.records import record_stream

tf = pytest.importorskip("tensorflow")

PAYLOADS = [b"first", b"", b"x" * 5000, b"last"]
OFFSETS = [0, 21, 37, 5053]


@pytest.fixture(params=["GZIP", ""])
def path(request, tmp_path):
  """A file that tensorflow wrote."""
  path = tmp_path / "file"
  with tf.io.TFRecordWriter(str(path), request.param) as writer:
    for payload in PAYLOADS:
      writer.write(payload)
  return path


def read(path, **arguments):
  return list(record_stream.read_records(path, **arguments))


def test_reads_what_tensorflow_writes(path):
  records = read(path)
  assert [record.payload for record in records] == PAYLOADS
  assert [record.number for record in records] == [0, 1, 2, 3]
  assert [record.offset for record in records] == OFFSETS
  assert records[-1].progress == 1.0


def test_frames_as_tensorflow_does(path):
  content = path.read_bytes()
  if record_stream.is_gzip(path):
    content = gzip.decompress(content)
  assert b"".join(map(record_stream.frame, PAYLOADS)) == content


def test_passes_over_records(path):
  records = read(path, skip=3)
  assert [(record.number, record.payload) for record in records] == [
    (3, b"last")
  ]
  assert not read(path, skip=9)


@pytest.mark.parametrize(
  "place, number, message",
  [
    (5053 + 3, 3, "the checksum of its length is wrong"),
    (37 + 100, 2, "the checksum of its 5000 bytes is wrong"),
    (37 + 5013, 2, "the checksum of its 5000 bytes is wrong"),
  ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_damage(tmp_path, place, number, message, compress):
  content = bytearray(b"".join(map(record_stream.frame, PAYLOADS)))
  content[place] ^= 1
  path = tmp_path / "file"
  path.write_bytes(gzip.compress(content) if compress else content)
  records = record_stream.read_records(path)
  assert [next(records).number for _ in range(number)] == list(range(number))
  with pytest.raises(record_stream.CorruptRecordError, match=message) as info:
    next(records)
  assert info.value.number == number
  assert info.value.offset == OFFSETS[number]
  assert f"record {number}, byte {OFFSETS[number]}" in str(info.value)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("size", [5, 30, 1000])
def test_cut_off(tmp_path, size, compress):
  content = b"".join(map(record_stream.frame, PAYLOADS))
  if compress:
    content = gzip.compress(content, 0)  # Stored, for the sizes above.
    size += 15
  path = tmp_path / "file"
  path.write_bytes(content[:size])
  with pytest.raises(record_stream.CorruptRecordError) as info:
    read(path)
  assert info.value.number == (0 if size < 21 else 1 if size < 50 else 2)


def test_gzip_stream_without_end(tmp_path):
  content = gzip.compress(b"".join(map(record_stream.frame, PAYLOADS)))
  path = tmp_path / "file"
  for damaged in (content[:-8], content[:-8] + b"12345678"):
    path.write_bytes(damaged)
    with pytest.raises(record_stream.CorruptRecordError) as info:
      read(path)
    assert info.value.number == 4
