"""Reads files of the Multi-Object Datasets with stock tf.data alone."""

import os

import numpy as np
import reference_arrays

from slot_attention.data import preprocess
from slot_attention.data.official import multi_object_specs


def real_records(file: str, spec: str) -> list[dict[str, np.ndarray]]:
  """Returns the real records of a file, or skips the test."""
  return read(
    reference_arrays.find("multi_object_datasets_samples", file), spec
  )


def read(path: os.PathLike, spec: str) -> list[dict[str, np.ndarray]]:
  """Returns all records; `labels` [h, w] tells which mask is set."""
  tf = preprocess.import_tensorflow()
  features = multi_object_specs.SPECS[spec].features
  parsing = {
    name: tf.io.FixedLenFeature(
      feature.shape, tf.string if feature.dtype == "uint8" else tf.float32
    )
    for name, feature in features.items()
  }
  records = []
  for serialized in tf.data.TFRecordDataset(str(path), "GZIP"):
    parsed = tf.io.parse_single_example(serialized, parsing)
    record = {
      name: tf.io.decode_raw(value, tf.uint8)[..., 0].numpy()
      if value.dtype == tf.string
      else value.numpy()
      for name, value in parsed.items()
    }
    entities = 2 if multi_object_specs.SPECS[spec].entities_last else 0
    mask = record["mask"][..., 0]
    assert set(np.unique(mask)) == {0, 255}
    assert np.all((mask == 255).sum(axis=entities) == 1)
    record["labels"] = mask.argmax(axis=entities)
    records.append(record)
  return records
