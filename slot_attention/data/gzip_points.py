"""Points of a GZIP file at which decompression can start.

A point is a place in the compressed stream and the 32 kB of content before it,
which are all that decompression needs. They are found by `indexed_gzip`, whose
own objects hold the content of all points, uncompressed: gigabytes for a large
file, and as much again for each thread that reads. Here the content is kept
compressed, and a read hands only the one point that it needs to `indexed_gzip`,
in the format of its index files. So reads from any number of threads do not
wait for each other.
"""

import dataclasses
import io
import itertools
import os
import struct
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
# Reading allocates buffers of 4 times the distance that the index claims.
_READ_SPACING = 1 << 16
_READ_BUFFER = 1 << 16
# Decompressed bytes between two saves of points, which bounds the memory.
_STEP = 1 << 29
_BEYOND = 1 << 62


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
      OSError or indexed_gzip.ZranError: the file is gone, or is not the one
        that the points belong to.
    """
    i = int(np.searchsorted(self.table["offset"], offset, side="right")) - 1
    start = int(self.window_ends[i - 1]) if i else 0
    window = self.windows[start : self.window_ends[i]].tobytes()
    # The second one only says that the first one's part reaches that far.
    end = np.array([(_BEYOND, _BEYOND, 0, 0)], POINT)
    table = np.concatenate([self.table[i : i + 1], end])
    file = _open(path, _READ_SPACING, size)
    with file:
      _import(file, path, _READ_SPACING, table, [window])
      return file.pread(size, offset)


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
    with _open(self._path, self._spacing, _READ_BUFFER, build=True) as file:
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


def _open(
  path: str, spacing: int, buffer_size: int, build: bool = False
) -> indexed_gzip.IndexedGzipFile:
  return indexed_gzip.IndexedGzipFile(
    path,
    auto_build=build,
    # Checked by those who read the whole file.
    skip_crc_check=True,
    spacing=spacing,
    readbuf_size=_READ_BUFFER,
    # A read of just this size goes through no buffer.
    buffer_size=buffer_size,
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
