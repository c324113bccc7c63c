"""Finds data sets that tensorflow_datasets has prepared, and their records."""

import os
import time
from typing import TYPE_CHECKING

from absl import logging
from etils import epath

from slot_attention.data import preprocess
from slot_attention.data.records import record_index

if TYPE_CHECKING:
  import tensorflow_datasets as tfds


def base_directory(data_dir: str | None) -> epath.Path:
  """Returns where data sets are looked for.

  Args:
    data_dir: the directory; None or "" for TFDS_DATA_DIR or, without that,
      TFDS' own default.
  """
  preprocess.import_tensorflow()
  import tensorflow_datasets as tfds

  default = os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR
  return epath.Path(data_dir or default).expanduser()


def is_prepared(directory: epath.Path) -> bool:
  """Returns whether there is a data set in name/version."""
  return (directory / "dataset_info.json").exists()


def prepared_children(directory: epath.Path) -> list[str]:
  """Returns the names of the prepared data sets below a directory."""
  if not directory.is_dir():
    return []
  names = sorted(path.name for path in directory.iterdir())
  return [name for name in names if is_prepared(directory / name)]


def index_split(
  builder: "tfds.core.DatasetBuilder", split: str
) -> record_index.RecordIndex:
  """Finds the records of a TFDS split and checks their number.

  Args:
    builder: of a prepared data set.
    split: its name in TFDS.

  Returns:
    The index.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: there is no such split, or a file is damaged.
  """
  if split not in builder.info.splits:
    raise ValueError(
      f"{builder.data_path} has no split {split!r}, only "
      f"{', '.join(builder.info.splits)}; choose another split or generate it."
    )
  info = builder.info.splits[split]
  start = time.monotonic()
  index = record_index.RecordIndex.build(info.filepaths, info.shard_lengths)
  logging.info(
    "Found %d records of the %s split in %s in %.1f s.",
    len(index),
    split,
    builder.data_path,
    time.monotonic() - start,
  )
  return index
