"""The Multi-Object Datasets (Kabra et al., 2019), published or converted.

A published file is one GZIP stream of large records; `data.prepare convert`
makes compact files of it, which are read many times faster. Both give the same
batches in the same order.

Splits are consecutive records: `train`, `validation` and `test`. `train_eval`
is the first part of `train`, at most 320 records: the 2020 paper tunes on
training images.
"""

from collections.abc import Callable, Sequence
import dataclasses
import os
from typing import TYPE_CHECKING

from absl import logging
import numpy as np

from slot_attention.data import converted
from slot_attention.data import preprocess
from slot_attention.data.official import multi_object_specs
from slot_attention.data.official import official_reader
from slot_attention.data.records import record_index
from slot_attention.data.records import record_source

if TYPE_CHECKING:
  import tensorflow as tf

SPLITS = ("train", "train_eval", "validation", "test")
_MAX_TRAIN_EVAL = 320
_SIZES_KEY = "config.data.split_sizes"


@dataclasses.dataclass(frozen=True)
class View:
  """What is to be seen of each image.

  Attributes:
    resolution: (height, width) of the result in pixels.
    crop: (top, left, height, width) of the part to be resized, in pixels of
      the published image; () for all of it.
    interpolation: of images, "bilinear" or "nearest"; label maps take the
      nearest.
  """

  resolution: tuple[int, int]
  crop: tuple[int, ...] = ()
  interpolation: str = "bilinear"


@dataclasses.dataclass(frozen=True, eq=False)
class _Files:
  """What was found: where, how many objects there are, and how to read."""

  place: str
  num_objects: np.ndarray  # [n] of each record, in the order of the files.
  index: record_source.Index
  decode: Callable[["tf.Tensor"], dict[str, "tf.Tensor"]]
  batched: bool


def open_dataset(
  dataset: str,
  data_dir: str,
  split: str,
  split_sizes: tuple[int, int, int],
  min_num_objects: int,
  max_num_objects: int,
  resolution: tuple[int, int],
  crop: tuple[int, ...] = (),
  interpolation: str = "bilinear",
) -> record_source.RecordSource:
  """Opens a split of one of the data sets.

  Args:
    dataset: a key of `multi_object_specs.SPECS`.
    data_dir: a converted data set, or the directory that holds the published
      file, directly or in the subdirectory that it has where it is published.
      A converted data set is preferred.
    split: "train", "train_eval", "validation" or "test".
    split_sizes: number of records of train, validation and test, which follow
      one another in the file. Records behind them are not looked at.
    min_num_objects: records with fewer visible objects are left out; the
      background is no object.
    max_num_objects: records with more visible objects are left out.
    resolution: see `View`.
    crop: see `View`.
    interpolation: see `View`.

  Returns:
    The split. Its batches hold `image` [b, height, width, 3], see
    `preprocess.fit_image`, `segmentation` [b, height, width] uint8, 0
    background, k entity k of the record, and `num_objects` [b] int32, the
    visible ones.

  Raises:
    FileNotFoundError: there is neither a converted nor a published file.
    ValueError: the files are damaged, of another data set, converted in
      another way or too short; there is no such split, or no record of it has
      so many objects.
  """
  view = View(tuple(resolution), tuple(crop), interpolation)
  _check_arguments(dataset, data_dir, split, split_sizes, view)
  directory = os.path.expanduser(data_dir)
  info = converted.read_info(directory)
  if info is not None:
    files = _open_converted(info, directory, dataset, view)
  else:
    files = _open_official(directory, dataset, sum(split_sizes), view)
  if len(files.index) < sum(split_sizes):
    raise ValueError(
      f"{files.place} holds {len(files.index)} records, but {_SIZES_KEY} = "
      f"{tuple(split_sizes)} takes {sum(split_sizes)}; lower {_SIZES_KEY} or "
      "use a larger file."
    )
  limits = (min_num_objects, max_num_objects)
  records = _select(split, split_sizes, limits, files)
  return record_source.RecordSource(
    files.index, records, files.decode, files.batched
  )


def split_records(split: str, split_sizes: Sequence[int]) -> np.ndarray:
  """Returns the numbers of the records of a split, int64."""
  if split == "train_eval":
    return np.arange(min(_MAX_TRAIN_EVAL, split_sizes[0]), dtype=np.int64)
  i = ("train", "validation", "test").index(split)
  start = sum(split_sizes[:i])
  return np.arange(start, start + split_sizes[i], dtype=np.int64)


def _check_arguments(
  dataset: str,
  data_dir: str,
  split: str,
  split_sizes: Sequence[int],
  view: View,
) -> None:
  if split not in SPLITS:
    raise ValueError(
      f"{dataset} has no split {split!r}; choose one of {', '.join(SPLITS)}."
    )
  if not data_dir or "://" in data_dir:
    raise ValueError(
      f"config.data.data_dir is {data_dir!r}; it must be a local directory "
      f"that holds {dataset}, converted or as published."
    )
  if not len(split_records(split, split_sizes)):
    raise ValueError(
      f"Split {split!r} of {dataset} is empty by {_SIZES_KEY} = "
      f"{tuple(split_sizes)} (train, validation, test); give it records or "
      "choose another split."
    )
  if view.crop:
    top, left, height, width = view.crop
    rows, columns, _ = multi_object_specs.SPECS[dataset].features["image"].shape
    inside = top + height <= rows and left + width <= columns
    if not inside or min(top, left) < 0 or min(height, width) < 1:
      raise ValueError(
        f"config.data.crop = {view.crop} (top, left, height, width) does not "
        f"lie within the {rows}x{columns} images of {dataset}; change it or "
        "use ()."
      )


def _select(
  split: str,
  split_sizes: Sequence[int],
  limits: tuple[int, int],
  files: _Files,
) -> np.ndarray:
  """Returns the records of a split that have as many objects as allowed."""
  records = split_records(split, split_sizes)
  counts = files.num_objects[records]
  kept = records[(limits[0] <= counts) & (counts <= limits[1])]
  if not len(kept):
    raise ValueError(
      f"None of the {len(records)} records of split {split!r} in "
      f"{files.place} has {limits[0]} to {limits[1]} visible objects (they "
      f"have {counts.min()} to {counts.max()}); change "
      "config.data.min_num_objects and config.data.max_num_objects."
    )
  logging.info(
    "Split %s has %d of the %d records from number %d on in %s, those with %d "
    "to %d visible objects.",
    split,
    len(kept),
    len(records),
    records[0],
    files.place,
    *limits,
  )
  return kept


def _open_converted(
  info: converted.Info, directory: str, dataset: str, view: View
) -> _Files:
  _check_conversion(info, directory, dataset, view)
  index = record_index.RecordIndex.build(info.paths, info.shard_lengths)
  logging.info(
    "Reading %s from the converted data set in %s, %d records; a published "
    "file in this directory is not used.",
    dataset,
    directory,
    len(index),
  )
  if info.crop:  # Whole images can still be cropped.
    view = dataclasses.replace(view, crop=())

  def decode(records: "tf.Tensor") -> dict[str, "tf.Tensor"]:
    return _finish(converted.decode_batch(records, info), view)

  return _Files(directory, info.num_objects, index, decode, batched=True)


def _check_conversion(
  info: converted.Info, directory: str, dataset: str, view: View
) -> None:
  if info.dataset != dataset:
    raise ValueError(
      f"{directory} holds {info.dataset}, not {dataset}; change "
      "config.data.dataset or config.data.data_dir."
    )
  whole = not info.crop and not info.resized
  if info.crop != view.crop and not whole:
    raise ValueError(
      f"{directory} was converted with crop = {info.crop}, but "
      f"config.data.crop is {view.crop}; change it or convert again."
    )
  if info.resized and info.resolution != view.resolution:
    raise ValueError(
      f"{directory} was converted to resolution = {info.resolution}, but "
      f"config.data.resolution is {view.resolution}; change it or convert "
      "again."
    )


def _open_official(
  directory: str, dataset: str, max_records: int, view: View
) -> _Files:
  path = official_reader.find(directory, dataset)
  index = official_reader.open_index(path, dataset, max_records)
  logging.info(
    "Reading %s from the published file %s, its first %d records; "
    "`python -m slot_attention.data.prepare convert` makes files that are read "
    "many times faster.",
    dataset,
    path,
    len(index),
  )
  spec = multi_object_specs.SPECS[dataset]

  def decode(record: "tf.Tensor") -> dict[str, "tf.Tensor"]:
    return _finish(official_reader.decode(record, spec), view)

  return _Files(path, index.num_objects, index, decode, batched=False)


def _finish(
  example: dict[str, "tf.Tensor"], view: View
) -> dict[str, "tf.Tensor"]:
  """Crops and resizes decoded examples, one or a batch, of either kind."""
  tf = preprocess.import_tensorflow()
  crop = view.crop or None
  image = preprocess.fit_image(
    example["image"], view.resolution, crop, view.interpolation
  )
  if image.shape[-1] == 1:
    image = tf.repeat(image, 3, axis=-1)
  return {
    "image": image,
    "segmentation": preprocess.preprocess_segmentation(
      example["segmentation"], view.resolution, crop
    ),
    "num_objects": example["num_objects"],
  }
