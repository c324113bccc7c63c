"""Single frames of MOVi-C and MOVi-D as published for tensorflow_datasets.

Example video * 24 + frame is a frame of a video. Only its own bytes are read
and decoded, not the tens of megabytes of the record around it.

Splits: `train`, `validation` and `test` are those of TFDS, `train_eval` is the
first part of `train`, at most 320 frames. Evaluation visits the frames of a
split in a fixed order that spreads over all videos, so that its first 1,280
are not those of 54 videos.
"""

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

from absl import logging
from etils import epath
import numpy as np

from slot_attention.data import preprocess
from slot_attention.data.records import file_access
from slot_attention.data.records import record_source
from slot_attention.data.tfds import frame_index
from slot_attention.data.tfds import movi_spec
from slot_attention.data.tfds import tfds_directory

if TYPE_CHECKING:
  import tensorflow as tf
  import tensorflow_datasets as tfds

SPLITS = {
  "train": "train",
  "train_eval": "train",
  "validation": "validation",
  "test": "test",
}
_MAX_TRAIN_EVAL = 320
_BUCKET = "gs://kubric-public/tfds"


@dataclasses.dataclass(frozen=True)
class View:
  """What is to be seen of each frame.

  Attributes:
    resolution: (height, width) in pixels; at the size of the stored frames
      they stay as they are.
    crop: (top, left, height, width) of the part to be resized, in pixels of
      the stored frames; () for all of them.
    interpolation: of images, "bilinear" or "nearest".
  """

  resolution: tuple[int, int]
  crop: tuple[int, ...] = ()
  interpolation: str = "bilinear"


@dataclasses.dataclass(frozen=True, eq=False)
class Videos:
  """The videos of a TFDS split.

  Attributes:
    path: directory of the data set.
    index: of their frames.
    size: (height, width) of the stored frames in pixels.
  """

  path: str
  index: frame_index.FrameIndex
  size: tuple[int, int]


def open_movi(
  dataset: str,
  data_dir: str | None,
  split: str,
  view: View,
  tfds_config: str = movi_spec.CONFIGS[0],
  min_num_objects: int = 0,
  max_num_objects: int = 23,
) -> record_source.RecordSource:
  """Opens a split, frame by frame.

  Args:
    dataset: "movi_c" or "movi_d".
    data_dir: the directory that holds DATASET/CONFIG/1.0.0, in a bucket too,
      such as gs://kubric-public/tfds; None or "" for TFDS_DATA_DIR or, without
      that, TFDS' own default.
    split: a key of SPLITS.
    view: what is to be seen of each frame.
    tfds_config: "256x256" or "128x128", size of the stored frames.
    min_num_objects: videos with fewer objects are left out. Objects count that
      are not in the frame; the background does not.
    max_num_objects: videos with more objects are left out.

  Returns:
    The split. Its batches hold `image` [b, height, width, 3], see
    `preprocess.fit_image`, `segmentation` [b, height, width] uint8, 0
    background, i + 1 instance i, and `num_objects` [b] int32 of the video.

  Raises:
    FileNotFoundError: the data set is not there.
    ValueError: there is no such split, its files are damaged or of something
      else, or no video has so many objects.
    OSError: the bucket does not answer.
  """
  videos = open_videos(dataset, data_dir, split, tfds_config)
  frames = select_frames(
    videos.index.num_instances,
    videos.index.num_frames,
    split,
    (min_num_objects, max_num_objects),
    videos.path,
  )
  decode = functools.partial(decode_frame, size=videos.size, view=view)
  return record_source.RecordSource(videos.index, frames, decode)


def open_videos(
  dataset: str, data_dir: str | None, split: str, tfds_config: str
) -> Videos:
  """Finds the videos of a split; see `open_movi`."""
  if split not in SPLITS:
    raise ValueError(
      f"{dataset} has no split {split!r}; choose one of {', '.join(SPLITS)}."
    )
  builder = _open_builder(dataset, data_dir, tfds_config)
  num_frames, *size = _video_shape(builder)
  records = tfds_directory.index_split(builder, SPLITS[split])
  index = frame_index.FrameIndex.build(records, num_frames)
  return Videos(str(builder.data_path), index, tuple(size))


def select_frames(
  num_instances: np.ndarray,
  num_frames: int,
  split: str,
  limits: tuple[int, int],
  place: str,
) -> np.ndarray:
  """Returns the frames of a split whose videos have as many objects as allowed.

  Args:
    num_instances: [num_videos] objects of each video.
    num_frames: of each video.
    split: a key of SPLITS; "train_eval" keeps the first frames.
    limits: least and largest number of objects.
    place: is named in the error.

  Returns:
    [n] int64 numbers of frames; but for "train", in an order that spreads over
    all videos.

  Raises:
    ValueError: no video has so many objects.
  """
  kept = (limits[0] <= num_instances) & (num_instances <= limits[1])
  if not kept.any():
    raise ValueError(
      f"None of the {len(kept)} videos of split {split!r} in {place} has "
      f"{limits[0]} to {limits[1]} objects (they have {num_instances.min()} to "
      f"{num_instances.max()}); change config.data.min_num_objects and "
      "config.data.max_num_objects."
    )
  frames = np.flatnonzero(np.repeat(kept, num_frames))
  if split == "train_eval":
    frames = frames[:_MAX_TRAIN_EVAL]
  if split != "train":
    frames = frames[spread_order(len(frames))]
  logging.info(
    "Split %s has %d frames of the %d among %d videos with %d to %d objects.",
    split,
    len(frames),
    np.count_nonzero(kept),
    len(kept),
    *limits,
  )
  return frames


def spread_order(size: int) -> np.ndarray:
  """Returns a permutation of 0 .. size - 1 whose every part is spread evenly.

  Args:
    size: 1 or more.

  Returns:
    [size] int64, multiples of a step near the golden section of the size,
    modulo the size.
  """
  step = max(1, round(size * (math.sqrt(5) - 1) / 2))
  while math.gcd(step, size) > 1:
    step += 1
  return np.arange(size, dtype=np.int64) * step % size


def decode_frame(
  record: "tf.Tensor", size: tuple[int, int], view: View
) -> dict[str, "tf.Tensor"]:
  """Decodes a frame that a FrameIndex has read.

  Args:
    record: [] string, see `frame_index.FrameIndex.read`.
    size: (height, width) of the stored frames.
    view: what is to be seen of it.

  Returns:
    `image`, `segmentation` and `num_objects`, see `open_movi`.
  """
  tf = preprocess.import_tensorflow()
  parsed = tf.io.parse_single_example(
    record,
    {
      frame_index.VIDEO: tf.io.FixedLenFeature((), tf.string),
      frame_index.SEGMENTATIONS: tf.io.FixedLenFeature((), tf.string),
      "num_instances": tf.io.FixedLenFeature((), tf.int64),
    },
  )
  image = tf.io.decode_png(parsed[frame_index.VIDEO], channels=3)
  labels = tf.io.decode_png(parsed[frame_index.SEGMENTATIONS], channels=1)
  crop = view.crop or None
  return {
    "image": preprocess.fit_image(
      tf.ensure_shape(image, (*size, 3)),
      view.resolution,
      crop,
      view.interpolation,
    ),
    "segmentation": preprocess.preprocess_segmentation(
      tf.ensure_shape(labels, (*size, 1))[..., 0], view.resolution, crop
    ),
    "num_objects": tf.cast(parsed["num_instances"], tf.int32),
  }


def _open_builder(
  dataset: str, data_dir: str | None, tfds_config: str
) -> "tfds.core.DatasetBuilder":
  """Returns TFDS' builder of a data set that is there."""
  base = tfds_directory.base_directory(data_dir)
  path = base / dataset / tfds_config / movi_spec.VERSION
  import tensorflow_datasets as tfds

  with file_access.os_errors(base):
    if not tfds_directory.is_prepared(path):
      raise FileNotFoundError(_missing(base, dataset, tfds_config))
    builder = tfds.builder_from_directory(path)
  if builder.info.file_format.value != "tfrecord":
    raise ValueError(
      f"{path} is of format {builder.info.file_format.value}, but only "
      "tfrecord is read here; convert it with tfds' `convert_format`."
    )
  if (builder.name, str(builder.version)) != (dataset, movi_spec.VERSION):
    raise ValueError(
      f"{path} holds {builder.name}:{builder.version} by its dataset_info.json "
      f"instead of {dataset}:{movi_spec.VERSION}; copy the data set again."
    )
  return builder


def _missing(base: epath.Path, dataset: str, tfds_config: str) -> str:
  """Returns the sentence for a directory without the data set."""
  parent = base / dataset
  names = sorted(x.name for x in parent.iterdir()) if parent.is_dir() else []
  others = [
    f"{name}/{version}"
    for name in names
    for version in tfds_directory.prepared_children(parent / name)
  ]
  found = f"only {', '.join(others)}" if others else "nothing"
  wanted = f"{dataset}/{tfds_config}"
  return (
    f"{wanted}:{movi_spec.VERSION} was looked for in "
    f"{parent / tfds_config / movi_spec.VERSION}, but {found} is prepared "
    "there; set config.data.data_dir and config.data.tfds_config, copy the "
    f"data set with `gsutil -m cp -r {_BUCKET}/{wanted} {parent}/`, or write a "
    "procedural one with `python -m slot_attention.data.prepare generate "
    f"--dataset={dataset}_procedural`."
  )


def _video_shape(builder: "tfds.core.DatasetBuilder") -> tuple[int, ...]:
  """Returns (s, h, w) after looking at the features."""
  infos, shapes = builder.info.features.get_tensor_info(), {}
  for name, channels in (
    (frame_index.VIDEO, 3),
    (frame_index.SEGMENTATIONS, 1),
  ):
    info = infos.get(name) if isinstance(infos, dict) else None
    shape = getattr(info, "shape", ())
    if len(shape) != 4 or shape[-1] != channels or info.np_dtype != np.uint8:
      raise ValueError(
        f"{builder.data_path} is no MOVi: its feature {name} is {info} "
        f"instead of frames of {channels} uint8 channels; change "
        "config.data.data_dir."
      )
    shapes[name] = tuple(shape[:3])
  if len(set(shapes.values())) > 1 or None in shapes[frame_index.VIDEO]:
    raise ValueError(
      f"{builder.data_path} has videos and segmentations of the sizes "
      f"{shapes}, which must be one and known; prepare the data set again."
    )
  return shapes[frame_index.VIDEO]
