"""Points of a GZIP file at which decompression can start.

A point is a place in the compressed stream and the 32 kB of content before it,
which are all that decompression needs. They are found by `indexed_gzip`, whose
own objects hold the content of all points, uncompressed: gigabytes for a large
file, and as much again for each thread that reads; and where a file has changed
they can read without end. Here the content is kept compressed, and a read needs
nothing but zlib and one point. So reads from any number of threads do not wait
for each other.
"""

from collections.abc import Iterator
import dataclasses
import io
import itertools
import os
import struct
from typing import BinaryIO
import zlib

import indexed_gzip
import numpy as np

# Format of indexed_gzip's index files: this header, the table of the points,
# the content before each of those that have one (the first point has none).
_MAGIC, _VERSION = b"GZIDX", 1
# Magic, version, flags, bytes of the compressed and of the decompressed stream
# (0: unknown), distance of points, bytes of content, number of points.
_HEADER = struct.Struct("<5sBBQQIII")
POINT = np.dtype(
  [
    ("compressed", "<u8"),
    ("offset", "<u8"),
    ("bits", "u1"),  # Of the byte before, that belong to this point.
    ("has_window", "u1"),
  ]
)
_WINDOW_SIZE = 1 << 15
_READ_BUFFER = 1 << 16
# Decompressed bytes between two saves of points, which bounds the memory.
_STEP = 1 << 29

# Blocks of DEFLATE without content, as bits in the order of the stream: of
# fixed codes, and of codes of their own (RFC 1951, 3.2.7): 256 times no code in
# two runs, one code of one bit, which ends the block, and no distance.
_EMPTY_FIXED = [0, 1, 0] + [0] * 7
_EMPTY_DYNAMIC = [
  *(0, 0, 1),  # Not the last block; its kind.
  *[0] * 10,  # 257 lengths and 1 distance.
  *[1] * 4,  # 19 lengths of the codes of lengths, in the RFC's order.
  *[0] * 6,
  *(1, 0, 0),  # "Repeat no code": one bit, 0.
  *(0, 1, 0),  # "No code": two bits, 10.
  *[0] * 39,
  *(0, 1, 0),  # "One bit": two bits, 11.
  *[0] * 3,
  *(0, 1, 1, 1, 1, 1, 1, 1),  # 138 times no code.
  *(0, 1, 1, 0, 1, 0, 1, 1),  # 118 times.
  *(1, 1, 1, 0, 0),  # One bit; no distance; the end.
]


@dataclasses.dataclass(frozen=True, eq=False)
class AccessPoints:
  """Access points of one file.

  Attributes:
    table: [p] POINT: the places, `compressed` and `offset` in bytes of the
      compressed and of the decompressed stream.
    window_ends: [p] int64, where the content of each point ends in `windows`.
    windows: [m] uint8, zlib streams of the content before each point, one
      after the other.
  """

  table: np.ndarray
  window_ends: np.ndarray
  windows: np.ndarray

  def read(self, path: str, offset: int, size: int) -> bytes:
    """Reads a part of the decompressed stream.

    Args:
      path: the file.
      offset: first byte of the part in the decompressed stream.
      size: number of bytes.

    Returns:
      The bytes; fewer at the end of the file.

    Raises:
      OSError: the file cannot be read.
      zlib.error: it is not the one that the points belong to.
    """
    i = int(np.searchsorted(self.table["offset"], offset, side="right")) - 1
    start = int(self.window_ends[i - 1]) if i else 0
    window = self.windows[start : self.window_ends[i]].tobytes()
    inflate = zlib.decompressobj(
      -zlib.MAX_WBITS, zdict=zlib.decompress(window) if window else b""
    )
    skip = offset - int(self.table["offset"][i])
    content = bytearray()
    with open(path, "rb", buffering=0) as file:
      for chunk in _compressed(file, self.table[i]):
        content += inflate.decompress(chunk, skip + size - len(content))
        if len(content) == skip + size or inflate.eof:
          break
    return bytes(content[skip:])


def _compressed(file: BinaryIO, point: np.void) -> Iterator[bytes]:
  """Yields a DEFLATE stream that begins at a point, maybe within a byte."""
  place, bits = int(point["compressed"]), int(point["bits"])
  file.seek(place - (bits > 0))
  if bits and (first := file.read(1)):
    yield _begin_within(first[0], bits)
  while chunk := file.read(_READ_BUFFER):
    yield chunk


def _begin_within(byte: int, bits: int) -> bytes:
  """Fills the bits before a point with blocks that hold nothing.

  Args:
    byte: the one in which the point lies.
    bits: how many of it belong to the stream, 1 to 7, the upper ones.

  Returns:
    Bytes, the last of which ends as `byte` does.
  """
  # A block of fixed codes has 10 bits, so that an odd number needs another.
  prefix = [] if bits % 2 == 0 else _EMPTY_DYNAMIC
  while len(prefix) % 8 != 8 - bits:
    prefix = prefix + _EMPTY_FIXED
  ours = [byte >> i & 1 for i in range(8 - bits, 8)]
  return np.packbits(prefix + ours, bitorder="little").tobytes()


class PointFinder:
  """Finds access points from the beginning of a file on."""

  def __init__(self, path: str, spacing: int):
    """Prepares to search.

    Args:
      path: the file.
      spacing: least number of decompressed bytes between two points, at least
        32,768. They lie at ends of DEFLATE blocks, which can hold megabytes
        of content that compresses well.
    """
    self._path = path
    self._spacing = spacing
    self._table = np.zeros(0, POINT)
    self._windows: list[bytes] = []  # Compressed, b"" where there is none.

  def extend(self, offset: int) -> None:
    """Searches as far as a byte of the decompressed stream, or a bit further.

    Args:
      offset: the byte.

    Raises:
      indexed_gzip.ZranError: the file is damaged there or shortly behind it;
        the points before the damage are kept.
    """
    while not len(self._table) or self._table["offset"][-1] < offset:
      target = min(offset, self._spacing)
      if len(self._table) > 1:
        target = min(offset, int(self._table["offset"][-1]) + _STEP)
      if not self._find(target):
        return  # The file ends before.

  def points(self) -> AccessPoints:
    """Returns the points found so far."""
    sizes = [len(window) for window in self._windows]
    return AccessPoints(
      table=self._table,
      window_ends=np.cumsum(sizes, dtype=np.int64),
      windows=np.frombuffer(b"".join(self._windows), np.uint8),
    )

  def _find(self, target: int) -> bool:
    """Searches from the last points to a byte; returns if any was found."""
    # indexed_gzip guesses from two points how far it has to read.
    known = min(len(self._table), 2)
    windows = self._windows[len(self._windows) - known :]
    with _open(self._path, self._spacing) as file:
      _import(file, self._path, self._spacing, self._table[-known:], windows)
      try:
        file.seek(target)
      finally:
        count = self._keep(*_export(file))
    return count > 0

  def _keep(self, table: np.ndarray, windows: list[bytes]) -> int:
    """Adds the points behind those that are known; returns their number."""
    last = int(self._table["offset"][-1]) if len(self._table) else -1
    is_new = table["offset"].astype(np.int64) > last
    self._table = np.concatenate([self._table, table[is_new]])
    self._windows.extend(itertools.compress(windows, is_new))
    return int(is_new.sum())


def _open(path: str, spacing: int) -> indexed_gzip.IndexedGzipFile:
  return indexed_gzip.IndexedGzipFile(
    path,
    auto_build=True,
    # Checked by those who read the whole file.
    skip_crc_check=True,
    spacing=spacing,
    readbuf_size=_READ_BUFFER,
    buffer_size=_READ_BUFFER,
  )


def _import(
  file: indexed_gzip.IndexedGzipFile,
  path: str,
  spacing: int,
  table: np.ndarray,
  windows: list[bytes],
) -> None:
  """Gives points to a file, with the compressed content before each."""
  header = _HEADER.pack(
    _MAGIC,
    _VERSION,
    0,
    os.path.getsize(path),
    0,
    spacing,
    _WINDOW_SIZE,
    len(table),
  )
  contents = [zlib.decompress(window) for window in windows if window]
  index = b"".join([header, table.tobytes(), *contents])
  file.import_index(fileobj=io.BytesIO(index))


def _export(
  file: indexed_gzip.IndexedGzipFile,
) -> tuple[np.ndarray, list[bytes]]:
  """Returns the points of a file and the compressed content before each."""
  index = io.BytesIO()
  file.export_index(fileobj=index)
  content = index.getbuffer()
  magic, version, *_, window_size, count = _HEADER.unpack_from(content)
  if (magic, version, window_size) != (_MAGIC, _VERSION, _WINDOW_SIZE):
    raise RuntimeError(
      f"indexed_gzip {indexed_gzip.__version__} writes indices of version "
      f"{version}, but {_VERSION} is known here; install another version of it."
    )
  table = np.frombuffer(content, POINT, count, _HEADER.size).copy()
  position, windows = _HEADER.size + table.nbytes, []
  for has_window in table["has_window"]:
    end = position + _WINDOW_SIZE * int(has_window)
    window = content[position:end]
    windows.append(zlib.compress(window, 1) if has_window else b"")
    position = end
  return table, windows
