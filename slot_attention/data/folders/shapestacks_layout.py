"""ShapeStacks (Groth et al., 2018) as its archives unpack.

splits/NAME/{train,eval,test}.txt: names of scenarios, one a line.
recordings/SCENARIO/rgb-*-mono-0.png: the first frame of each camera.
recordings/SCENARIO/iseg-*-cam_N-mono-0.map, or iseg/SCENARIO/ with the same
  names: the masks of a camera, PNG files under another name.
"""

import os
import re

import numpy as np
import PIL.Image

from slot_attention.data.folders import annotation_files
from slot_attention.data.folders import folder_files

VARIANTS = ("default", "blocks_all", "ccs_all")
_SPLITS = {"train": "train", "validation": "eval", "test": "test"}
_IMAGE = re.compile(r"rgb-.*-mono-0\.png")
_CAMERA = re.compile(r"-(cam_\d+)-")
_HEIGHT = re.compile(r"-h=(\d+)-")
# matplotlib wrote label k of 0 to 7 as this many gray levels times k.
_LEVEL = 32


def find(
  root: str, split: str, variant: str, annotated: bool
) -> folder_files.Files:
  """Finds the images of a split; see `image_folder_layouts.Layout`."""
  images: list[str] = []
  masks: list[str | None] = []
  for scenario in _read_scenarios(root, split, variant):
    directory, names = _list_scenario(root, scenario)
    first = sorted(filter(_IMAGE.fullmatch, names))
    images += [os.path.join(directory, name) for name in first]
    if annotated:
      places = {directory: names} | _list_apart(root, scenario)
      masks += [_find_mask(name, places) for name in first]
  files = folder_files.Files(
    root,
    tuple(images),
    # The height of a stack is its number of shapes.
    count_objects=lambda i: int(_HEIGHT.search(images[i])[1]),
  )
  archive = "shapestacks-iseg.tar.gz"
  return annotation_files.add_masks(files, masks, archive, _to_labels)


def _read_scenarios(root: str, split: str, variant: str) -> list[str]:
  """Reads the names of a split's scenarios."""
  directory, name = os.path.join("splits", variant), f"{_SPLITS[split]}.txt"
  listing = os.path.join(root, directory, name)
  there = folder_files.find_directory(root, [directory])
  if not there or name not in folder_files.list_names(root, directory):
    raise FileNotFoundError(
      f"{listing} is missing; unpack shapestacks-meta.tar.gz in {root}."
    )
  try:
    with open(listing, encoding="utf-8") as file:
      names = [line.strip() for line in file.read().splitlines()]
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{listing} cannot be read ({error}); unpack shapestacks-meta.tar.gz in "
      f"{root}."
    ) from error
  names = [name for name in names if name]
  for name in names:
    if not _HEIGHT.search(folder_files.check_name(name, listing)):
      raise ValueError(
        f"{listing} names {name!r}, which is no scenario such as "
        "env_ccs-hard-h=2-vcom=0-vpsf=0-v=60; unpack shapestacks-meta.tar.gz "
        "again."
      )
  return names


def _list_scenario(root: str, scenario: str) -> tuple[str, set[str]]:
  """Returns a scenario's directory and what lies there, images among it."""
  directory = os.path.join("recordings", scenario)
  names: set[str] = set()
  if folder_files.find_directory(root, [directory]):
    names = folder_files.list_names(root, directory)
  if not any(map(_IMAGE.fullmatch, names)):
    raise ValueError(
      f"{os.path.join(root, directory)} holds no rgb-*-mono-0.png; unpack "
      "shapestacks-rgb.tar.gz where shapestacks-meta.tar.gz was unpacked."
    )
  return directory, names


def _list_apart(root: str, scenario: str) -> dict[str, set[str]]:
  """Lists the masks of a scenario that lie in a directory of their own."""
  directory = os.path.join("iseg", scenario)
  if folder_files.find_directory(root, [directory]) is None:
    return {}
  return {directory: folder_files.list_names(root, directory)}


def _find_mask(image: str, places: dict[str, set[str]]) -> str | None:
  """Returns the mask of an image's camera; all its variants have that one."""
  camera = _CAMERA.search(image)
  name = f"iseg-w=0-f=0-l=0-c=original-{camera and camera[1]}-mono-0.map"
  for directory, names in places.items():
    if name in names:
      return os.path.join(directory, name)
  return None


def _to_labels(image: PIL.Image.Image) -> np.ndarray:
  if image.mode not in ("L", "LA", "RGB", "RGBA"):
    raise ValueError(f"its pixels are {image.mode}, not gray levels of 8 bits")
  array = np.asarray(image)
  gray = array[..., 0] if array.ndim == 3 else array  # [h, w, 4] -> [h, w]
  return (gray // _LEVEL).astype(np.uint8)
