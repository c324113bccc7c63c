"""Damaged bytes: readers give what was written, or a sentence, and in time.

    FUZZ_SECONDS=600 python -m pytest -n 0 -s -m slow tests/fuzz_test.py

A failure names a number; `check(number)` repeats it.
"""

from collections.abc import Callable
import contextlib
import functools
import gzip
import io
import json
import os
import pathlib
import signal
import time

import image_trees
import movi_files
import numpy as np
import PIL.Image
import pytest

from slot_attention.data import converted
from slot_attention.data import image_folders
from slot_attention.data import movi
from slot_attention.data import preprocess
from slot_attention.data.folders import annotation_files
from slot_attention.data.folders import folder_files
from slot_attention.data.folders import image_folder_layouts
from slot_attention.data.records import gzip_index
from slot_attention.data.records import record_index
from slot_attention.data.records import record_stream
from slot_attention.data.records import wire_format
from slot_attention.data.tfds import frame_index

_SECONDS_FOR_ONE = 20
_RNG = np.random.default_rng(0)
PAYLOADS = [_RNG.bytes(n) for n in (0, 1, 300, 5000, 40)] + [b"a" * 9000]
EXAMPLES = [
  wire_format.encode_example(
    {
      "image": _RNG.integers(0, 256, 40).astype(np.uint8),
      "mask": np.zeros(7, np.uint8),
      "position": _RNG.normal(size=5).astype(np.float32),
      "count": np.array([3, -1, 2**62], np.int64),
      "raw": b"some bytes",
      "\u00fc": b"",
    }
  ),
  wire_format.encode_example({"x": np.zeros(0, np.float32), "y": b"\n\x01"}),
]
INFO = {
  "format_version": 1,
  "dataset": "tetrominoes",
  "crop": [],
  "resolution": [35, 35],
  "channels": 3,
  "resized": False,
  "source": {"file": "f", "bytes": 5},
  "shards": [{"file": "shard", "num_records": 3}],
}


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
  """Changes a few places: bits, bytes, parts that are lost, doubled or new."""
  for _ in range(rng.integers(1, 4)):
    content = bytearray(data)
    start, end = np.sort(rng.integers(0, len(content) + 1, 2)).tolist()
    end = min(end, start + int(2 ** rng.integers(0, 12)))
    place = int(rng.integers(0, len(content) + 1))
    kind = rng.integers(0, 7)
    if kind == 0 and content:
      content[place % len(content)] ^= 1 << int(rng.integers(8))
    elif kind == 1 and content:
      special = (0, 1, 8, 10, 18, 26, 127, 128, 255)
      content[place % len(content)] = special[rng.integers(len(special))]
    elif kind == 2:
      del content[start:end]
    elif kind == 3:
      content[place:place] = content[start:end]
    elif kind == 4:
      content[place:place] = rng.bytes(int(rng.integers(1, 20)))
    elif kind == 5:
      del content[place:]
    else:
      content[start:end] = rng.bytes(end - start)
    data = bytes(content)
  return data


def _proto_values(data: bytes) -> dict[str, list] | None:
  """Returns what protocol buffers make of a tf.Example, None if nothing."""
  tf = preprocess.import_tensorflow()
  example = tf.train.Example()
  try:
    example.ParseFromString(data)
  except Exception:  # The protocol buffers' own, which has no fixed place.
    return None
  values = {}
  for name, feature in example.features.feature.items():
    kind = feature.WhichOneof("kind")
    values[name] = list(getattr(feature, kind).value) if kind else []
  return values


def _same(actual: np.ndarray, expected: list) -> bool:
  if not expected:
    return actual.size == 0
  if isinstance(expected[0], bytes):
    if actual.dtype == object:
      return list(actual) == expected
    return actual.tobytes() in (
      expected[0] * (len(expected) == 1),
      b"".join(expected),
    )
  wanted = np.array(expected, actual.dtype)
  return np.array_equal(actual, wanted, equal_nan=actual.dtype.kind == "f")


def check_example(rng: np.random.Generator, place: pathlib.Path) -> None:
  del place
  data = mutate(EXAMPLES[rng.integers(len(EXAMPLES))], rng)
  try:
    parsed = wire_format.parse_example(data)
  except ValueError as error:
    assert str(error).endswith("."), error
    return
  expected = _proto_values(data)
  assert expected is not None, "values of what is no tf.Example"
  # One of their implementations drops entries that have unknown fields.
  assert parsed.keys() >= expected.keys()
  for name, values in expected.items():
    assert _same(parsed[name], values), (name, parsed[name], values)


def check_stream(rng: np.random.Generator, place: pathlib.Path) -> None:
  data = b"".join(map(record_stream.frame, PAYLOADS))
  if rng.integers(2):
    data = mutate(gzip.compress(data, 1, mtime=0), rng)
  else:
    data = mutate(data, rng)
    if rng.integers(2):
      data = gzip.compress(data, 1, mtime=0)
  path = place / "file"
  path.write_bytes(data)
  with contextlib.suppress(ValueError):
    for record in record_stream.read_records(path):
      assert record.payload in PAYLOADS


def check_index(rng: np.random.Generator, place: pathlib.Path) -> None:
  path = place / "file"
  path.write_bytes(mutate(b"".join(map(record_stream.frame, PAYLOADS)), rng))
  try:
    index = record_index.RecordIndex.build([path])
  except ValueError:
    return
  for i in range(len(index)):
    with contextlib.suppress(ValueError):
      assert index.read(i) in PAYLOADS


def check_gzip_index(rng: np.random.Generator, place: pathlib.Path) -> None:
  """Damages the file before or after opening, or the index that was kept."""
  path = place / "file"
  (place / "file.index.npz").unlink(missing_ok=True)
  whole = gzip.compress(
    b"".join(map(record_stream.frame, PAYLOADS)), 1, mtime=0
  )
  when = rng.integers(3)
  path.write_bytes(mutate(whole, rng) if when == 0 else whole)
  try:
    index = gzip_index.GzipRecordIndex.open(path, 100, lambda payload: 1)
  except ValueError:
    assert when == 0
    return
  if when == 1:
    path.write_bytes(mutate(whole, rng))
  elif when == 2:
    kept = place / "file.index.npz"
    kept.write_bytes(mutate(kept.read_bytes(), rng))
    index = gzip_index.GzipRecordIndex.open(path, 100, lambda payload: 1)
    assert len(index) == len(PAYLOADS)
  for i in range(len(index)):
    try:
      assert index.read(i) in PAYLOADS
    except ValueError:
      assert when < 2


def check_conversion(rng: np.random.Generator, place: pathlib.Path) -> None:
  info = json.dumps(INFO).encode()
  (place / "shard").touch()
  np.save(place / "num_objects.npy", np.full(3, 3, np.uint8))
  if rng.integers(2):
    info = mutate(info, rng)
  else:
    path = place / "num_objects.npy"
    path.write_bytes(mutate(path.read_bytes(), rng))
  (place / "info.json").write_bytes(info)
  with contextlib.suppress(ValueError, OSError):
    converted.read_info(place)


def encode(array: np.ndarray, suffix: str = "PNG") -> bytes:
  file = io.BytesIO()
  PIL.Image.fromarray(array).save(file, suffix)
  return file.getvalue()


SIZE = (24, 32)
PICTURES = [image_trees.noise(i, *SIZE) for i in range(3)]
LABELS = [image_trees.blocks(i, *SIZE) for i in range(3)]


@functools.cache
def video() -> bytes:
  """A TFRecord file of one video."""
  features = {
    frame_index.VIDEO: movi_files.strings(list(map(encode, PICTURES))),
    "other": movi_files.strings([b"x" * 5000]),
    frame_index.SEGMENTATIONS: movi_files.strings(list(map(encode, LABELS))),
    frame_index.NUM_INSTANCES: movi_files.integer(2),
  }
  return movi_files.record(features)


def check_frames(rng: np.random.Generator, place: pathlib.Path) -> None:
  """Numbers of objects may be wrong: the record's checksum is not verified."""
  path = place / "video"
  path.write_bytes(video())
  early = rng.integers(2)
  if early:
    path.write_bytes(mutate(video(), rng))
  try:
    videos = record_index.RecordIndex.build([path])
    index = frame_index.FrameIndex.build(videos, len(PICTURES))
  except ValueError:
    assert early
    return
  if not early:
    path.write_bytes(mutate(video(), rng))
  tf = preprocess.import_tensorflow()
  for i in range(len(index)):
    with contextlib.suppress(ValueError, tf.errors.OpError):
      frame = movi.decode_frame(
        tf.constant(index.read(i)), SIZE, movi.View(SIZE)
      )
      assert np.array_equal(frame["image"], PICTURES[i])
      assert np.array_equal(frame["segmentation"], LABELS[i])


def _to_uint8(image) -> np.ndarray:
  return np.rint((np.asarray(image) + 1) * 127.5).astype(np.uint8)


@functools.cache
def encoded(suffix: str) -> bytes:
  return encode(PICTURES[0], suffix)


def check_image(rng: np.random.Generator, place: pathlib.Path) -> None:
  suffix = ("PNG", "PNG", "JPEG", "GIF", "BMP", "WEBP")[rng.integers(6)]
  (place / "x.png").write_bytes(mutate(encoded(suffix), rng))
  files = folder_files.Files(str(place), ("x.png",))
  view = image_folders.View(SIZE, interpolation="nearest")
  source = image_folders.open_files(files, view)
  tf = preprocess.import_tensorflow()
  with contextlib.suppress(ValueError, tf.errors.OpError):
    image = source.decode(tf.constant(source.index.read(0)))["image"]
    assert image.shape == (*SIZE, 3)
    if suffix == "PNG":  # The only one with checksums.
      assert np.array_equal(_to_uint8(image), PICTURES[0])


def check_mask(rng: np.random.Generator, place: pathlib.Path) -> None:
  path = place / "mask"
  path.write_bytes(mutate(encode(LABELS[2]), rng))
  with contextlib.suppress(ValueError):
    labels = annotation_files.read_mask(str(path), np.array)
    assert np.array_equal(labels, LABELS[2])


def check_annotations(rng: np.random.Generator, place: pathlib.Path) -> None:
  root = place / "coco"
  if not root.exists():
    image_trees.coco(root, (1, 2, 1))
  names = sorted(path.name for path in (root / "val2017").iterdir())
  text = json.dumps(image_trees.coco_annotations(names)).encode()
  path = root / "annotations" / "instances_val2017.json"
  path.write_bytes(mutate(text, rng))
  with contextlib.suppress(ValueError):
    files = image_folder_layouts.find("coco", root, "validation")
    for i in range(2):
      assert files.load_labels(i).dtype == np.uint8
      assert files.count_objects(i) >= 0


CHECKS: list[Callable[[np.random.Generator, pathlib.Path], None]] = [
  check_example,
  check_example,
  check_stream,
  check_index,
  check_gzip_index,
  check_conversion,
  check_frames,
  check_image,
  check_mask,
  check_annotations,
]


def check(number: int, place: pathlib.Path) -> None:
  """Tries one input, the same for the same number."""

  def hang(*args):
    raise AssertionError(f"{_SECONDS_FOR_ONE} s")

  previous = signal.signal(signal.SIGALRM, hang)
  signal.setitimer(signal.ITIMER_REAL, _SECONDS_FOR_ONE)
  try:
    CHECKS[number % len(CHECKS)](np.random.default_rng(number), place)
  except Exception as error:
    error.add_note(f"Number {number}, {CHECKS[number % len(CHECKS)].__name__}.")
    raise
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def _fuzz(seconds: float, start: int, place: pathlib.Path) -> int:
  end, number = time.monotonic() + seconds, start
  while time.monotonic() < end:
    check(number, place)
    number += 1
  return number - start


def test_five_seconds(tmp_path):
  preprocess.import_tensorflow()
  assert _fuzz(5, 0, tmp_path) > 100


@pytest.mark.slow
def test_ten_minutes(tmp_path):
  preprocess.import_tensorflow()
  seconds = float(os.environ.get("FUZZ_SECONDS", "600"))
  count = _fuzz(seconds, 1_000_000, tmp_path)
  print(f"\n{count} inputs in {seconds:.0f} s, {len(set(CHECKS))} readers.")
