"""Features of images that a frozen transformer has computed beforehand.

`data.prepare features` writes a directory for each split:

  info.json: what it is, from which images and by which transformer, and which
    files hold how many records. It is written last, so a directory without it
    holds no features.
  num_objects.npy: [n] int16, objects of each record; -1 where it is unknown.
  shards: uncompressed TFRecords of tf.Examples. `features` is one string, the
    float16 [n, c] row by row. `image` uint8 [h, w, 3] and `segmentation` uint16
    [h, w] are strings too, compressed by zlib. Training records have no image.

The order of the records is that in which their source is evaluated, so the same
part of a split is evaluated with and without features.
"""

from collections.abc import Mapping
import dataclasses
import json
import os
import pathlib
from typing import Any, TYPE_CHECKING
import zlib

from absl import logging
import ml_collections
import numpy as np

from slot_attention.data import converted
from slot_attention.data import feature_identity
from slot_attention.data import preprocess
from slot_attention.data.records import record_index
from slot_attention.data.records import record_source
from slot_attention.data.records import wire_format

if TYPE_CHECKING:
  import tensorflow as tf

INFO_FILE, NUM_OBJECTS_FILE = "info.json", "num_objects.npy"
ARGUMENTS_FILE = "features.json"
FORMAT_VERSION = 1
UNKNOWN = -1  # Number of objects.
_ADVICE = "write them with `python -m slot_attention.data.prepare features`"


@dataclasses.dataclass(frozen=True, eq=False)
class Info:
  """What a directory of features holds.

  Attributes:
    data: the images, see `feature_identity.describe_data`.
    vit: the transformer, see `feature_identity.describe_vit`.
    split: of the data set.
    tokens: (n, c) of the features.
    image: (h, w) of the stored images, () for none.
    segmentation: (h, w) of the stored segmentations, () for none.
    paths: the shards in the order of the records.
    shard_lengths: number of records of each shard.
    num_objects: [n] int16 of each record, or UNKNOWN.
  """

  data: Mapping[str, Any]
  vit: Mapping[str, Any]
  split: str
  tokens: tuple[int, int]
  image: tuple[int, ...]
  segmentation: tuple[int, ...]
  paths: tuple[str, ...]
  shard_lengths: tuple[int, ...]
  num_objects: np.ndarray


def open_features(
  config: ml_collections.ConfigDict,
  split: str,
  vit: ml_collections.ConfigDict,
) -> record_source.RecordSource:
  """Opens the features of a split.

  Args:
    config: `config.data` of a run; `features_dir` holds a directory for each
      split, and the rest says from which images the features must be.
    split: "train", "train_eval", "validation" or "test".
    vit: `config.model.vit`, which the features must be of. Without a file of
      weights only the other settings are compared.

  Returns:
    The split. Its batches hold `features` [b, n, c] float16 without the class
    token, `num_objects` [b] int32 and, where they were stored, `segmentation`
    [b, h, w] uint16 and `image` [b, h, w, 3] uint8.

  Raises:
    FileNotFoundError: there are no features of this split, or a file is
      missing.
    ValueError: they are damaged, of other images, or of another transformer.
  """
  if not config.features_dir or "://" in config.features_dir:
    raise ValueError(
      f"config.data.features_dir is {config.features_dir!r}; it must be a "
      f"local directory of features: {_ADVICE}."
    )
  directory = pathlib.Path(config.features_dir).expanduser() / split
  info = read_info(directory)
  if info is None:
    begun = (directory / ARGUMENTS_FILE).exists()
    raise FileNotFoundError(
      f"{directory} is not finished; run the same `prepare features` again."
      if begun
      else f"There are no features in {directory}; {_ADVICE}."
    )
  if info.split != split:
    raise ValueError(
      f"{directory} holds features of split {info.split!r}; give the directory "
      "its old name."
    )
  feature_identity.check_data(info.data, config, directory)
  feature_identity.check_vit(info.vit, vit, directory)
  index = record_index.RecordIndex.build(info.paths, info.shard_lengths)
  records = _select(info, config, directory)
  logging.info(
    "Reading %d of %d records of features of %s tokens from %s.",
    len(records),
    len(index),
    "x".join(map(str, info.tokens)),
    directory,
  )

  def decode(records: "tf.Tensor") -> dict[str, "tf.Tensor"]:
    return decode_batch(records, info)

  return record_source.RecordSource(index, records, decode, batched=True)


def read_info(directory: pathlib.Path) -> Info | None:
  """Reads what a directory of features holds.

  Args:
    directory: of a split.

  Returns:
    The information, or None if there are no features.

  Raises:
    ValueError: it is damaged, or of another version of this code.
  """
  path = directory / INFO_FILE
  if not path.is_file():
    return None
  try:
    values = json.loads(path.read_text(encoding="utf-8"))
    version = values["format_version"]
    info = _parse(values, directory) if version == FORMAT_VERSION else None
  except (ValueError, KeyError, TypeError, OSError) as error:
    raise ValueError(
      f"{path} does not describe features ({error!r}); write them again to "
      "another directory."
    ) from error
  if info is None:
    raise ValueError(
      f"{path} is of format version {version}, but this code reads "
      f"{FORMAT_VERSION}; write the features again."
    )
  if len(info.num_objects) != sum(info.shard_lengths):
    raise ValueError(
      f"{directory / NUM_OBJECTS_FILE} is for {len(info.num_objects)} records, "
      f"but {INFO_FILE} names {sum(info.shard_lengths)}; copy the directory "
      "again."
    )
  return info


def _parse(values: dict[str, Any], directory: pathlib.Path) -> Info:
  num_tokens, num_channels = values["tokens"]
  shards = values["shards"]
  return Info(
    data=values["data"],
    vit=values["vit"],
    split=values["split"],
    tokens=(num_tokens, num_channels),
    image=tuple(values["image"]),
    segmentation=tuple(values["segmentation"]),
    paths=tuple(os.fspath(directory / shard["file"]) for shard in shards),
    shard_lengths=tuple(shard["num_records"] for shard in shards),
    num_objects=converted.load_counts(directory / NUM_OBJECTS_FILE, np.int16),
  )


def _select(
  info: Info, config: ml_collections.ConfigDict, directory: pathlib.Path
) -> np.ndarray:
  counts = info.num_objects
  limits = tuple(config[key] for key in feature_identity.LIMITS)
  kept = (limits[0] <= counts) & (counts <= limits[1])
  records = np.flatnonzero(kept | (counts == UNKNOWN))
  if not len(records):
    raise ValueError(
      f"None of the {len(counts)} records in {directory} has {limits[0]} to "
      f"{limits[1]} objects; change config.data.min_num_objects and "
      "config.data.max_num_objects."
    )
  return records


def encode(example: Mapping[str, np.ndarray]) -> bytes:
  """Serializes one record.

  Args:
    example: `features` [n, c] float16 and, where there are such, `num_objects`,
      `segmentation` [h, w] from 0 to 65535, and `image` [h, w, 3] float32 in
      [-1, 1], which is rounded to whole gray levels.

  Returns:
    The tf.Example.
  """
  num_objects = example.get("num_objects", UNKNOWN)
  record: dict[str, np.ndarray | bytes] = {
    "features": example["features"].astype("<f2").tobytes(),
    "num_objects": np.array([num_objects], np.int64),
  }
  if "segmentation" in example:
    labels = example["segmentation"].astype("<u2")
    record["segmentation"] = zlib.compress(labels.tobytes(), 1)
  if "image" in example:
    pixels = np.rint((example["image"] + 1.0) * 127.5).astype(np.uint8)
    record["image"] = zlib.compress(pixels.tobytes(), 1)
  return wire_format.encode_example(record)


def decode_batch(records: "tf.Tensor", info: Info) -> dict[str, "tf.Tensor"]:
  """Decodes records with tensorflow.

  Args:
    records: [b] string, serialized tf.Examples.
    info: what they hold.

  Returns:
    See `open_features`.
  """
  tf = preprocess.import_tensorflow()
  names = ["features"]
  names += [name for name in ("segmentation", "image") if getattr(info, name)]
  spec = {name: tf.io.FixedLenFeature((), tf.string) for name in names}
  spec["num_objects"] = tf.io.FixedLenFeature((), tf.int64)
  parsed = tf.io.parse_example(records, spec)

  def to_array(
    content: "tf.Tensor", dtype: "tf.DType", shape: tuple[int, ...]
  ) -> "tf.Tensor":
    flat = tf.io.decode_raw(content, dtype)  # [b, elements]
    # -1 would divide records of a wrong size anew.
    return tf.reshape(flat, (tf.shape(records)[0], *shape))

  batch = {
    "features": to_array(parsed["features"], tf.float16, info.tokens),
    "num_objects": tf.cast(parsed["num_objects"], tf.int32),
  }
  if info.segmentation:
    labels = tf.io.decode_compressed(parsed["segmentation"], "ZLIB")
    batch["segmentation"] = to_array(labels, tf.uint16, info.segmentation)
  if info.image:
    pixels = tf.io.decode_compressed(parsed["image"], "ZLIB")
    batch["image"] = to_array(pixels, tf.uint8, (*info.image, 3))
  return batch
