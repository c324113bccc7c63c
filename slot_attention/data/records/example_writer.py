"""Writes records as the files of the Multi-Object Datasets hold them."""

from collections.abc import Iterable, Mapping
import gzip
import os
import pathlib
from typing import BinaryIO

import numpy as np

from slot_attention.data import progress as progress_lib
from slot_attention.data.official import multi_object_specs
from slot_attention.data.records import record_stream
from slot_attention.data.records import whole_files
from slot_attention.data.records import wire_format


def write_examples(
  path: str | os.PathLike,
  spec: multi_object_specs.Spec,
  examples: Iterable[Mapping[str, np.ndarray]],
  num_examples: int | None = None,
  compression_level: int = 1,
) -> int:
  """Writes examples as one GZIP stream of TFRecords.

  The file gets its name when all of it is written, so that even a killed run
  leaves nothing that looks whole.

  Args:
    path: the file; directories on the way are made.
    spec: what the examples hold.
    examples: arrays of the shapes and types of `spec.features`.
    num_examples: number of examples, if known: for the log, and verified.
    compression_level: of GZIP, 1 to 9; 9 is smallest and slowest.

  Returns:
    The number of examples written.

  Raises:
    FileExistsError: the file is there already.
    ValueError: an example is not as the spec says, there is none at all, or
      another number of examples came.
  """
  path = pathlib.Path(path)
  if path.exists():
    raise FileExistsError(
      f"{path} exists; remove it or choose another directory."
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  progress = progress_lib.Progress(num_examples)
  with whole_files.open_whole(path) as file:
    _write(file, spec, examples, progress, compression_level)
    if not progress.done:
      raise ValueError(f"There is no example to write to {path}.")
    if num_examples not in (None, progress.done):
      raise ValueError(
        f"{path} was to have {num_examples} examples, but {progress.done} came."
      )
  return progress.done


def _write(
  file: BinaryIO,
  spec: multi_object_specs.Spec,
  examples: Iterable[Mapping[str, np.ndarray]],
  progress: progress_lib.Progress,
  level: int,
) -> None:
  # Without name and time of the file, the bytes depend on the examples alone.
  with gzip.GzipFile("", "wb", level, file, mtime=0) as stream:
    for example in examples:
      try:
        check_example(example, spec)
      except ValueError as error:
        raise ValueError(f"Example {progress.done}: {error}") from error
      record = wire_format.encode_example(
        {name: example[name] for name in spec.features}
      )
      stream.write(record_stream.frame(record))
      progress.count()


def check_example(
  example: Mapping[str, np.ndarray], spec: multi_object_specs.Spec
) -> None:
  """Raises ValueError unless all arrays are there and as the spec says."""
  if set(example) != set(spec.features):
    raise ValueError(
      f"its features are {', '.join(sorted(example)) or 'none'} instead of "
      f"{', '.join(sorted(spec.features))}."
    )
  for name, feature in spec.features.items():
    array = example[name]
    if array.shape != feature.shape or array.dtype != feature.dtype:
      raise ValueError(
        f"'{name}' is {array.dtype} {list(array.shape)} instead of "
        f"{feature.dtype} {list(feature.shape)}."
      )
