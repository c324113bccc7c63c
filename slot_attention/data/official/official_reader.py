"""Published files of the Multi-Object Datasets: GZIP streams of tf.Examples."""

from collections.abc import Mapping
import functools
import math
import os
from typing import TYPE_CHECKING

import numpy as np

from slot_attention.data import preprocess
from slot_attention.data.official import multi_object_specs
from slot_attention.data.official import official_records
from slot_attention.data.records import gzip_index
from slot_attention.data.records import record_stream
from slot_attention.data.records import wire_format

if TYPE_CHECKING:
  import tensorflow as tf

URL = "https://storage.googleapis.com/multi-object-datasets/"


def find(directory: str, dataset: str) -> str:
  """Returns the path of a data set's file.

  Args:
    directory: holds the file, or the subdirectory in which it is published.
    dataset: a key of `multi_object_specs.SPECS`.

  Returns:
    The path.

  Raises:
    FileNotFoundError: the file is in neither place.
  """
  file = multi_object_specs.SPECS[dataset].file
  paths = [
    os.path.join(directory, name) for name in (file, os.path.basename(file))
  ]
  found = [path for path in paths if os.path.isfile(path)]
  if not found:
    raise FileNotFoundError(
      f"{dataset} was looked for as a converted data set in {directory} and as "
      f"{' and '.join(paths)}, but is not there; download {URL}{file} or set "
      "config.data.data_dir."
    )
  return found[0]


def open_index(
  path: str, dataset: str, max_records: int
) -> gzip_index.GzipRecordIndex:
  """Finds the records of a file, and that they are of a data set.

  Args:
    path: the file.
    dataset: a key of `multi_object_specs.SPECS`.
    max_records: the records behind these are not needed.

  Returns:
    The index, with the number of visible objects of each record.

  Raises:
    ValueError: the file is no GZIP file, empty, damaged, or of another set.
  """
  spec = multi_object_specs.SPECS[dataset]
  # Known at once, while making an index takes minutes.
  _check_first_record(path, dataset, spec)
  return gzip_index.GzipRecordIndex.open(
    path, max_records, functools.partial(count_objects, spec=spec)
  )


def count_objects(record: bytes, spec: multi_object_specs.Spec) -> int:
  """Counts the visible objects of a record, parsing as little as possible.

  Args:
    record: the serialized tf.Example.
    spec: of its data set.

  Returns:
    The number; the background is no object.

  Raises:
    ValueError: the record is not one of the data set.
  """
  name = "visibility" if "visibility" in spec.features else "mask"
  array = _to_array(wire_format.parse_example(record, [name]), name, spec)
  return official_records.count_objects({name: array}, spec)


def decode(
  record: "tf.Tensor", spec: multi_object_specs.Spec
) -> dict[str, "tf.Tensor"]:
  """Decodes a record with tensorflow.

  Args:
    record: [] string, the serialized tf.Example.
    spec: of its data set.

  Returns:
    `image` [h, w, c] uint8, `segmentation` [h, w] uint8, 0 background, k entity
    k, and `num_objects` [] int32, as `converted.decode` returns them.
  """
  tf = preprocess.import_tensorflow()
  types = {
    multi_object_specs.UINT8: tf.string,
    multi_object_specs.FLOAT32: tf.float32,
  }
  parsed = tf.io.parse_single_example(
    record,
    {
      name: tf.io.FixedLenFeature(feature.shape, types[feature.dtype])
      for name, feature in spec.features.items()
      if name in ("image", "mask", "visibility")
    },
  )
  # decode_raw gives every one-byte string an axis of its own.
  image = tf.io.decode_raw(parsed["image"], tf.uint8)[..., 0]  # [h, w, c]
  mask = tf.io.decode_raw(parsed["mask"], tf.uint8)[..., 0, 0]
  if spec.entities_last:
    mask = tf.transpose(mask, (2, 0, 1))
  covered = tf.cast(mask > 0, tf.uint8)  # [k, h, w]
  visible = parsed.get("visibility", tf.reduce_max(covered, (1, 2)))  # [k]
  entities = tf.cast(tf.range(spec.num_entities), tf.uint8)[:, None, None]
  return {
    "image": image,
    # Masks are one-hot, so the last one that covers a pixel is the only one.
    "segmentation": tf.reduce_max(covered * entities, axis=0),
    "num_objects": tf.math.count_nonzero(visible[1:] > 0, dtype=tf.int32),
  }


def _check_first_record(
  path: str, dataset: str, spec: multi_object_specs.Spec
) -> None:
  if not os.path.getsize(path):
    raise ValueError(f"{path} is empty; copy the file again.")
  if not record_stream.is_gzip(path):
    raise ValueError(
      f"{path} is no GZIP file, as the published files are; copy the file "
      "again."
    )
  first = next(record_stream.read_records(path), None)
  if first is None:
    raise ValueError(f"{path} holds no records; copy the file again.")
  parsed = {}
  try:
    parsed = wire_format.parse_example(first.payload)
    for name in spec.features:
      _to_array(parsed, name, spec)
  except ValueError as error:
    other = official_records.identify(parsed)
    raise ValueError(
      f"{path} does not hold {dataset}: {error}"
      + (f", but {other} would fit" if other else "")
      + "; change config.data.dataset or config.data.data_dir."
    ) from error


def _to_array(
  parsed: Mapping[str, np.ndarray], name: str, spec: multi_object_specs.Spec
) -> np.ndarray:
  """Returns a feature in its shape."""
  vector, feature = parsed.get(name, np.zeros(0)), spec.features[name]
  size = math.prod(feature.shape)
  if vector.size != size or vector.dtype != feature.dtype:
    raise ValueError(
      f"its feature {name!r} has {vector.size} elements of {vector.dtype}, not "
      f"{size} of {feature.dtype}, {list(feature.shape)}"
    )
  return vector.reshape(feature.shape)
