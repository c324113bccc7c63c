"""Made-up videos in the form of MOVi, of noise that tells them apart."""

import dataclasses
import pathlib

import numpy as np

from slot_attention.data.records import record_stream
from slot_attention.data.tfds import movi_spec
from slot_attention.data.tfds import tfds_writer

SIZE, NUM_FRAMES = (16, 16), 5
NUM_VIDEOS = {"train": 6, "validation": 4, "test": 2}
CONFIG = "16x16"


@dataclasses.dataclass(frozen=True)
class Directory:
  """Where videos were written to, and what they are."""

  data_dir: pathlib.Path
  path: pathlib.Path
  videos: dict[str, list[dict]]


def write(data_dir: pathlib.Path, dataset: str = "movi_c") -> Directory:
  rng = np.random.default_rng(0)
  videos = {
    split: [_video(rng, f"{split}_{i}", i, dataset) for i in range(count)]
    for split, count in NUM_VIDEOS.items()
  }
  path = tfds_writer.write_tfds_directory(
    data_dir,
    f"{dataset}/{CONFIG}/1.0.0",
    movi_spec.build_features(dataset, SIZE, NUM_FRAMES),
    {k: tfds_writer.Split(len(v), iter(v)) for k, v in videos.items()},
    examples_per_shard=4,
  )
  return Directory(data_dir, path, videos)


def _video(
  rng: np.random.Generator, name: str, number: int, dataset: str
) -> dict:
  """Video i has 3 + i objects, which are not all to be seen."""
  frames = (NUM_FRAMES, *SIZE)
  count = 3 + number

  def floats(*shape: int) -> np.ndarray:
    return rng.normal(size=(NUM_FRAMES, *shape)).astype(np.float32)

  instance = {
    "mass": 1.0,
    "friction": 0.5,
    "restitution": 0.5,
    "positions": floats(3),
    "quaternions": floats(4),
    "velocities": floats(3),
    "angular_velocities": floats(3),
    "bboxes_3d": floats(8, 3),
    "image_positions": floats(2),
    "bboxes": [],
    "bbox_frames": np.zeros(0, np.int32),
    "visibility": np.zeros(NUM_FRAMES, np.uint16),
    "asset_id": "noise",
    "category": "None",
    "scale": 1.0,
  }
  if dataset == "movi_d":
    instance["is_dynamic"] = True
  pair = np.zeros(2, np.float32)
  return {
    "metadata": {
      "video_name": name,
      "width": SIZE[1],
      "height": SIZE[0],
      "num_frames": NUM_FRAMES,
      "num_instances": count,
      "depth_range": pair,
      "forward_flow_range": pair,
      "backward_flow_range": pair,
    },
    "background": "noise",
    "instances": [instance] * count,
    "camera": {
      "focal_length": 35.0,
      "sensor_width": 32.0,
      "field_of_view": 0.86,
      "positions": floats(3),
      "quaternions": floats(4),
    },
    "events": {"collisions": []},
    "video": rng.integers(0, 256, (*frames, 3), np.uint8),
    "segmentations": rng.integers(0, 4, (*frames, 1), np.uint8),
    "forward_flow": np.full((*frames, 2), 40_000, np.uint16),
    "backward_flow": np.full((*frames, 2), 40_000, np.uint16),
    "depth": rng.integers(0, 65536, (*frames, 1), np.uint16),
    "normal": rng.integers(0, 65536, (*frames, 3), np.uint16),
    "object_coordinates": rng.integers(0, 65536, (*frames, 3), np.uint16),
  }


def write_record(path: pathlib.Path, features: dict[str, bytes]) -> None:
  """Writes a TFRecord file of one tf.Example from encoded features."""
  path.write_bytes(record(features))


def record(features: dict[str, bytes]) -> bytes:
  """Returns a TFRecord file of one tf.Example from encoded features."""
  entries = [
    delimited(1, delimited(1, name.encode()) + delimited(2, value))
    for name, value in features.items()
  ]
  example = delimited(1, b"".join(entries))
  return record_stream.frame(example)


def strings(values: list[bytes]) -> bytes:
  """Encodes a feature that is a list of strings."""
  return delimited(1, b"".join(delimited(1, value) for value in values))


def integer(value: int) -> bytes:
  """Encodes a feature that is a list of one integer."""
  return delimited(3, delimited(1, varint(value)))


def delimited(number: int, content: bytes) -> bytes:
  return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
  low, high = value & 0x7F, value >> 7
  return bytes([low | 0x80]) + varint(high) if high else bytes([low])
