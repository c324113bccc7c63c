"""Random access to single frames of videos inside the records of TFDS.

A record of MOVi at 256x256 has tens of millions of bytes, of which a frame and
its masks are a hundred thousand. In a tf.Example every part carries its length,
so that the place of a frame is found without reading what lies before it.
"""

from collections.abc import Iterator
from concurrent import futures
import dataclasses

import numpy as np

from slot_attention.data.records import file_access
from slot_attention.data.records import record_index
from slot_attention.data.records import wire_format

VIDEO, SEGMENTATIONS = "video", "segmentations"
NUM_INSTANCES = "metadata/num_instances"
_NAMES = (VIDEO, SEGMENTATIONS, NUM_INSTANCES)
_BLOCK = 4096  # Bytes read around a length; small features share a block.
_HEADER = 16  # At most so many bytes are a tag and a length.

Span = tuple[int, int]  # First byte in the file, and number of bytes.


@dataclasses.dataclass(frozen=True, eq=False)
class FrameIndex:
  """Numbers frames through all videos: video * num_frames + frame.

  What is read is not the record, so its checksum is not verified; the PNG files
  inside have checksums of their own, which decoding verifies.

  Attributes:
    videos: the records, one a video.
    num_frames: of each video.
    spans: [num_videos, 2, 2] int64, where the lists of the frames and of their
      segmentations lie in the file, see Span.
    num_instances: [num_videos] int64, objects of each video.
  """

  videos: record_index.RecordIndex
  num_frames: int
  spans: np.ndarray
  num_instances: np.ndarray
  # [num_frames, 2] of each video that has been looked into, and kind.
  _frames: dict[tuple[int, int], np.ndarray] = dataclasses.field(
    default_factory=dict
  )

  @classmethod
  def build(
    cls, videos: record_index.RecordIndex, num_frames: int
  ) -> "FrameIndex":
    """Looks into all records, reading some hundred bytes of each.

    Args:
      videos: records with the features `video`, `segmentations` (lists of
        encoded images) and `metadata/num_instances`.
      num_frames: of each video.

    Returns:
      The index.

    Raises:
      ValueError: a record is no video, or damaged.
    """
    with futures.ThreadPoolExecutor(record_index.THREADS) as pool:
      found = list(
        pool.map(lambda i: _look_into(videos, i), range(len(videos)))
      )
    return cls(
      videos,
      num_frames,
      # [n, 2, 2]
      np.array([x[:2] for x in found], np.int64).reshape(-1, 2, 2),
      np.array([x[2] for x in found], np.int64),
    )

  def __len__(self) -> int:
    """Returns the number of frames in all videos."""
    return len(self.videos) * self.num_frames

  def locate(self, record: int) -> tuple[str, int]:
    """Returns the file of a frame, and the number of its video in the file."""
    return self.videos.locate(record // self.num_frames)

  def read(self, record: int) -> bytes:
    """Reads one frame.

    Args:
      record: video * num_frames + frame.

    Returns:
      A tf.Example of the strings `video` and `segmentations`, the frame's two
      encoded images, and `num_instances`.

    Raises:
      ValueError: the file has changed, or the video has fewer frames.
    """
    video, frame = divmod(int(record), self.num_frames)
    path, number = self.videos.locate(video)
    try:
      images = self._read_images(path, video, frame)
    except ValueError as error:
      raise ValueError(
        f"Frame {frame} of record {number} of {path} cannot be read: {error}; "
        f"{record_index.ADVICE}."
      ) from error
    count = self.num_instances[video : video + 1]
    return wire_format.encode_example(
      {VIDEO: images[0], SEGMENTATIONS: images[1], "num_instances": count}
    )

  def _read_images(self, path: str, video: int, frame: int) -> list[bytes]:
    images = []
    with file_access.open_file(path) as file:
      for kind in range(2):
        key = (video, kind)
        if key not in self._frames:  # Threads that meet here find the same.
          span = tuple(self.spans[video, kind].tolist())
          self._frames[key] = _find_strings(file, span, self.num_frames)
        start, length = self._frames[key][frame].tolist()
        image = file.read(length, start)
        if len(image) != length:
          raise ValueError("the file has become shorter since it was opened")
        images.append(image)
    return images


def _look_into(
  videos: record_index.RecordIndex, video: int
) -> tuple[Span, Span, int]:
  """Returns the lists of frames and segmentations, and how many objects."""
  path, number = videos.locate(video)
  start, length = int(videos.offsets[video]), int(videos.lengths[video])
  try:
    with file_access.open_file(path) as file:
      return _find_features(file, start, start + length)
  except ValueError as error:
    raise ValueError(
      f"Record {number} of {path} is no video with masks: {error}; "
      f"{record_index.ADVICE}."
    ) from error


def _find_features(
  file: file_access.File, start: int, end: int
) -> tuple[Span, Span, int]:
  reader, found = _BlockReader(file), {}
  for name, feature in _features(reader, start, end):
    found[name] = feature
    if found.keys() >= set(_NAMES):
      break
  missing = [name for name in _NAMES if name not in found]
  if missing:
    raise ValueError(f"it has no feature {missing[0]}")
  number_of = wire_format.parse_feature(
    memoryview(reader.read(*found[NUM_INSTANCES]))
  )
  if number_of.shape != (1,):
    raise ValueError(f"its {NUM_INSTANCES} is {number_of.tolist()}")
  return found[VIDEO], found[SEGMENTATIONS], int(number_of[0])


class _BlockReader:
  """Reads small pieces of a file; neighbours come from one block."""

  def __init__(self, file: file_access.File):
    self._file = file
    self._start, self._block = 0, b""

  def read(self, start: int, length: int) -> bytes:
    """Returns so many bytes, or fewer at the end of the file."""
    place = start - self._start
    if place < 0 or place + length > len(self._block):
      self._block = self._file.read(max(length, _BLOCK), start)
      self._start, place = start, 0
    return self._block[place : place + length]

  def field(self, start: int, end: int) -> tuple[int, Span]:
    """Returns the number of a delimited field and where its content lies."""
    header = memoryview(self.read(start, min(_HEADER, end - start)))
    tag, place = wire_format.parse_varint(header, 0)
    length, place = wire_format.parse_varint(header, place)
    content = start + place, length
    if tag & 7 != wire_format.DELIMITED or sum(content) > end:
      raise ValueError(f"byte {start} of the file begins no part of it")
    return tag >> 3, content


def _features(
  reader: _BlockReader, start: int, end: int
) -> Iterator[tuple[str, Span]]:
  """Yields names and places of the features of a tf.Example."""
  _, (start, length) = reader.field(start, end)
  end = start + length
  while start < end:
    _, (place, length) = reader.field(start, end)
    start = place + length
    parts = {}
    while place < start:
      number, span = reader.field(place, start)
      parts[number] = span
      place = sum(span)
    if parts.keys() >= {1, 2}:  # The name and the value of the feature.
      yield reader.read(*parts[1]).decode(errors="replace"), parts[2]


def _find_strings(
  file: file_access.File, feature: Span, count: int
) -> np.ndarray:
  """Returns the places [count, 2] int64 of the strings of a feature."""
  reader = _BlockReader(file)
  _, (start, length) = reader.field(feature[0], sum(feature))  # The list.
  end, spans = start + length, []
  while start < end:
    spans.append(reader.field(start, end)[1])
    start = sum(spans[-1])
  if len(spans) != count:
    raise ValueError(f"its video has {len(spans)} frames instead of {count}")
  return np.array(spans, np.int64)
