"""Looks at TFRecords: what they hold, and whether they are whole."""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
import itertools
import os
import pathlib
import textwrap
from typing import Any

import numpy as np

from slot_attention.data import converted
from slot_attention.data import progress as progress_lib
from slot_attention.data.folders import folder_files
from slot_attention.data.official import multi_object_specs
from slot_attention.data.official import official_records
from slot_attention.data.records import converter
from slot_attention.data.records import record_stream
from slot_attention.data.records import wire_format

_WIDTH = 68  # Of the second column of a table.


@dataclasses.dataclass
class Report:
  """What was found in a file, or in a converted data set.

  Attributes:
    path: the file or directory.
    dataset: a key of `multi_object_specs.SPECS`; None if the features are of
      no data set among them.
    is_converted: whether it is a converted data set.
    num_records: number of whole records.
    file_bytes: size of the files.
    raw_bytes: of the whole records, decompressed.
    features: type and shape by name, in the first record.
    num_objects: how many records have so many visible objects.
    num_overlapping: records with pixels in several masks.
    num_uncovered: records with pixels in no mask.
    error: the first thing that is wrong; None if nothing is.
    corrupt_record: number of the record that is corrupt, in its file.
    corrupt_offset: of that record in the decompressed file, in bytes.
  """

  path: str
  dataset: str | None = None
  is_converted: bool = False
  num_records: int = 0
  file_bytes: int = 0
  raw_bytes: int = 0
  features: dict[str, str] = dataclasses.field(default_factory=dict)
  num_objects: dict[int, int] = dataclasses.field(default_factory=dict)
  num_overlapping: int = 0
  num_uncovered: int = 0
  error: str | None = None
  corrupt_record: int | None = None
  corrupt_offset: int | None = None


# Verifies a record and adds what it holds to the report.
_Check = Callable[[Mapping[str, np.ndarray], Report], None]


def inspect(
  path: str | os.PathLike,
  dataset: str | None = None,
  num_records: int | None = None,
) -> Iterator[Report]:
  """Reads files to their ends, or to the first corrupt record.

  Args:
    path: a TFRecord file, compressed or not; a converted data set; or another
      directory, of which all files called *.tfrecord* are read.
    dataset: what the records should be, a key of `multi_object_specs.SPECS`.
    num_records: look at so many records of each file, or of the converted
      data set; None for all.

  Yields:
    A report for the converted data set or each file.

  Raises:
    FileNotFoundError: there is nothing to read.
    ValueError: the directory is an unfinished conversion, or its description
      is damaged.
  """
  path = pathlib.Path(path)
  if folder_files.is_archive(path) and path.is_file():
    folder_files.refuse_file(path)
  for begun in (path, *sorted(path.glob("*/"))):
    converter.check_finished(begun)
  directories = converted_directories(path)
  for directory in directories:
    info = converted.read_info(directory)
    yield _inspect_converted(directory, info, dataset, num_records)
  if directories:
    return
  files = sorted(path.rglob("*.tfrecord*")) if path.is_dir() else [path]
  files = [file for file in files if file.is_file()]  # No pipes or devices.
  if not files:
    raise FileNotFoundError(f"There is no TFRecord file at {path}.")
  for file in files:
    report = Report(os.fspath(file), dataset)
    _scan({report.path: None}, report, _check_published, num_records)
    yield report


def converted_directories(path: str | os.PathLike) -> list[pathlib.Path]:
  """Returns a directory that is a converted data set, or those in it."""
  path = pathlib.Path(path)
  if (path / converted.INFO_FILE).is_file():
    return [path]
  return sorted(file.parent for file in path.glob(f"*/{converted.INFO_FILE}"))


def _scan(
  files: Mapping[str, int | None],
  report: Report,
  check: _Check,
  num_records: int | None,
) -> None:
  """Reads files, with the numbers of their records if these are known."""
  report.file_bytes = sum(os.path.getsize(file) for file in files)
  progress = progress_lib.Progress(num_records, "records inspected")
  try:
    for file, record in itertools.islice(_records(files), num_records):
      _inspect_record(file, record, report, check)
      progress.count(record.progress if len(files) == 1 else None)
    if not report.num_records:
      raise ValueError(f"{report.path} holds no records.")
  except record_stream.CorruptRecordError as error:
    report.error = str(error)
    report.corrupt_record, report.corrupt_offset = error.number, error.offset
  except ValueError as error:
    report.error = str(error)


def _records(
  files: Mapping[str, int | None],
) -> Iterator[tuple[str, record_stream.Record]]:
  """Yields the records of files, and compares their numbers."""
  for file, length in files.items():
    count = 0
    for record in record_stream.read_records(file):
      count += 1
      yield file, record
    if length not in (None, count):
      raise ValueError(
        f"{file} holds {count} records, but {converted.INFO_FILE} says "
        f"{length}; copy it again."
      )


def _inspect_record(
  file: str,
  record: record_stream.Record,
  report: Report,
  check: _Check,
) -> None:
  try:
    parsed = wire_format.parse_example(record.payload)
    check(parsed, report)
  except ValueError as error:
    raise record_stream.CorruptRecordError(
      file, record.number, record.offset, str(error)
    ) from error
  report.num_records += 1
  report.raw_bytes += len(record.payload)


def _check_published(parsed: Mapping[str, np.ndarray], report: Report) -> None:
  """Verifies a record as it was published, or of an unknown data set."""
  if not report.features:
    report.dataset = report.dataset or official_records.identify(parsed)
    report.features = _describe(parsed, report.dataset)
  if report.dataset is None:
    if set(parsed) != set(report.features):
      raise ValueError(
        f"its features are {', '.join(sorted(parsed)) or 'none'}, other than "
        "those of the records before"
      )
    return
  spec = multi_object_specs.SPECS[report.dataset]
  arrays = official_records.to_arrays(parsed, spec)
  count_objects(report, official_records.count_objects(arrays, spec))
  entity_masks = official_records.masks(arrays, spec)
  num_masks = np.count_nonzero(entity_masks, axis=0)  # [h, w]
  report.num_overlapping += int(num_masks.max() > 1)
  report.num_uncovered += int(num_masks.min() < 1)


def _describe(
  parsed: Mapping[str, np.ndarray], dataset: str | None
) -> dict[str, str]:
  """Returns the types and shapes of features; vectors where it is unknown."""
  shapes = {name: vector.shape for name, vector in parsed.items()}
  if dataset is not None and official_records.identify(parsed) == dataset:
    spec = multi_object_specs.SPECS[dataset]
    shapes = {name: feature.shape for name, feature in spec.features.items()}
  return {
    name: f"{parsed[name].dtype} {list(shapes[name])}"
    for name in sorted(parsed)
  }


def count_objects(report: Any, num_objects: int) -> None:
  """Counts a record, or an image, in the `num_objects` of a report."""
  previous = report.num_objects.get(num_objects, 0)
  report.num_objects[num_objects] = previous + 1


def _inspect_converted(
  path: pathlib.Path,
  info: converted.Info,
  dataset: str | None,
  num_records: int | None,
) -> Report:
  """Compares the shards with the description of the data set."""
  report = Report(os.fspath(path), info.dataset, is_converted=True)
  if dataset not in (None, info.dataset):
    report.error = f"{path} is of {info.dataset}, not {dataset}."
    return report
  files = dict(zip(info.paths, info.shard_lengths, strict=True))
  check = functools.partial(_check_converted, info=info)
  _scan(files, report, check, num_records)
  return report


def _check_converted(
  parsed: Mapping[str, np.ndarray], report: Report, info: converted.Info
) -> None:
  """Verifies a record against the description of its data set."""
  sizes = converted.feature_sizes(info)
  report.features = report.features or _describe(parsed, None)
  found = {name: vector.size for name, vector in parsed.items()}
  if found != sizes:
    raise ValueError(f"its features have {found} elements instead of {sizes}")
  if info.dataset in multi_object_specs.SPECS:
    num_entities = multi_object_specs.SPECS[info.dataset].num_entities
    if parsed["segmentation"].max() >= num_entities:
      raise ValueError(
        f"its segmentation has label {parsed['segmentation'].max()}, but "
        f"{info.dataset} has {num_entities} entities"
      )
  num_objects = int(parsed["num_objects"][0])
  expected = info.num_objects[report.num_records : report.num_records + 1]
  if num_objects not in expected:
    raise ValueError(
      f"it has num_objects={num_objects}, but {converted.NUM_OBJECTS_FILE} "
      f"says {expected.tolist()}"
    )
  if info.has_counts:
    count_objects(report, num_objects)


def format_report(report: Report) -> str:
  """Returns a report as a short table."""
  dataset = report.dataset or "unknown: no known one has these features"
  per_record = max(report.num_records, 1)
  features = (f"{name} {text}" for name, text in report.features.items())
  rows = {
    "data set": dataset + (", converted" if report.is_converted else ""),
    "records": f"{report.num_records:,}",
    "bytes": f"{report.file_bytes:,}, by record "
    f"{report.file_bytes / per_record:,.0f} in the file and "
    f"{report.raw_bytes / per_record:,.0f} decompressed",
    "features": ", ".join(features),
    "objects": format_counts(report.num_objects, "records"),
    "masks": f"{report.num_overlapping:,} records with pixels in several, "
    f"{report.num_uncovered:,} with pixels in none",
    "wrong": report.error or "nothing",
  }
  if not report.num_objects:
    del rows["objects"]
  if report.is_converted or report.dataset is None:
    del rows["masks"]
  return format_table(report.path, rows)


def format_counts(num_objects: Mapping[int, int], what: str) -> str:
  """Returns how many records, or images, have so many objects, as a text."""
  histogram = (f"{n}: {m:,}" for n, m in sorted(num_objects.items()))
  return f"visible: {what}; " + ", ".join(histogram)


def format_table(title: str, rows: Mapping[str, str]) -> str:
  """Returns a title and rows of a name and a text, whose lines are wrapped."""
  lines = [title]
  for title, text in rows.items():
    # No line is broken within a name or a path.
    for line in textwrap.wrap(text, _WIDTH, break_long_words=False):
      lines.append(f"  {title:10}{line}")
      title = ""
  return "\n".join(lines)
