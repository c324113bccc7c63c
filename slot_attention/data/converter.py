"""Converts published files of the Multi-Object Datasets to compact ones.

A shard gets its name when it is complete, so that a conversion that was killed
goes on after the last of them. The arguments are written first and the
description of the data set last, see `converted`.
"""

from collections.abc import Iterable, Iterator
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import pathlib
from typing import Any

from absl import logging
import numpy as np

from slot_attention.data import conversion as conversion_lib
from slot_attention.data import converted
from slot_attention.data import progress as progress_lib
from slot_attention.data import record_stream
from slot_attention.data import whole_files
from slot_attention.data import wire_format

ARGUMENTS_FILE = "conversion.json"


@dataclasses.dataclass(frozen=True)
class _Shard:
  """A complete shard: its path and the number of objects of each record."""

  path: pathlib.Path
  num_objects: list[int]


def convert(
  conversion: conversion_lib.Conversion, output: str | os.PathLike
) -> pathlib.Path:
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
  with _locked(directory):
    _claim(directory, conversion)
    if converted.read_info(directory) is not None:
      logging.info("%s is converted already.", directory)
      return directory
    shards = _complete_shards(directory, conversion)
    if shards:
      logging.info("Going on after %d complete shards.", len(shards))
    shards += _convert_rest(directory, conversion, shards)
    _finish(directory, conversion, shards)
  return directory


@contextlib.contextmanager
def _locked(directory: pathlib.Path) -> Iterator[None]:
  """Keeps other processes away; the lock goes when this one is killed."""
  descriptor = os.open(directory, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    yield
  except BlockingIOError as error:
    raise FileExistsError(
      f"Another process is converting to {directory}; wait for it or choose "
      "another directory."
    ) from error
  finally:
    os.close(descriptor)


def _claim(
  directory: pathlib.Path, conversion: conversion_lib.Conversion
) -> None:
  """Writes down the arguments, or compares them with those written down."""
  path, arguments = directory / ARGUMENTS_FILE, conversion.describe()
  begun = [
    file
    for file in directory.iterdir()
    if file != path and not file.name.startswith(whole_files.INCOMPLETE)
  ]
  if not begun:
    _write_json(path, arguments)
  elif path.exists():
    _compare(directory, arguments, json.loads(path.read_text(encoding="utf-8")))
  else:
    raise FileExistsError(
      f"{directory} is not empty and holds no conversion that could go on; "
      "remove it or choose another directory."
    )


def _compare(
  directory: pathlib.Path, arguments: dict[str, Any], earlier: dict[str, Any]
) -> None:
  for name, value in arguments.items():
    if value != earlier.get(name):
      raise ValueError(
        f"{directory} was begun with {name}={earlier.get(name)}, which is now "
        f"{value}; give the same again or choose another directory."
      )


def _complete_shards(
  directory: pathlib.Path, conversion: conversion_lib.Conversion
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
  directory: pathlib.Path, conversion: conversion_lib.Conversion, number: int
) -> pathlib.Path:
  return directory / f"{conversion.dataset}-{number:05d}.tfrecords"


def _convert_rest(
  directory: pathlib.Path,
  conversion: conversion_lib.Conversion,
  shards: list[_Shard],
) -> Iterator[_Shard]:
  """Yields the shards after those given when they are written."""
  skip, missing = sum(len(shard.num_objects) for shard in shards), None
  if conversion.num_records is not None:
    missing = conversion.num_records - skip
  records = itertools.islice(
    record_stream.read_records(conversion.source, skip), missing
  )
  progress = progress_lib.Progress(missing, "records converted")
  number = len(shards)
  while (first := next(records, None)) is not None:
    rest = itertools.islice(records, conversion.records_per_shard - 1)
    path = _shard_path(directory, conversion, number)
    shard_records = itertools.chain([first], rest)
    yield _write_shard(path, shard_records, conversion, progress)
    number += 1


def _write_shard(
  path: pathlib.Path,
  records: Iterable[record_stream.Record],
  conversion: conversion_lib.Conversion,
  progress: progress_lib.Progress,
) -> _Shard:
  counts = []
  with whole_files.open_whole(path) as file:
    for record in records:
      try:
        example, num_objects = conversion.apply(record.payload)
      except ValueError as error:
        raise ValueError(
          f"Record {record.number} of {conversion.source} is not one of "
          f"{conversion.dataset}: {error}."
        ) from error
      file.write(record_stream.frame(example))
      counts.append(num_objects)
      progress.count(record.progress)
  return _Shard(path, counts)


def _finish(
  directory: pathlib.Path,
  conversion: conversion_lib.Conversion,
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
  _write_json(directory / converted.INFO_FILE, description)


def _write_json(path: pathlib.Path, values: dict[str, Any]) -> None:
  with whole_files.open_whole(path) as file:
    file.write((json.dumps(values, indent=2) + "\n").encode())
