from concurrent import futures
import os

import movi_files
import numpy as np
import pytest

from slot_attention.data.records import record_index
from slot_attention.data.records import wire_format
from slot_attention.data.tfds import frame_index

NUM_FRAMES = 3


def features(number, num_frames=NUM_FRAMES):
  """Two large features around what is wanted."""
  rng = np.random.default_rng(number)
  return {
    "forward_flow": movi_files.strings([rng.bytes(300_000)]),
    "segmentations": movi_files.strings(
      [rng.bytes(100 + i) for i in range(num_frames)]
    ),
    "metadata/num_instances": movi_files.integer(200 + number),
    "depth": movi_files.strings([rng.bytes(300_000)]),
    "video": movi_files.strings(
      [rng.bytes(9_000 + i) for i in range(num_frames)]
    ),
  }


def build(tmp_path, *records):
  for i, record in enumerate(records):
    movi_files.write_record(tmp_path / str(i), record)
  paths = [os.fspath(tmp_path / str(i)) for i in range(len(records))]
  return frame_index.FrameIndex.build(
    record_index.RecordIndex.build(paths), NUM_FRAMES
  )


def images(record):
  parsed = wire_format.parse_example(record)
  return [parsed[name].tobytes() for name in ("video", "segmentations")]


def expected(number, frame):
  rng = np.random.default_rng(number)
  rng.bytes(300_000)
  masks = [rng.bytes(100 + i) for i in range(NUM_FRAMES)]
  rng.bytes(300_000)
  return [
    [rng.bytes(9_000 + i) for i in range(NUM_FRAMES)][frame],
    masks[frame],
  ]


def test_frames_are_those_of_the_videos(tmp_path):
  index = build(tmp_path, *map(features, range(4)))
  assert len(index) == 12
  assert index.num_instances.tolist() == [200, 201, 202, 203]
  numbers = np.random.default_rng(0).permutation(12).tolist() * 3
  with futures.ThreadPoolExecutor(4) as pool:
    records = list(pool.map(index.read, numbers))
  for number, record in zip(numbers, records, strict=True):
    assert images(record) == expected(*divmod(number, NUM_FRAMES))
    parsed = wire_format.parse_example(record)
    assert parsed["num_instances"].tolist() == [200 + number // NUM_FRAMES]
  assert index.locate(7) == (os.fspath(tmp_path / "2"), 0)


def test_only_what_is_wanted_is_read(tmp_path, monkeypatch):
  sizes = []
  pread = os.pread

  def counting(file, size, offset):
    content = pread(file, size, offset)
    sizes.append(len(content))
    return content

  monkeypatch.setattr(os, "pread", counting)
  index = build(tmp_path, features(0))
  assert sum(sizes) < 30_000
  index.read(1)
  sizes.clear()
  index.read(2)
  assert sum(sizes) == 9_002 + 102


@pytest.mark.parametrize("name", ["video", "metadata/num_instances"])
def test_records_of_something_else(tmp_path, name):
  record = features(0)
  del record[name]
  with pytest.raises(
    ValueError, match=f"Record 0 of .*/0 is no video .* has no feature {name};"
  ):
    build(tmp_path, record)


def test_records_that_are_no_examples(tmp_path):
  movi_files.write_record(tmp_path / "0", {})
  (tmp_path / "0").write_bytes(
    movi_files.record_stream.frame(b"\x08\x07 is no example")
  )
  index = record_index.RecordIndex.build([os.fspath(tmp_path / "0")])
  with pytest.raises(ValueError, match="begins no part of it; copy the file"):
    frame_index.FrameIndex.build(index, NUM_FRAMES)


def test_videos_of_another_length(tmp_path):
  index = build(tmp_path, features(0, num_frames=2))
  with pytest.raises(
    ValueError, match=r"Frame 1 of record 0 of .* 2 frames instead of 3; copy"
  ):
    index.read(1)


def test_files_that_become_shorter(tmp_path):
  index = build(tmp_path, features(0))
  index.read(2)
  os.truncate(tmp_path / "0", 1_000)
  with pytest.raises(ValueError, match="the file has become shorter since"):
    index.read(2)
