"""Converted data sets: compact files that read fast.

A converted data set is a directory, written by `data.prepare convert`:

  info.json: what it is and which files hold how many records. It is written
    last, so a directory without it is no data set.
  num_objects.npy: [n] uint8, see `Info.num_objects`.
  shards: uncompressed TFRecords of tf.Examples. `image` is one string of the
    raw uint8 [h, w, c], `segmentation` one of the raw uint8 labels [h, w]: 0
    background, k entity k; `num_objects` is an integer. The other factors of
    the published records stand beside them as they are, uint8 ones as one
    string. Images of folders can be without `segmentation`.
"""

from collections.abc import Mapping
import dataclasses
import json
import math
import os
import pathlib
from typing import Any, TYPE_CHECKING

import numpy as np

from slot_attention.data import preprocess
from slot_attention.data.folders import folder_files
from slot_attention.data.folders import image_folder_layouts
from slot_attention.data.official import multi_object_specs
from slot_attention.data.records import wire_format

if TYPE_CHECKING:
  import tensorflow as tf

INFO_FILE, NUM_OBJECTS_FILE = "info.json", "num_objects.npy"
FORMAT_VERSION = 1
# Of images of folders only.
IMAGE_SETTINGS = (
  "variant",
  "center_crop",
  "interpolation",
  "has_masks",
  "has_counts",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Info:
  """What a directory of converted records holds.

  Attributes:
    dataset: name of the data set, a key of `multi_object_specs.SPECS` or of
      `image_folder_layouts.LAYOUTS`.
    crop: (top, left, height, width) that was cut out of the published images,
      or () for all of them.
    resolution: (height, width) of the stored images in pixels.
    channels: of the stored images, 1 or 3.
    resized: whether images were resized after the crop, and rounded.
    source: `file`, the name of the published file, and `bytes`, its size.
    paths: the shards in the order of the records.
    shard_lengths: number of records of each shard.
    num_objects: [n] uint8, visible objects of each record, the background not
      counted.
    variant: of the data set, of images of folders, as are the following.
    center_crop: see `image_folders.View`.
    interpolation: see there.
    has_masks: whether there is a `segmentation`.
    has_counts: whether `num_objects` is known; it is 0 otherwise.
  """

  dataset: str
  crop: tuple[int, ...]
  resolution: tuple[int, int]
  channels: int
  resized: bool
  source: Mapping[str, Any]
  paths: tuple[str, ...]
  shard_lengths: tuple[int, ...]
  num_objects: np.ndarray
  variant: str = ""
  center_crop: float = 0.0
  interpolation: str = "bilinear"
  has_masks: bool = True
  has_counts: bool = True

  @property
  def num_records(self) -> int:
    """Returns the number of records in all shards."""
    return sum(self.shard_lengths)


def read_info(directory: str | os.PathLike) -> Info | None:
  """Reads what a converted data set holds.

  Args:
    directory: where `data.prepare convert` wrote to.

  Returns:
    The information, or None if there is no converted data set.

  Raises:
    FileNotFoundError: a file of the data set is missing.
    ValueError: the data set is damaged, or of another version of this code.
  """
  directory = pathlib.Path(directory)
  path = directory / INFO_FILE
  if not path.is_file():
    return None
  try:
    values = json.loads(path.read_text(encoding="utf-8"))
    version = values["format_version"]
    info = _parse(values, directory) if version == FORMAT_VERSION else None
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"{path} does not describe a converted data set ({error!r}); convert it "
      "again to another directory."
    ) from error
  if info is None:
    raise ValueError(
      f"{path} is of format version {version}, but this code reads "
      f"{FORMAT_VERSION}; convert the data set again."
    )
  _check_files(info, directory)
  return info


def _parse(values: dict[str, Any], directory: pathlib.Path) -> Info:
  if values["dataset"] not in image_folder_layouts.LAYOUTS:
    multi_object_specs.SPECS[values["dataset"]]  # A data set that is known.
  shards = values["shards"]
  height, width = values["resolution"]
  return Info(
    dataset=values["dataset"],
    crop=tuple(values["crop"]),
    resolution=(height, width),
    channels=values["channels"],
    resized=values["resized"],
    source=values["source"],
    paths=tuple(
      os.path.join(directory, folder_files.check_name(shard["file"], INFO_FILE))
      for shard in shards
    ),
    shard_lengths=tuple(int(shard["num_records"]) for shard in shards),
    num_objects=load_counts(directory / NUM_OBJECTS_FILE),
    **{name: values[name] for name in IMAGE_SETTINGS if name in values},
  )


def load_counts(path: pathlib.Path, dtype: type = np.uint8) -> np.ndarray:
  """Reads one vector of small numbers.

  Args:
    path: written by np.save.
    dtype: of the numbers.

  Returns:
    [n], of that type.

  Raises:
    FileNotFoundError: it is missing.
    ValueError: it is damaged.
  """
  try:
    counts = np.load(path)
  except OSError:
    raise
  except Exception as error:  # Even the parser of Python's own language's.
    raise ValueError(f"{path} is damaged: {error!r}") from error
  if counts.dtype != dtype or counts.ndim != 1:
    raise ValueError(f"{path} holds {counts.dtype} {list(counts.shape)}")
  return counts


def _check_files(info: Info, directory: pathlib.Path) -> None:
  for path in info.paths:
    if not os.path.isfile(path):
      raise FileNotFoundError(
        f"{path} is missing, which {INFO_FILE} beside it names; copy the whole "
        "directory again."
      )
  if info.num_objects.shape != (info.num_records,):
    raise ValueError(
      f"{directory / NUM_OBJECTS_FILE} is for {info.num_objects.size} records, "
      f"but {INFO_FILE} names {info.num_records}; copy the directory again."
    )


def decode(record: "tf.Tensor", info: Info) -> dict[str, "tf.Tensor"]:
  """Decodes one record with tensorflow.

  Args:
    record: [] string, the serialized tf.Example.
    info: the data set that it belongs to.

  Returns:
    `image` [h, w, c] uint8, `segmentation` [h, w] uint8 and `num_objects` []
    int32.
  """
  tf = preprocess.import_tensorflow()
  decoded = decode_batch(tf.expand_dims(record, 0), info)
  return {name: value[0] for name, value in decoded.items()}


def decode_batch(records: "tf.Tensor", info: Info) -> dict[str, "tf.Tensor"]:
  """Decodes records at once, which is several times faster.

  Args:
    records: [b] string, serialized tf.Examples.
    info: the data set that they belong to.

  Returns:
    `image` [b, h, w, c] uint8 and, if the data set has them, `segmentation`
    [b, h, w] uint8 and `num_objects` [b] int32.
  """
  tf = preprocess.import_tensorflow()
  types = {"image": tf.string}
  if info.has_masks:
    types["segmentation"] = tf.string
  if info.has_counts:
    types["num_objects"] = tf.int64
  parsed = tf.io.parse_example(
    records,
    {name: tf.io.FixedLenFeature((), dtype) for name, dtype in types.items()},
  )
  height, width = info.resolution

  def to_array(name: str, shape: tuple[int, ...]) -> "tf.Tensor":
    flat = tf.io.decode_raw(parsed[name], tf.uint8)  # [b, elements]
    # -1 would divide records of a wrong size anew.
    return tf.reshape(flat, (tf.shape(records)[0], *shape))

  result = {"image": to_array("image", (height, width, info.channels))}
  if info.has_masks:
    result["segmentation"] = to_array("segmentation", (height, width))
  if info.has_counts:
    result["num_objects"] = tf.cast(parsed["num_objects"], tf.int32)
  return result


def feature_sizes(info: Info) -> dict[str, int]:
  """Returns the number of elements of each feature of a converted record."""
  sizes = {}
  if info.dataset in multi_object_specs.SPECS:
    spec = multi_object_specs.SPECS[info.dataset]
    sizes = {
      name: math.prod(feature.shape) for name, feature in spec.features.items()
    }
    del sizes["mask"]
  num_pixels = math.prod(info.resolution)
  sizes |= {"image": num_pixels * info.channels, "num_objects": 1}
  return sizes | ({"segmentation": num_pixels} if info.has_masks else {})


def encode(
  image: np.ndarray,
  segmentation: np.ndarray | None,
  num_objects: int,
  factors: Mapping[str, np.ndarray],
) -> bytes:
  """Serializes one record.

  Args:
    image: [h, w, c] uint8.
    segmentation: [h, w] uint8, 0 background, k entity k; None for none.
    num_objects: visible ones, the background not counted.
    factors: the other arrays of the published record, uint8 or float32.

  Returns:
    The tf.Example.
  """
  strings = {"image": image, **factors}
  if segmentation is not None:
    strings["segmentation"] = segmentation
  return wire_format.encode_example(
    {
      "num_objects": np.array([num_objects], np.int64),
      **{
        name: array.tobytes() if array.dtype == np.uint8 else array
        for name, array in strings.items()
      },
    }
  )
