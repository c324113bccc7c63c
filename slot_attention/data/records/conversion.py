"""What converting does to a record of the Multi-Object Datasets."""

from collections.abc import Iterator
import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np

from slot_attention.data import converted
from slot_attention.data import resizing
from slot_attention.data.official import multi_object_specs
from slot_attention.data.official import official_records
from slot_attention.data.records import record_stream
from slot_attention.data.records import wire_format

# What the papers cut out of CLEVR's images before resizing.
DEFAULT_CROPS = {"clevr": (29, 64, 192, 192)}


class Example(NamedTuple):
  """A converted record.

  Attributes:
    payload: the tf.Example.
    num_objects: number of its visible objects.
    progress: the part of the source that was read until then, 0 to 1.
  """

  payload: bytes
  num_objects: int
  progress: float


@dataclasses.dataclass(frozen=True)
class Conversion:
  """What is done to the records of a published file.

  Attributes:
    source: the file, GZIP or uncompressed.
    dataset: a key of `multi_object_specs.SPECS`.
    crop: (top, left, height, width) in pixels, or () for the whole images.
    resolution: (height, width) after the crop, or None to resize nothing.
    num_records: convert the first ones only; None for all.
    records_per_shard: number of records in a file, but the last.
  """

  source: str
  dataset: str
  crop: tuple[int, ...] = ()
  resolution: tuple[int, int] | None = None
  num_records: int | None = None
  records_per_shard: int = 1000

  def __post_init__(self):
    if not os.path.isfile(self.source):
      raise FileNotFoundError(f"There is no file {self.source} to convert.")
    if self.resolution and (
      len(self.resolution) != 2 or min(self.resolution) < 1
    ):
      raise ValueError(
        f"resolution={self.resolution} is not a height and a width in pixels."
      )
    if self.crop:
      self._check_crop()

  def _check_crop(self) -> None:
    height, width, _ = self.spec.features["image"].shape
    if len(self.crop) == 4:
      top, left, rows, columns = self.crop
      inside = top + rows <= height and left + columns <= width
      if inside and min(top, left) >= 0 and min(rows, columns) >= 1:
        return
    raise ValueError(
      f"crop={self.crop} is not a top, left, height, width within the "
      f"{height}x{width} images of {self.dataset}."
    )

  @property
  def spec(self) -> multi_object_specs.Spec:
    """Returns what the records of the source hold."""
    return multi_object_specs.SPECS[self.dataset]

  @property
  def cut_size(self) -> tuple[int, int]:
    """Returns the (height, width) after the crop."""
    return tuple(self.crop[2:] or self.spec.features["image"].shape[:2])

  @property
  def resizes(self) -> bool:
    """Returns whether the resolution is not that of the crop."""
    return self.resolution is not None and self.resolution != self.cut_size

  def describe(self) -> dict[str, Any]:
    """Returns what the description of the data set says about this."""
    return {
      "format_version": converted.FORMAT_VERSION,
      "dataset": self.dataset,
      "crop": list(self.crop),
      "resolution": list(self.resolution or self.cut_size),
      "channels": self.spec.features["image"].shape[-1],
      "resized": self.resizes,
      "source": {
        "file": os.path.basename(self.source),
        "bytes": os.path.getsize(self.source),
      },
      "num_records": self.num_records,
      "records_per_shard": self.records_per_shard,
    }

  def examples(self, skip: int) -> Iterator[Example]:
    """Yields what becomes of the records after the first `skip` ones."""
    for record in record_stream.read_records(self.source, skip):
      try:
        payload, num_objects = self.apply(record.payload)
      except ValueError as error:
        raise ValueError(
          f"Record {record.number} of {self.source} is not one of "
          f"{self.dataset}: {error}."
        ) from error
      yield Example(payload, num_objects, record.progress)

  def apply(self, payload: bytes) -> tuple[bytes, int]:
    """Converts one record.

    Args:
      payload: the published tf.Example.

    Returns:
      The converted tf.Example and the number of its visible objects.

    Raises:
      ValueError: the record is not one of the data set.
    """
    parsed = wire_format.parse_example(payload)
    try:
      arrays = official_records.to_arrays(parsed, self.spec)
    except ValueError as error:
      found = official_records.identify(parsed)
      hint = f"; it is one of {found}" if found else ""
      raise ValueError(f"{error}{hint}") from error
    num_objects = official_records.count_objects(arrays, self.spec)
    masks = official_records.masks(arrays, self.spec)
    image, masks = self._cut(arrays.pop("image")), self._cut(masks, 1)
    labels = official_records.label_map(masks)
    if self.resizes:
      image = resizing.resize_bilinear(image, self.resolution)
      labels = resizing.resize_nearest(labels, self.resolution)
    del arrays["mask"]
    return converted.encode(image, labels, num_objects, arrays), num_objects

  def _cut(self, array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Crops the axes from `axis` on, height and width."""
    if not self.crop:
      return array
    top, left, height, width = self.crop
    window = slice(top, top + height), slice(left, left + width)
    return array[(slice(None),) * axis + window]
