"""Reads what stands beside images: label maps and descriptions of scenes."""

from collections.abc import Callable, Sequence
import dataclasses
import io
import json
import os
from typing import Any

import numpy as np
import PIL.Image

from slot_attention.data.folders import folder_files
from slot_attention.data.folders import image_files
from slot_attention.data.records import record_retry

_UNPACK_AGAIN = "unpack the data set again"


def read_json(path: str) -> dict[str, Any]:
  """Reads a JSON object.

  Args:
    path: the file.

  Raises:
    OSError: the disk does not answer.
    ValueError: the file is something else, or not to be read; the message names
      it.
  """
  try:
    with open(path, encoding="utf-8") as file:
      values = json.load(file)
    if not isinstance(values, dict):
      raise ValueError("it is no JSON object")
  except (OSError, ValueError, RecursionError) as error:
    if isinstance(error, OSError) and record_retry.may_pass(error):
      raise
    raise ValueError(
      f"{path} cannot be read ({error}); {_UNPACK_AGAIN}."
    ) from error
  return values


def count_objects(path: str) -> int:
  """Returns the number of objects in a CLEVR-like scene file."""
  objects = read_json(path).get("objects")
  if not isinstance(objects, list):
    raise ValueError(f"{path} has no list of objects; {_UNPACK_AGAIN}.")
  return len(objects)


def add_masks(
  files: folder_files.Files,
  masks: Sequence[str | None],
  archive: str,
  to_labels: Callable[[PIL.Image.Image], np.ndarray],
) -> folder_files.Files:
  """Adds label maps that are PNG files, one for every image or for none.

  Args:
    files: of a split.
    masks: path of the mask of each image, relative to the root, None where it
      has none; empty where masks are not wanted.
    archive: what holds the masks, for messages.
    to_labels: makes the label map [h, w] uint8 of a loaded file.

  Returns:
    The files; objects are counted in the masks if nothing else tells them.

  Raises:
    ValueError: some images have a mask, but not all.
  """
  if not masks:
    return files
  if not any(masks):
    missing = (*files.missing, f"masks ({archive})")
    return dataclasses.replace(files, missing=missing)
  if None in masks:
    raise ValueError(
      f"{files.path(masks.index(None))} has no mask, but others have; unpack "
      f"{archive} again, or remove all masks."
    )

  def load_labels(number: int) -> np.ndarray:
    return read_mask(os.path.join(files.root, masks[number]), to_labels)

  return dataclasses.replace(
    files,
    load_labels=load_labels,
    count_objects=files.count_objects
    or (lambda number: count_labels(load_labels(number))),
  )


def count_labels(labels: np.ndarray) -> int:
  """Returns how many objects a label map shows."""
  return np.count_nonzero(np.unique(labels))


def read_mask(
  path: str, to_labels: Callable[[PIL.Image.Image], np.ndarray]
) -> np.ndarray:
  """Reads a label map [h, w] uint8.

  Args:
    path: a PNG file, whatever it is called.
    to_labels: makes the label map of a loaded file.

  Raises:
    OSError: the disk does not answer.
    ValueError: the file is none, or far too large; the message names it.
  """
  try:
    file = io.BytesIO(image_files.read_file(path))
    # By its content: the files of ShapeStacks are not called .png.
    with PIL.Image.open(file, formats=("PNG",)) as image:
      image_files.check_pixels(*image.size)
      image.verify()  # The checksums, which loading pixels does not look at.
    file.seek(0)
    with PIL.Image.open(file, formats=("PNG",)) as image:
      image.load()
      return to_labels(image)
  except (
    OSError,
    SyntaxError,
    ValueError,
    PIL.Image.DecompressionBombError,
  ) as error:
    # Pillow's own errors about what it reads have no number.
    if isinstance(error, OSError) and record_retry.may_pass(error):
      raise
    raise ValueError(
      f"{path} cannot be decoded as a mask ({error}); {_UNPACK_AGAIN}."
    ) from error
