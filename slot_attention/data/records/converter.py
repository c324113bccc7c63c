"""Converts published data sets to compact files.

A shard gets its name when it is complete, so that a conversion that was killed
goes on after the last of them. The arguments are written first and the
description of the data set last, see `converted`.
"""

from collections.abc import Iterable, Iterator
import dataclasses
import itertools
import os
import pathlib
from typing import Any, Protocol

from absl import logging
import numpy as np

from slot_attention.data import converted
from slot_attention.data import progress as progress_lib
from slot_attention.data import resumable
from slot_attention.data.records import conversion as conversion_lib
from slot_attention.data.records import record_stream
from slot_attention.data.records import whole_files
from slot_attention.data.records import wire_format

ARGUMENTS_FILE = "conversion.json"


class Conversion(Protocol):
  """What is converted, and how; see `conversion.Conversion`."""

  source: str
  dataset: str
  num_records: int | None
  records_per_shard: int

  def describe(self) -> dict[str, Any]:
    """Returns what the description of the data set says about this."""

  def examples(self, skip: int) -> Iterator[conversion_lib.Example]:
    """Yields the converted records after the first `skip` ones."""


@dataclasses.dataclass(frozen=True)
class _Shard:
  """A complete shard: its path and the number of objects of each record."""

  path: pathlib.Path
  num_objects: list[int]


def convert(conversion: Conversion, output: str | os.PathLike) -> pathlib.Path:
  """Writes a converted data set, or goes on where a killed run stopped.

  Args:
    conversion: what to convert, and how.
    output: the directory; empty, missing, or of the same conversion.

  Returns:
    The directory.

  Raises:
    FileExistsError: there is something else at the target.
    OSError: the disk is full.
    ValueError: the source is damaged, of another data set or too short, or
      the target belongs to another conversion.
  """
  directory = pathlib.Path(output)
  directory.mkdir(parents=True, exist_ok=True)
  with resumable.locked(directory):
    resumable.claim(directory, ARGUMENTS_FILE, conversion.describe())
    if converted.read_info(directory) is not None:
      logging.info("%s is converted already.", directory)
      return directory
    shards = _complete_shards(directory, conversion)
    if shards:
      logging.info("Going on after %d complete shards.", len(shards))
    shards += _convert_rest(directory, conversion, shards)
    _finish(directory, conversion, shards)
  return directory


def check_finished(directory: str | os.PathLike) -> None:
  """Raises ValueError if a conversion to a directory has not come to its end.

  Args:
    directory: whatever is there; it can be missing.
  """
  directory = pathlib.Path(directory)
  begun = (directory / ARGUMENTS_FILE).exists()
  if begun and not (directory / converted.INFO_FILE).exists():
    raise ValueError(
      f"{directory} is a conversion that has not come to its end; give the "
      "same convert command again."
    )


def _complete_shards(
  directory: pathlib.Path, conversion: Conversion
) -> list[_Shard]:
  """Reads the shards that are there."""
  shards = []
  while (path := _shard_path(directory, conversion, len(shards))).exists():
    counts = [
      wire_format.parse_example(record.payload, ["num_objects"])["num_objects"]
      for record in record_stream.read_records(path)
    ]
    shards.append(_Shard(path, [int(count[0]) for count in counts]))
  return shards


def _shard_path(
  directory: pathlib.Path, conversion: Conversion, number: int
) -> pathlib.Path:
  return directory / f"{conversion.dataset}-{number:05d}.tfrecords"


def _convert_rest(
  directory: pathlib.Path,
  conversion: Conversion,
  shards: list[_Shard],
) -> Iterator[_Shard]:
  """Yields the shards after those given when they are written."""
  skip, missing = sum(len(shard.num_objects) for shard in shards), None
  if conversion.num_records is not None:
    missing = conversion.num_records - skip
  examples = itertools.islice(conversion.examples(skip), missing)
  progress = progress_lib.Progress(missing, "records converted")
  number = len(shards)
  while (first := next(examples, None)) is not None:
    rest = itertools.islice(examples, conversion.records_per_shard - 1)
    path = _shard_path(directory, conversion, number)
    yield _write_shard(path, itertools.chain([first], rest), progress)
    number += 1


def _write_shard(
  path: pathlib.Path,
  examples: Iterable[conversion_lib.Example],
  progress: progress_lib.Progress,
) -> _Shard:
  counts = []
  with whole_files.open_whole(path) as file:
    for example in examples:
      file.write(record_stream.frame(example.payload))
      counts.append(example.num_objects)
      progress.count(example.progress)
  return _Shard(path, counts)


def _finish(
  directory: pathlib.Path,
  conversion: Conversion,
  shards: list[_Shard],
) -> None:
  """Describes the data set, which makes the directory one."""
  num_objects = np.array(
    [count for shard in shards for count in shard.num_objects], np.uint8
  )
  wanted = conversion.num_records or len(num_objects) or 1
  if len(num_objects) != wanted:
    raise ValueError(
      f"{conversion.source} holds {len(num_objects)} records, not "
      f"num_records={wanted}; remove {directory} and ask for fewer."
    )
  with whole_files.open_whole(directory / converted.NUM_OBJECTS_FILE) as file:
    np.save(file, num_objects)
  description = conversion.describe()
  description["shards"] = [
    {"file": shard.path.name, "num_records": len(shard.num_objects)}
    for shard in shards
  ]
  resumable.write_json(directory / converted.INFO_FILE, description)
