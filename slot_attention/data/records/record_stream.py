"""Reads and writes TFRecords one after the other, in a GZIP stream or not.

A record is an 8-byte length, the length's checksum, the payload and the
payload's checksum.
"""

from collections.abc import Iterator
import dataclasses
import gzip
import os
import struct
from typing import BinaryIO
import zlib

import google_crc32c

_HEADER = struct.Struct("<QI")  # Length of the payload, masked CRC32C of it.
_FOOTER = struct.Struct("<I")  # Masked CRC32C of the payload.
_GZIP_MAGIC = b"\x1f\x8b"
# More is no record of ours, but a damaged length: CLEVR's have 3 million bytes.
_MAX_LENGTH = 1 << 31


@dataclasses.dataclass(frozen=True)
class Record:
  """A record that was passed in a stream.

  Attributes:
    number: of the record in its file, from 0.
    offset: of its header in the decompressed stream, in bytes.
    progress: the part of the file that was read until then, 0 to 1.
    payload: its content.
  """

  number: int
  offset: int
  progress: float
  payload: bytes


class CorruptRecordError(ValueError):
  """The stream cannot be read beyond a record.

  Attributes:
    number: of the first record that is not whole.
    offset: of that record's header in the decompressed stream, in bytes.
    reason: what is wrong with it.
  """

  def __init__(
    self, path: str | os.PathLike, number: int, offset: int, reason: str
  ):
    super().__init__(
      f"{path} is corrupt at record {number}, byte {offset} of the "
      f"decompressed stream: {reason}; copy the file again."
    )
    self.number, self.offset, self.reason = number, offset, reason


def masked_crc32c(data: bytes) -> int:
  """Returns TFRecords' checksum: CRC-32C rotated by 15 bits plus a constant."""
  crc = google_crc32c.value(data)
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(payload: bytes) -> bytes:
  """Returns a record: the payload with its length and checksums."""
  length = struct.pack("<Q", len(payload))
  header = length + _FOOTER.pack(masked_crc32c(length))
  return header + payload + _FOOTER.pack(masked_crc32c(payload))


def is_gzip(path: str | os.PathLike) -> bool:
  """Returns whether a file begins as GZIP files do."""
  with open(path, "rb") as file:
    return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC


def read_records(path: str | os.PathLike, skip: int = 0) -> Iterator[Record]:
  """Yields the records of a TFRecord file, whose checksums are verified.

  Args:
    path: the file, uncompressed or one GZIP stream.
    skip: this many records are verified, but not yielded.

  Yields:
    The records after those passed over, to the end of the file.

  Raises:
    CorruptRecordError: the file is damaged or cut off; also from the GZIP
      stream's own checksum at the end of the file.
  """
  with open(path, "rb") as file:
    size = os.fstat(file.fileno()).st_size
    stream = gzip.GzipFile(fileobj=file) if is_gzip(path) else file
    number = offset = 0
    while True:
      try:
        payload = _read_record(stream)
      except (ValueError, EOFError, OSError, zlib.error) as error:
        raise CorruptRecordError(path, number, offset, str(error)) from error
      if payload is None:
        return
      if number >= skip:
        yield Record(number, offset, file.tell() / size, payload)
      number += 1
      offset += _HEADER.size + len(payload) + _FOOTER.size


def _read_record(stream: BinaryIO) -> bytes | None:
  """Returns the next payload, or None at the end."""
  header = stream.read(_HEADER.size)
  if not header:
    return None
  if len(header) < _HEADER.size:
    raise ValueError(f"it is cut off after {len(header)} bytes of its header")
  length, checksum = _HEADER.unpack(header)
  if masked_crc32c(header[:8]) != checksum or length > _MAX_LENGTH:
    raise ValueError("the checksum of its length is wrong")
  payload, footer = stream.read(length), stream.read(_FOOTER.size)
  if len(footer) < _FOOTER.size:
    raise ValueError(f"it is cut off after {len(payload)} of {length} bytes")
  if masked_crc32c(payload) != _FOOTER.unpack(footer)[0]:
    raise ValueError(f"the checksum of its {length} bytes is wrong")
  return payload
