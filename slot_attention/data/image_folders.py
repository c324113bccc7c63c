"""Images in folders as data sets are published, or converted.

`image_folder_layouts` says which files belong to a split. `data.prepare
convert` packs them at the resolution of a training, in a directory for each
split, which reads much faster and gives the same batches in the same order, up
to rounding to whole gray levels.

`train` holds images alone, since no task learns from masks. The others hold
`segmentation` where the data set has masks, and `num_objects` where it tells
how many there are. `train_eval` is the first part of `train`.
"""

from collections.abc import Callable
import dataclasses
import os
import time
from typing import TYPE_CHECKING

from absl import logging
import numpy as np

from slot_attention.data import converted
from slot_attention.data import preprocess
from slot_attention.data.folders import folder_files
from slot_attention.data.folders import image_files
from slot_attention.data.folders import image_folder_layouts
from slot_attention.data.records import converter
from slot_attention.data.records import record_index
from slot_attention.data.records import record_retry
from slot_attention.data.records import record_source
from slot_attention.data.records import wire_format

if TYPE_CHECKING:
  import tensorflow as tf

SPLITS = ("train", "train_eval", "validation", "test")
_MAX_TRAIN_EVAL = 320


@dataclasses.dataclass(frozen=True)
class View:
  """What is to be seen of each image.

  Attributes:
    resolution: (height, width) of the result in pixels.
    center_crop: side of the square in the middle that is resized: up to 1 a
      fraction of the shorter side, otherwise pixels; 0 for the whole image,
      which another aspect ratio stretches.
    crop: (top, left, height, width) of the part that is resized, instead of a
      square in the middle; () for none.
    interpolation: of images, see `preprocess.preprocess_image`; label maps take
      the nearest pixel.
  """

  resolution: tuple[int, int]
  center_crop: float = 0.0
  crop: tuple[int, ...] = ()
  interpolation: str = "bilinear"

  def __post_init__(self):
    if len(self.resolution) != 2 or min(self.resolution) < 1:
      raise ValueError(
        f"resolution={self.resolution} is not a height and a width in pixels."
      )
    if len(self.crop) not in (0, 4) or (self.crop and self.center_crop):
      raise ValueError(
        f"crop={self.crop} is not a top, left, height and width, or there is "
        f"center_crop={self.center_crop} besides; give one of them."
      )


@dataclasses.dataclass(frozen=True, eq=False)
class FolderIndex:
  """Random access to the images of a split, each with what is known of it.

  Attributes:
    files: of the split.
    annotated: whether a record holds more than the image. If so it is a
      tf.Example, and otherwise the image's file as it is.
  """

  files: folder_files.Files
  annotated: bool

  def __len__(self) -> int:
    """Returns the number of images."""
    return len(self.files.images)

  def locate(self, record: int) -> tuple[str, None]:
    """Returns the file, which holds nothing else."""
    return self.files.path(record), None

  def read(self, record: int) -> bytes:
    """Returns a record; see `record_source.Index`."""
    path = self.files.path(record)
    try:
      content = image_files.read_image(path)
    except OSError as error:
      if record_retry.may_pass(error):
        raise
      raise ValueError(
        f"{path} cannot be read ({error.strerror}); copy the file again."
      ) from error
    except ValueError as error:
      raise ValueError(
        f"{path} is not read: {error}; remove it, or copy the file again."
      ) from error
    return self._annotate(record, content) if self.annotated else content

  def _annotate(self, record: int, content: bytes) -> bytes:
    features: dict[str, np.ndarray | bytes] = {"image": content}
    if self.files.load_labels is not None:
      labels = self.files.load_labels(record)
      features["segmentation"] = labels.tobytes()
      features["size"] = np.array(labels.shape, np.int64)
    if self.files.count_objects is not None:
      count = self.files.count_objects(record)
      features["num_objects"] = np.array([count], np.int64)
    return wire_format.encode_example(features)


def open_dataset(
  dataset: str,
  data_dir: str,
  split: str,
  view: View,
  variant: str = "",
  min_num_objects: int = 0,
  max_num_objects: int = 0,
) -> record_source.RecordSource:
  """Opens a split of one of the data sets.

  Args:
    dataset: a key of `image_folder_layouts.LAYOUTS`.
    data_dir: the unpacked data set, or what `data.prepare convert` made of it.
    split: one of SPLITS.
    view: what is to be seen of each image.
    variant: of the data set; "" for the usual one.
    min_num_objects: images with fewer objects are left out; 0 for all images,
      whatever their number of objects.
    max_num_objects: images with more objects are left out, unless the least
      number is 0.

  Returns:
    The split. Its batches hold `image` [b, height, width, 3], float32 in
    [-1, 1] or, of a converted data set, uint8 levels, and see above.

  Raises:
    FileNotFoundError: the split is not there.
    ValueError: there is no such split, its files are not those of the data set,
      are there in part or converted in another way, or no image has so many
      objects.
  """
  if split not in SPLITS:
    raise ValueError(
      f"{dataset} has no split {split!r}; choose one of {', '.join(SPLITS)}."
    )
  stored = "train" if split == "train_eval" else split
  annotated = split != "train"
  root = folder_files.open_root(data_dir)
  directory = os.path.join(root, stored)
  converter.check_finished(directory)
  info = converted.read_info(directory)
  if info is not None:
    source = _open_converted(info, directory, dataset, view, variant, annotated)
    counts = info.num_objects if info.has_counts else None
  else:
    wanted = annotated or min_num_objects > 0
    files = image_folder_layouts.find(dataset, root, stored, variant, wanted)
    source = _open_folder(files, stored, view, annotated)
    counts = files.count_objects
  records = np.arange(len(source.index), dtype=np.int64)
  if split == "train_eval":
    records = records[:_MAX_TRAIN_EVAL]
  if min_num_objects:
    limits = (min_num_objects, max_num_objects)
    records = _filter_by_objects(records, counts, limits, directory)
  return dataclasses.replace(source, records=records)


def _open_folder(
  files: folder_files.Files, split: str, view: View, annotated: bool
) -> record_source.RecordSource:
  logging.info(
    "Reading %d images of split %s from the files in %s%s; "
    "`python -m slot_attention.data.prepare convert` makes files that are read "
    "many times faster.",
    len(files.images),
    split,
    files.root,
    f", without {' and '.join(files.missing)}" if files.missing else "",
  )
  return open_files(files, view, annotated)


def open_files(
  files: folder_files.Files, view: View, annotated: bool = True
) -> record_source.RecordSource:
  """Opens the files of a split.

  Args:
    files: see `image_folder_layouts.find`.
    view: what is to be seen of each image.
    annotated: whether to read masks and numbers of objects, where they exist.

  Returns:
    All images in the order of the files.
  """
  has_labels = annotated and files.load_labels is not None
  has_counts = annotated and files.count_objects is not None
  index = FolderIndex(files, has_labels or has_counts)

  def decode(record: "tf.Tensor") -> dict[str, "tf.Tensor"]:
    return _decode(record, view, has_labels, has_counts)

  return record_source.RecordSource(index, np.arange(len(index)), decode)


def _decode(
  record: "tf.Tensor", view: View, has_labels: bool, has_counts: bool
) -> dict[str, "tf.Tensor"]:
  """Decodes a record of a FolderIndex."""
  tf = preprocess.import_tensorflow()
  if not (has_labels or has_counts):
    return {"image": _view_image(_decode_image(record), view)}
  features = {"image": tf.io.FixedLenFeature((), tf.string)}
  if has_labels:
    features["segmentation"] = tf.io.FixedLenFeature((), tf.string)
    features["size"] = tf.io.FixedLenFeature((2,), tf.int64)
  if has_counts:
    features["num_objects"] = tf.io.FixedLenFeature((), tf.int64)
  parsed = tf.io.parse_single_example(record, features)
  image = _decode_image(parsed["image"])
  result = {"image": _view_image(image, view)}
  if has_labels:
    labels = tf.io.decode_raw(parsed["segmentation"], tf.uint8)
    labels = tf.reshape(labels, parsed["size"])  # [h, w]
    tf.debugging.assert_equal(
      tf.shape(image, tf.int64)[:2],
      parsed["size"],
      message="its mask has another size",
    )
    result["segmentation"] = _view_labels(labels, view)
  if has_counts:
    result["num_objects"] = tf.cast(parsed["num_objects"], tf.int32)
  return result


def _decode_image(content: "tf.Tensor") -> "tf.Tensor":
  """Decodes PNG and JPEG; gray becomes colours, transparency is dropped."""
  tf = preprocess.import_tensorflow()
  image = tf.cond(
    tf.io.is_jpeg(content),
    # Otherwise tensorflow takes a quicker way, which is off by several levels.
    lambda: tf.io.decode_jpeg(
      content, channels=3, dct_method="INTEGER_ACCURATE"
    ),
    lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
  )
  return tf.ensure_shape(image, (None, None, 3))


def _view_image(image: "tf.Tensor", view: View) -> "tf.Tensor":
  return preprocess.preprocess_image(
    preprocess.center_crop(image, view.center_crop),
    view.resolution,
    view.crop or None,
    view.interpolation,
  )


def _view_labels(labels: "tf.Tensor", view: View) -> "tf.Tensor":
  labels = preprocess.center_crop(labels[..., None], view.center_crop)[..., 0]
  return preprocess.preprocess_segmentation(
    labels, view.resolution, view.crop or None
  )


def _filter_by_objects(
  records: np.ndarray,
  counts: Callable[[int], int] | np.ndarray | None,
  limits: tuple[int, int],
  place: str,
) -> np.ndarray:
  """Returns the records whose number of objects is within the limits."""
  if counts is None:
    raise ValueError(
      f"config.data.min_num_objects is {limits[0]}, but nothing tells how many "
      f"objects the images of {place} show; set it to 0 for all images."
    )
  start = time.monotonic()
  count = counts if callable(counts) else counts.__getitem__

  def read(record: int) -> int:
    what = f"The number of objects of image {record} of {place}"
    return record_retry.retry(lambda: count(record), what)

  numbers = np.fromiter(map(read, records), np.int64, len(records))
  kept = records[(limits[0] <= numbers) & (numbers <= limits[1])]
  if not len(kept):
    raise ValueError(
      f"None of the {len(records)} images of {place} shows {limits[0]} to "
      f"{limits[1]} objects (they show {numbers.min()} to {numbers.max()}); "
      "change config.data.min_num_objects and config.data.max_num_objects."
    )
  logging.info(
    "Kept %d of %d images of %s, those with %d to %d objects (%.1f s).",
    len(kept),
    len(records),
    place,
    *limits,
    time.monotonic() - start,
  )
  return kept


def _open_converted(
  info: converted.Info,
  directory: str,
  dataset: str,
  view: View,
  variant: str,
  annotated: bool,
) -> record_source.RecordSource:
  settings = {
    "dataset": (info.dataset, dataset),
    "variant": (
      info.variant,
      image_folder_layouts.resolve_variant(dataset, variant),
    ),
    "resolution": (info.resolution, view.resolution),
    "center_crop": (info.center_crop, view.center_crop),
    "crop": (info.crop, view.crop),
    "interpolation": (info.interpolation, view.interpolation),
  }
  for name, (there, wanted) in settings.items():
    if there != wanted:
      raise ValueError(
        f"{directory} was converted with {name} = {there!r}, but "
        f"config.data.{name} is {wanted!r}; change it or convert again."
      )
  index = record_index.RecordIndex.build(info.paths, info.shard_lengths)
  logging.info(
    "Reading the converted data set in %s, %d images.", directory, len(index)
  )

  def decode(records: "tf.Tensor") -> dict[str, "tf.Tensor"]:
    example = converted.decode_batch(records, info)
    return example if annotated else {"image": example["image"]}

  return record_source.RecordSource(
    index, np.arange(len(index)), decode, batched=True
  )
