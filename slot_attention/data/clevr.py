"""CLEVR as prepared by tensorflow_datasets.

Splits: `train_eval` is the first part of TFDS' train split, in the order of its
files, and `train` is the rest. That part is 512 examples, or a tenth where
there are fewer than 5,120. In the 2020 code, training skips the first 512
examples of a newly shuffled order of the files in each epoch, so that it is
trained on most of its `train_eval`; here the two have nothing in common.
`validation` is TFDS' validation split. TFDS' test split has no objects.
"""

from collections.abc import Sequence
import functools
import os
import time
from typing import TYPE_CHECKING

from absl import logging
from etils import epath
import numpy as np

from slot_attention.data import preprocess
from slot_attention.data.records import file_access
from slot_attention.data.records import record_index
from slot_attention.data.records import record_source
from slot_attention.data.tfds import tfds_directory

if TYPE_CHECKING:
  import tensorflow as tf
  import tensorflow_datasets as tfds

NAME, VERSION = "clevr", "3.1.0"
SPLITS = {
  "train": "train",
  "train_eval": "train",
  "validation": "validation",
}
_MAX_TRAIN_EVAL = 512
# All published scenes have 3 to 10 objects; sets of other sizes are not those.
_PUBLISHED_SIZES = {"train": 70_000, "validation": 15_000, "test": 15_000}
_PUBLISHED_OBJECTS = (3, 10)
_DECODED = {
  "image": True,
  "objects": {"3d_coords", *(name for name, _ in preprocess.PROPERTIES)},
}


def open_clevr(
  data_dir: str | None,
  split: str,
  download: bool = False,
  min_num_objects: int = 3,
  max_num_objects: int = 10,
  resolution: tuple[int, int] = (128, 128),
  crop: tuple[int, int, int, int] | None = None,
  num_targets: int = 10,
  interpolation: str = "bilinear",
) -> record_source.RecordSource:
  """Opens a split of CLEVR, prepared by TFDS or by `data.prepare generate`.

  Args:
    data_dir: the directory that holds clevr/3.1.0; None for TFDS_DATA_DIR or,
      without that, TFDS' own default.
    split: "train", "train_eval" or "validation".
    download: whether to download (17.7 GB) and prepare what is missing.
    min_num_objects: scenes with fewer objects are left out.
    max_num_objects: scenes with more objects are left out.
    resolution: (height, width) of the images in pixels.
    crop: (top, left, height, width) of the part to be resized, in pixels of
      the stored 320x480 image; None for all of it. The 2020 code uses
      (29, 64, 192, 192) for object discovery.
    num_targets: rows of a target, objects and padding.
    interpolation: of images, "bilinear" or "nearest".

  Returns:
    The split. Its batches hold `image` [b, height, width, 3] float32 in
    [-1, 1], `target` [b, num_targets, 19] float32, see
    `preprocess.clevr_target`, and `num_objects` [b] int32.

  Raises:
    FileNotFoundError: CLEVR is not there and shall not be downloaded.
    ValueError: there is no such split, its files are damaged, or no scene has
      so many objects.
  """
  if split not in SPLITS:
    raise ValueError(
      f"CLEVR has no split {split!r}; choose one of {', '.join(SPLITS)}."
    )
  if num_targets < max_num_objects:
    raise ValueError(
      f"Scenes of up to {max_num_objects} objects do not fit into targets of "
      f"{num_targets} rows; raise num_targets or lower max_num_objects."
    )
  builder = _prepared_builder(data_dir, download)
  index = tfds_directory.index_split(builder, SPLITS[split])
  records = split_records(split, len(index))
  if not len(records):
    raise ValueError(
      f"Split {split!r} of {builder.data_path} is empty: it is a tenth of the "
      f"train split, which has {len(index)} examples; use a larger set."
    )
  limits = (min_num_objects, max_num_objects)
  if not (_is_published(builder) and _contains(limits, _PUBLISHED_OBJECTS)):
    records = _filter_by_objects(builder, index, records, split, limits)
  decode = functools.partial(
    _decode,
    features=_partial_features(builder, _DECODED),
    resolution=tuple(resolution),
    crop=crop,
    num_targets=num_targets,
    interpolation=interpolation,
  )
  return record_source.RecordSource(index, records, decode)


def _decode(
  record: "tf.Tensor",
  features: "tfds.features.FeaturesDict",
  resolution: tuple[int, int],
  crop: tuple[int, int, int, int] | None,
  num_targets: int,
  interpolation: str,
) -> dict[str, "tf.Tensor"]:
  example = features.deserialize_example(record)
  return preprocess.preprocess_clevr(
    example, resolution, crop, num_targets, interpolation
  )


def _partial_features(
  builder: "tfds.core.DatasetBuilder", selection: dict
) -> "tfds.features.FeaturesDict":
  """Returns the features to decode; what is left out costs no time."""
  import tensorflow_datasets as tfds

  decoding = tfds.decode.PartialDecoding(selection)
  return decoding.extract_features(builder.info.features)


def _prepared_builder(
  data_dir: str | None, download: bool
) -> "tfds.core.DatasetBuilder":
  """Returns TFDS' builder of CLEVR, whose files exist."""
  preprocess.import_tensorflow()
  import tensorflow_datasets as tfds

  base = tfds_directory.base_directory(data_dir)
  with file_access.os_errors(base):
    prepared = tfds_directory.is_prepared(base / NAME / VERSION)
    if not prepared and not download:
      raise FileNotFoundError(_missing(base))
    builder = tfds.builder(f"{NAME}:{VERSION}", data_dir=os.fspath(base))
    if not prepared:
      logging.info("Downloading and preparing CLEVR in %s.", base)
      builder.download_and_prepare()
  return builder


def _missing(base: epath.Path) -> str:
  """Returns the sentence for a directory without CLEVR."""
  others = tfds_directory.prepared_children(base / NAME)
  found = f"only version {', '.join(others)}" if others else "nothing"
  return (
    f"CLEVR {VERSION} was looked for in {base / NAME / VERSION}, but {found} "
    "is prepared there; set --config.data.data_dir to the directory that holds "
    f"{NAME}/{VERSION}, prepare it with --config.data.download=True (a "
    "download of 17.7 GB), or train on generated scenes with "
    "--config.data.source=procedural."
  )


def split_records(split: str, size: int) -> np.ndarray:
  """Returns the records of a split among `size` of its TFDS split, int64."""
  records = np.arange(size, dtype=np.int64)
  num_train_eval = min(_MAX_TRAIN_EVAL, size // 10)
  if split == "train":
    return records[num_train_eval:]
  if split == "train_eval":
    return records[:num_train_eval]
  return records


def _is_published(builder: "tfds.core.DatasetBuilder") -> bool:
  splits = builder.info.splits
  sizes = {name: split.num_examples for name, split in splits.items()}
  return sizes == _PUBLISHED_SIZES


def _contains(outer: Sequence[int], inner: Sequence[int]) -> bool:
  return outer[0] <= inner[0] and inner[1] <= outer[1]


def _filter_by_objects(
  builder: "tfds.core.DatasetBuilder",
  index: record_index.RecordIndex,
  records: np.ndarray,
  split: str,
  limits: tuple[int, int],
) -> np.ndarray:
  """Returns the records whose number of objects is within the limits."""
  start = time.monotonic()
  counts = _count_objects(builder, index, records)
  kept = records[(limits[0] <= counts) & (counts <= limits[1])]
  if not len(kept):
    raise ValueError(
      f"None of the {len(records)} examples of split {split!r} in "
      f"{builder.data_path} has {limits[0]} to {limits[1]} objects; change "
      "min_num_objects and max_num_objects, or use a larger set."
    )
  logging.info(
    "Kept %d of %d examples of split %s, those with %d to %d objects (%.1f s).",
    len(kept),
    len(records),
    split,
    *limits,
    time.monotonic() - start,
  )
  return kept


def _count_objects(
  builder: "tfds.core.DatasetBuilder",
  index: record_index.RecordIndex,
  records: np.ndarray,
) -> np.ndarray:
  """Reads all records once, without decoding images; [n] objects of each."""
  tf = preprocess.import_tensorflow()
  features = _partial_features(builder, {"objects": {"size"}})

  def count(record: "tf.Tensor") -> "tf.Tensor":
    return tf.size(features.deserialize_example(record)["objects"]["size"])

  numbers = tf.data.Dataset.from_tensor_slices(records)
  counts = record_source.map_records(index, numbers, count)
  return np.fromiter(counts.as_numpy_iterator(), np.int64)
