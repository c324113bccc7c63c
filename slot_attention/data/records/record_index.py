"""Random access to the records of TFRecord files.

A record is an 8-byte length, the length's checksum, the payload and the
payload's checksum. Following the lengths from one header to the next finds all
records without reading their payloads.
"""

from collections.abc import Sequence
from concurrent import futures
import dataclasses
import os
import struct

import numpy as np

from slot_attention.data.records import file_access
from slot_attention.data.records import record_stream

_HEADER = struct.Struct("<QI")  # Length of the payload, masked CRC32C of it.
_FOOTER = struct.Struct("<I")  # Masked CRC32C of the payload.
ADVICE = "copy the file again or prepare the data set again"
THREADS = 16  # Waiting for disks and buckets, not computing.


@dataclasses.dataclass(frozen=True, eq=False)
class RecordIndex:
  """Where each record of a list of TFRecord files lies.

  Records are numbered through all files, in the order of the files. Reading is
  safe from any number of threads: every read opens the file for itself.

  The checksums of the lengths are verified when the index is built, those of
  the payloads at every read.

  Attributes:
    paths: the files.
    starts: [num_files + 1] int64, number of the first record of each file, and
      at the end the number of all records.
    offsets: [num_records] int64, first byte of each payload in its file.
    lengths: [num_records] int64, bytes of each payload.
  """

  paths: tuple[str, ...]
  starts: np.ndarray
  offsets: np.ndarray
  lengths: np.ndarray

  @classmethod
  def build(
    cls, paths: Sequence[str], expected_counts: Sequence[int] | None = None
  ) -> "RecordIndex":
    """Scans the headers of uncompressed TFRecord files.

    Args:
      paths: the files, in the order in which records are numbered; local ones,
        or in buckets, where every record costs a request.
      expected_counts: how many records each has by the data set's metadata.

    Returns:
      The index.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is empty, cut off, damaged or of another format, or
        has another number of records than expected.
      OSError: a disk or a bucket does not answer.
    """
    paths = tuple(os.fspath(path) for path in paths)
    with futures.ThreadPoolExecutor(THREADS) as pool:
      files = list(pool.map(_scan, paths))
    counts = [len(offsets) for offsets, _ in files]
    for path, count, expected in zip(
      paths, counts, expected_counts or counts, strict=True
    ):
      if count != expected:
        raise ValueError(
          f"{path} has {count} records, but the data set's metadata says "
          f"{expected}; {ADVICE}."
        )
    return cls(
      paths=paths,
      starts=np.cumsum([0, *counts], dtype=np.int64),
      offsets=np.concatenate([offsets for offsets, _ in files]),
      lengths=np.concatenate([lengths for _, lengths in files]),
    )

  def __len__(self) -> int:
    """Returns the number of records in all files."""
    return len(self.offsets)

  def locate(self, record: int) -> tuple[str, int]:
    """Returns the file of a record and the record's number in that file."""
    if not 0 <= record < len(self):
      raise IndexError(f"There is no record {record} among {len(self)}.")
    file = int(np.searchsorted(self.starts, record, side="right")) - 1
    return self.paths[file], int(record - self.starts[file])

  def read(self, record: int) -> bytes:
    """Reads the payload of a record.

    Args:
      record: number of the record, counted through all files.

    Returns:
      The payload.

    Raises:
      IndexError: there is no such record.
      ValueError: the file has become shorter since the index was built, or
        the record is damaged.
      OSError: the disk or the bucket does not answer.
    """
    path, number = self.locate(record)
    length, offset = int(self.lengths[record]), int(self.offsets[record])
    size = length + _FOOTER.size
    with file_access.open_file(path) as file:
      content = file.read(size, offset)
    if len(content) != size:
      raise ValueError(
        f"{path} ends within record {number}, but did not when it was opened; "
        f"{ADVICE}."
      )
    payload = content[:length]
    checksum = record_stream.masked_crc32c(payload)
    if _FOOTER.unpack_from(content, length)[0] != checksum:
      raise ValueError(
        f"Record {number} of {path} cannot be read: the checksum of its "
        f"{length} bytes is wrong; {ADVICE}."
      )
    return payload


def _scan(path: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns offsets and lengths of the payloads in a file, [n] int64 each."""
  try:
    with file_access.open_file(path, scattered=True) as file:
      return _follow_headers(file, path)
  except FileNotFoundError as error:
    raise FileNotFoundError(f"{path} is missing; {ADVICE}.") from error


def _follow_headers(
  file: file_access.File, path: str
) -> tuple[np.ndarray, np.ndarray]:
  size = file.size
  if size == 0:
    raise ValueError(f"{path} is empty; {ADVICE}.")
  offsets, lengths, position = [], [], 0
  while position < size:
    header = file.read(_HEADER.size, position)
    if len(header) < _HEADER.size:
      raise ValueError(_cut_off(path, len(offsets), size))
    length, checksum = _HEADER.unpack(header)
    if record_stream.masked_crc32c(header[:8]) != checksum:
      raise ValueError(_damaged(path, len(offsets)))
    offsets.append(position + _HEADER.size)
    lengths.append(length)
    position += _HEADER.size + length + _FOOTER.size
    if position > size:
      raise ValueError(_cut_off(path, len(offsets) - 1, size))
  return np.array(offsets, np.int64), np.array(lengths, np.int64)


def _cut_off(path: str, record: int, size: int) -> str:
  return (
    f"{path} is cut off: it ends at byte {size}, within record {record}; "
    f"{ADVICE}."
  )


def _damaged(path: str, record: int) -> str:
  if record == 0:
    return (
      f"{path} is not an uncompressed TFRecord file: the checksum of the "
      f"length of record 0 is wrong; {ADVICE}."
    )
  return (
    f"{path} is damaged: the checksum of the length of record {record} is "
    f"wrong; {ADVICE}."
  )
