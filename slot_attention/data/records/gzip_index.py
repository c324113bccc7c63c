"""Random access to the records of a GZIP TFRecord file.

Where the records lie is found in one pass over the file and kept beside it, so
that the next run reads any record at once.
"""

from collections.abc import Callable
from concurrent import futures
import dataclasses
import hashlib
import itertools
import os
import pathlib
import struct
import time
from typing import Any
import uuid
import zlib

from absl import logging
import indexed_gzip
import numpy as np

from slot_attention.data import progress as progress_lib
from slot_attention.data.records import gzip_points
from slot_attention.data.records import record_stream
from slot_attention.data.records import whole_files

_FORMAT_VERSION = 1
_SUFFIX = ".index.npz"
_HEADER_SIZE = 12  # Of a record: its length and the length's checksum.
_FOOTER = struct.Struct("<I")  # Masked CRC32C of the payload.
# A read decompresses half of this many records besides its own, on average,
# and the index holds a point's content for each of as many: 1.5 kB per record
# of CLEVR with masks.
_RECORDS_PER_POINT = 4
_MIN_SPACING = 1 << 18
# Decompressed bytes after which the search for access points catches up.
_CATCH_UP = 1 << 28


@dataclasses.dataclass(frozen=True, eq=False)
class GzipRecordIndex:
  """Where each of the first records of a GZIP TFRecord file lies.

  The interface is that of `record_index.RecordIndex`. Reading is safe from any
  number of threads, none of which waits for another.

  Attributes:
    path: the file.
    offsets: [num_records] int64, first byte of each payload in the decompressed
      stream.
    lengths: [num_records] int64, bytes of each payload.
    num_objects: [num_records] uint8, what `count_objects` said of each.
    is_whole: whether the file is known to hold no more records.
    points: where decompression can start.
  """

  path: str
  offsets: np.ndarray
  lengths: np.ndarray
  num_objects: np.ndarray
  is_whole: bool
  points: gzip_points.AccessPoints

  @classmethod
  def open(
    cls,
    path: str | os.PathLike,
    max_records: int,
    count_objects: Callable[[bytes], int],
  ) -> "GzipRecordIndex":
    """Loads the index of a file, or passes once over the file to make it.

    The index is kept beside the file or, where that is not possible, under
    XDG_CACHE_HOME or ~/.cache. It is made again when the file has changed.

    Args:
      path: the file.
      max_records: the records behind these are not needed.
      count_objects: payload -> number of objects, 0 to 255; raises ValueError
        with the reason if the record is not as it should be.

    Returns:
      The index of at least the first `max_records` records, or of all.

    Raises:
      ValueError: the file is damaged before its record `max_records`.
    """
    path = os.fspath(path)
    for candidate in _candidates(path):
      index = _load(path, candidate)
      if index and (len(index) >= max_records or index.is_whole):
        logging.info("Loaded the index of %s from %s.", path, candidate)
        return index
    index = _build(path, max_records, count_objects)
    _save(index)
    return index

  def __len__(self) -> int:
    """Returns the number of records."""
    return len(self.offsets)

  def locate(self, record: int) -> tuple[str, int]:
    """Returns the file and the record's number in it, which is the same."""
    if not 0 <= record < len(self):
      raise IndexError(f"There is no record {record} among {len(self)}.")
    return self.path, int(record)

  def read(self, record: int) -> bytes:
    """Reads the payload of a record and verifies its checksum.

    Args:
      record: number of the record.

    Returns:
      The payload.

    Raises:
      IndexError: there is no such record.
      ValueError: the file has changed since the index was made.
      OSError: the disk does not answer.
    """
    _, number = self.locate(record)
    length = int(self.lengths[record])
    size = length + _FOOTER.size
    reason = "its checksum is wrong"
    try:
      content = self.points.read(self.path, int(self.offsets[record]), size)
    except zlib.error as error:
      content, reason = b"", str(error)
    payload, footer = content[:length], content[length:]
    if len(content) < size or _FOOTER.unpack(footer)[0] != (
      record_stream.masked_crc32c(payload)
    ):
      raise ValueError(
        f"Record {number} of {self.path} cannot be read any more ({reason}): "
        "the file has changed since it was opened; copy it again."
      )
    return payload


def _build(
  path: str, max_records: int, count_objects: Callable[[bytes], int]
) -> GzipRecordIndex:
  """Passes over the file, as far as its record `max_records`."""
  logging.info(
    "Looking for the first %d records of %s, once.", max_records, path
  )
  start, finder, caught_up = time.monotonic(), None, 0
  offsets, lengths, counts = [], [], []
  progress = progress_lib.Progress(what=f"records of {path} found")
  with futures.ThreadPoolExecutor(1) as pool:
    for record in itertools.islice(
      record_stream.read_records(path), max_records
    ):
      if finder is None:
        spacing = max(_RECORDS_PER_POINT * len(record.payload), _MIN_SPACING)
        finder = gzip_points.PointFinder(path, spacing)
      offsets.append(record.offset + _HEADER_SIZE)
      lengths.append(len(record.payload))
      counts.append(_count(path, record, count_objects))
      progress.count(max(len(offsets) / max_records, record.progress))
      if record.offset > caught_up + _CATCH_UP:
        caught_up = record.offset
        pool.submit(_extend, finder, caught_up)
    if finder is None:
      raise ValueError(f"{path} holds no records; copy the file again.")
    pool.submit(_extend, finder, offsets[-1]).result()
  logging.info(
    "Found %d records of %s in %.1f s.",
    len(offsets),
    path,
    time.monotonic() - start,
  )
  return GzipRecordIndex(
    path=path,
    offsets=np.array(offsets, np.int64),
    lengths=np.array(lengths, np.int64),
    num_objects=np.array(counts, np.uint8),
    is_whole=len(offsets) < max_records,
    points=finder.points(),
  )


def _count(
  path: str,
  record: record_stream.Record,
  count_objects: Callable[[bytes], int],
) -> int:
  try:
    return count_objects(record.payload)
  except ValueError as error:
    raise ValueError(
      f"Record {record.number} of {path} is damaged: {error}; copy the file "
      "again."
    ) from error


def _extend(finder: gzip_points.PointFinder, offset: int) -> None:
  try:
    finder.extend(offset)
  except indexed_gzip.ZranError as error:
    # The records until here are sound: the search looked beyond them.
    logging.warning("The file is damaged behind its needed part: %s", error)


def _candidates(path: str) -> list[pathlib.Path]:
  """Returns where the index of a file may be, the best place first."""
  cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
  place = hashlib.sha256(os.path.abspath(path).encode()).hexdigest()[:16]
  name = os.path.basename(path) + _SUFFIX
  return [
    pathlib.Path(path + _SUFFIX),
    pathlib.Path(cache) / "slot_attention" / f"{place}-{name}",
  ]


def _identity(path: str) -> np.ndarray:
  """Returns what changes with the file: its size and time, [3] int64."""
  status = os.stat(path)
  return np.array([_FORMAT_VERSION, status.st_size, status.st_mtime_ns])


def _load(path: str, candidate: pathlib.Path) -> GzipRecordIndex | None:
  """Returns the index that was kept in a place, if it is the file's."""
  if not candidate.is_file():
    return None
  try:
    with np.load(candidate) as saved:
      if not np.array_equal(saved["identity"], _identity(path)):
        logging.info(
          "%s belongs to another version of %s; making the index again.",
          candidate,
          path,
        )
        return None
      return _unpack(path, saved)
  except Exception as error:  # Even the parser of Python's own language's.
    logging.warning(
      "%s is damaged (%r); making the index again.", candidate, error
    )
    return None


def _unpack(path: str, saved: Any) -> GzipRecordIndex:
  return GzipRecordIndex(
    path=path,
    offsets=saved["offsets"],
    lengths=saved["lengths"],
    num_objects=saved["num_objects"],
    is_whole=bool(saved["is_whole"]),
    points=gzip_points.AccessPoints(
      saved["points"], saved["window_ends"], saved["windows"]
    ),
  )


def _save(index: GzipRecordIndex) -> None:
  """Keeps the index in the first place that can be written to."""
  arrays = {
    "identity": _identity(index.path),
    "offsets": index.offsets,
    "lengths": index.lengths,
    "num_objects": index.num_objects,
    "is_whole": np.array(index.is_whole),
    "points": index.points.table,
    "window_ends": index.points.window_ends,
    "windows": index.points.windows,
  }
  for candidate in _candidates(index.path):
    try:
      candidate.parent.mkdir(parents=True, exist_ok=True)
      # Other processes may be writing the same index.
      unique = candidate.with_name(uuid.uuid4().hex + _SUFFIX)
      with whole_files.open_whole(unique) as file:
        np.savez(file, **arrays)
      unique.replace(candidate)
    except OSError as error:
      logging.info("Cannot keep the index in %s (%s).", candidate, error)
      continue
    logging.info("Kept the index of %s in %s.", index.path, candidate)
    return
  logging.warning(
    "The index of %s is kept nowhere and will be made again by the next run; "
    "set XDG_CACHE_HOME to a directory that can be written to.",
    index.path,
  )
