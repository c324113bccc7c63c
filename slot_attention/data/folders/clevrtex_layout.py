"""ClevrTex (Karazija et al., 2021) as its archives unpack.

  clevrtex_VARIANT/N/CLEVRTEX_VARIANT_000000.png, with _flat.png, the masks, and
  .json, the scene, beside it; or the names of its second version:
  clevrtexv2_VARIANT/N/CLEVRTEXv2_VARIANT_000000_0003.png, 000000_sem_0003.png,
  000000.json.

By number, the first 10 % are the test split, the next 10 % validation and the
rest is for training.
"""

import dataclasses
import os
import re

import numpy as np
import PIL.Image

from slot_attention.data.folders import annotation_files
from slot_attention.data.folders import folder_files

VARIANTS = ("full", "camo", "pbg", "vbg", "grassbg", "outd")
# Made for testing only, by its authors.
_WITHOUT_SPLITS = ("outd",)
_ARCHIVES = "all parts of clevrtex_{0}.tar.gz"
_NAME = re.compile(
  r"(?P<stem>CLEVRTEX(v2)?_[a-z]+_(?P<number>\d{6}))(_(?P<frame>\d{4}))?\.png"
)


def find(
  root: str, split: str, variant: str, annotated: bool
) -> folder_files.Files:
  """Finds the images of a split; see `image_folder_layouts.Layout`."""
  base = _find_base(root, variant)
  paths = folder_files.list_files(root, base, (".png", ".json"))
  by_name = {os.path.basename(path): path for path in paths}
  matches = _numbered(paths, os.path.join(root, base), variant)
  start, end = _bounds(split, variant, len(matches))
  matches = matches[start:end]
  files = folder_files.Files(root, tuple(by_name[m[0]] for m in matches))
  if not annotated:
    return files
  masks = [by_name.get(_mask_name(match)) for match in matches]
  files = annotation_files.add_masks(
    files, masks, _ARCHIVES.format(variant), _to_labels
  )
  scenes = [by_name.get(f"{match['stem']}.json") for match in matches]
  if all(scenes):
    return dataclasses.replace(
      files,
      count_objects=lambda i: annotation_files.count_objects(
        os.path.join(root, scenes[i])
      ),
    )
  return files


def _find_base(root: str, variant: str) -> str:
  """Returns a variant's directory relative to the root, which it may be."""
  names = [f"clevrtex_{variant}", f"clevrtexv2_{variant}"]
  if os.path.basename(os.path.abspath(root)) in names:
    return ""
  base = folder_files.find_directory(root, names)
  if base is None:
    raise FileNotFoundError(
      f"{root} holds neither {' nor '.join(names)}; unpack "
      f"{_ARCHIVES.format(variant)} there, or choose another "
      f"config.data.variant of {', '.join(VARIANTS)}."
    )
  return base


def _numbered(
  paths: list[str], directory: str, variant: str
) -> list[re.Match[str]]:
  """Returns the names of the images by number; none may be missing."""
  matches = []
  for path in paths:
    match = _NAME.fullmatch(os.path.basename(path))
    # Only frames of the second version have a frame in the name of the image.
    if (
      match and f"_{variant}_" in match[0] and bool(match[2]) == bool(match[4])
    ):
      matches.append(match)
  matches.sort(key=lambda match: int(match["number"]))
  for i, match in enumerate(matches):
    if int(match["number"]) != i:
      raise ValueError(
        f"{directory} has {len(matches)} images, but number {i:06d} is missing "
        f"or there twice; unpack {_ARCHIVES.format(variant)} there."
      )
  return matches


def _bounds(split: str, variant: str, size: int) -> tuple[int, int]:
  """Returns where a split begins and ends."""
  if variant in _WITHOUT_SPLITS:
    if split != "test":
      raise FileNotFoundError(
        f"ClevrTex's variant {variant} has no split {split!r}; all of it is "
        "for testing: choose test."
      )
    return 0, size
  bounds = (0, int(0.1 * size), int(0.2 * size), size)
  i = ("test", "validation", "train").index(split)
  return bounds[i], bounds[i + 1]


def _mask_name(match: re.Match[str]) -> str:
  if match["frame"] is None:
    return f"{match['stem']}_flat.png"
  return f"{match['stem']}_sem_{match['frame']}.png"


def _to_labels(image: PIL.Image.Image) -> np.ndarray:
  if image.mode not in ("P", "L"):
    raise ValueError(
      f"its pixels are {image.mode}, not numbers of objects in a palette"
    )
  return np.array(image)  # The numbers, not their colours.
