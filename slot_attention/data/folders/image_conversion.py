"""What converting does to the images of a folder."""

from collections.abc import Iterator
import dataclasses
import os
import pathlib
from typing import Any

from absl import logging
import numpy as np

from slot_attention.data import converted
from slot_attention.data import image_folders
from slot_attention.data.folders import folder_files
from slot_attention.data.folders import image_folder_layouts
from slot_attention.data.records import conversion
from slot_attention.data.records import converter

# Images decoded at a time.
_BATCH_SIZE = 32
_MAX_OBJECTS = 255


@dataclasses.dataclass(frozen=True, eq=False)
class ImageConversion:
  """What is done to the images of one split; a `converter.Conversion`.

  Attributes:
    source: the directory of the data set.
    dataset: a key of `image_folder_layouts.LAYOUTS`.
    variant: of the data set.
    files: of the split.
    view: what is kept of each image.
    num_records: number of images converted, the first ones.
    records_per_shard: number of images in a file, but the last.
  """

  source: str
  dataset: str
  variant: str
  files: folder_files.Files
  view: image_folders.View
  num_records: int
  records_per_shard: int

  def describe(self) -> dict[str, Any]:
    """Returns what the description of the data set says about this."""
    images = self.files.images
    return {
      "format_version": converted.FORMAT_VERSION,
      "dataset": self.dataset,
      "variant": self.variant,
      "crop": list(self.view.crop),
      "center_crop": self.view.center_crop,
      "resolution": list(self.view.resolution),
      "interpolation": self.view.interpolation,
      "channels": 3,
      "resized": True,
      "has_masks": self.files.load_labels is not None,
      "has_counts": self.files.count_objects is not None,
      "source": {"images": len(images), "first": images[0], "last": images[-1]},
      "num_records": self.num_records,
      "records_per_shard": self.records_per_shard,
    }

  def examples(self, skip: int) -> Iterator[conversion.Example]:
    """Yields the converted images after the first `skip` ones."""
    source = image_folders.open_files(self.files, self.view)
    source = dataclasses.replace(
      source, records=source.records[skip : self.num_records]
    )
    done = skip
    if not source.num_examples:
      return
    for batch in source.eval_batches(_BATCH_SIZE, slice(0, _BATCH_SIZE)):
      for i in np.flatnonzero(batch["valid"]):
        done += 1
        row = {name: values[i] for name, values in batch.items()}
        yield _encode(row, done / self.num_records)


def _encode(row: dict[str, np.ndarray], progress: float) -> conversion.Example:
  """Serializes one example of a batch."""
  # [-1, 1] -> 0 to 255.
  image = np.rint((row["image"] + 1.0) * 127.5).astype(np.uint8)
  labels = row.get("segmentation")
  if labels is not None:
    labels = labels.astype(np.uint8)
  num_objects = int(row.get("num_objects", 0))
  if num_objects > _MAX_OBJECTS:
    raise ValueError(
      f"An image shows {num_objects} objects, but converted data sets count up "
      f"to {_MAX_OBJECTS}; read the folder as it is."
    )
  payload = converted.encode(image, labels, num_objects, {})
  return conversion.Example(payload, num_objects, progress)


def convert(
  dataset: str,
  source: str,
  output: str | os.PathLike,
  view: image_folders.View,
  variant: str = "",
  num_records: int | None = None,
  records_per_shard: int = 1000,
) -> pathlib.Path:
  """Converts all splits that are there, or goes on where a killed run stopped.

  Args:
    dataset: a key of `image_folder_layouts.LAYOUTS`.
    source: directory of the data set.
    output: directory that gets one directory for each split.
    view: what is kept of each image.
    variant: of the data set; "" for the usual one.
    num_records: convert the first images of each split only; None for all.
    records_per_shard: number of images in a file, but the last.

  Returns:
    The output directory.

  Raises:
    FileNotFoundError: there is no split, or a file is missing.
    FileExistsError, OSError, ValueError: see `converter.convert`.
  """
  splits = find_splits(dataset, source, variant)
  for split, files in splits.items():
    if isinstance(files, FileNotFoundError):
      logging.warning("Split %s is left out: %s", split, files)
      continue
    conversion_of_split = ImageConversion(
      source=source,
      dataset=dataset,
      variant=image_folder_layouts.resolve_variant(dataset, variant),
      files=files,
      view=view,
      num_records=min(num_records or len(files.images), len(files.images)),
      records_per_shard=records_per_shard,
    )
    converter.convert(conversion_of_split, pathlib.Path(output) / split)
  return pathlib.Path(output)


def find_splits(
  dataset: str, source: str, variant: str = ""
) -> dict[str, folder_files.Files | FileNotFoundError]:
  """Finds the files of every split, or says what is missing.

  Args:
    dataset: a key of `image_folder_layouts.LAYOUTS`.
    source: directory of the data set.
    variant: of the data set; "" for the usual one.

  Returns:
    The files or the error by split.

  Raises:
    FileNotFoundError: there is not a single split.
    ValueError: see `image_folder_layouts.find`.
  """
  splits: dict[str, folder_files.Files | FileNotFoundError] = {}
  for split in image_folder_layouts.SPLITS:
    try:
      splits[split] = image_folder_layouts.find(dataset, source, split, variant)
    except FileNotFoundError as error:
      splits[split] = error
  errors = [x for x in splits.values() if isinstance(x, FileNotFoundError)]
  if len(errors) == len(splits):
    raise errors[0]
  return splits
