"""Looks at folders of images: what is in each split, and what is missing."""

from collections.abc import Iterator
import dataclasses
import os

import numpy as np

from slot_attention.data import image_folders
from slot_attention.data import inspection
from slot_attention.data import progress as progress_lib
from slot_attention.data.folders import folder_files
from slot_attention.data.folders import image_conversion

# Small: images are decoded to see whether they can be.
_VIEW = image_folders.View((1, 1), interpolation="nearest")
_BATCH_SIZE = 64


@dataclasses.dataclass
class Report:
  """What was found of one split.

  Attributes:
    path: directory of the data set.
    dataset: a key of `image_folder_layouts.LAYOUTS`.
    split: its name.
    num_images: number of images.
    num_read: how many of them were read.
    file_bytes: size of those that were read.
    has_masks: whether there are masks.
    num_objects: how many images that were read show so many objects; empty
      where it is not known.
    missing: sentences, what could be there and is not.
    error: the first thing that is wrong; None if nothing is.
  """

  path: str
  dataset: str
  split: str
  num_images: int = 0
  num_read: int = 0
  file_bytes: int = 0
  has_masks: bool = False
  num_objects: dict[int, int] = dataclasses.field(default_factory=dict)
  missing: tuple[str, ...] = ()
  error: str | None = None


def inspect(
  dataset: str, path: str, variant: str = "", num_images: int | None = None
) -> Iterator[Report]:
  """Counts the images of each split, and reads them to the first broken one.

  Args:
    dataset: a key of `image_folder_layouts.LAYOUTS`.
    path: directory of the data set.
    variant: of the data set; "" for the usual one.
    num_images: read so many of each split; None for all.

  Yields:
    A report for each split; one that is not there has no images.

  Raises:
    FileNotFoundError: there is not a single split.
    ValueError: see `image_folder_layouts.find`.
  """
  for split, files in image_conversion.find_splits(
    dataset, path, variant
  ).items():
    report = Report(path, dataset, split)
    if isinstance(files, FileNotFoundError):
      report.missing = (str(files),)
    else:
      _read(files, report, num_images)
    yield report


def _read(
  files: folder_files.Files, report: Report, num_images: int | None
) -> None:
  """Decodes images and masks as training does."""
  report.num_images = len(files.images)
  report.has_masks = files.load_labels is not None
  report.missing = tuple(f"without {what}" for what in files.missing)
  total = min(num_images or report.num_images, report.num_images)
  progress = progress_lib.Progress(total, f"images of {report.split} inspected")
  source = image_folders.open_files(files, _VIEW)
  batches = source.eval_batches(_BATCH_SIZE, slice(0, _BATCH_SIZE), total)
  try:
    for batch in batches:
      for i in np.flatnonzero(batch["valid"]):
        report.file_bytes += os.path.getsize(files.path(report.num_read))
        report.num_read += 1
        if "num_objects" in batch:
          inspection.count_objects(report, int(batch["num_objects"][i]))
        progress.count()
  except ValueError as error:
    report.error = str(error)


def format_report(report: Report) -> str:
  """Returns a report as a short table."""
  if not report.num_images:
    rows = {"split": report.split, "missing": report.missing[0]}
    return inspection.format_table(report.path, rows)
  mean = report.file_bytes / max(report.num_read, 1)
  rows = {
    "split": f"{report.split} of {report.dataset}",
    "images": f"{report.num_images:,}, of which {report.num_read:,} were read, "
    f"{mean:,.0f} bytes each",
    "objects": inspection.format_counts(report.num_objects, "images"),
    "masks": "for every image" if report.has_masks else "none",
    "missing": "; ".join(report.missing) or "nothing",
    "wrong": report.error or "nothing",
  }
  if not report.num_objects:
    del rows["objects"]
  return inspection.format_table(report.path, rows)
