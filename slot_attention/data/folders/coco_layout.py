"""COCO-2017 as its archives, or the program FiftyOne, lay it out.

  {train,val,test}2017/*.jpg and annotations/instances_{train,val}2017.json; or
  {train,validation,test}/data/*.jpg and labels.json beside `data`.

Label k of an image is its k-th annotation, in the order of the file. Where
instances overlap, that of the higher category number is seen. Crowds are
background. A pixel belongs to a polygon if its centre lies inside, up to a
tenth of a pixel; pycocotools rounds borders in another way.
"""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw

from slot_attention.data.folders import annotation_files
from slot_attention.data.folders import folder_files
from slot_attention.data.records import record_retry

_IMAGES = {
  "train": ("train2017", os.path.join("train", "data"), "train"),
  "validation": (
    "val2017",
    os.path.join("validation", "data"),
    "val",
    "validation",
  ),
  "test": ("test2017", os.path.join("test", "data"), "test"),
}
_ARCHIVES = {"train": "train2017", "validation": "val2017", "test": "test2017"}
_MAX_LABEL = 255
_ENLARGE = 5
_NEAREST = PIL.Image.Resampling.NEAREST
_MAX_PIXELS = 1 << 25  # Of a label map, which is drawn enlarged.
_MAX_COORDINATE = 1e6  # Pixels; no outline leaves its image so far.


class Instance(NamedTuple):
  """One annotated object that is no crowd.

  Attributes:
    category: its number.
    outline: polygons, [n, 2] float32 of x and y each; or lengths of runs of
      background and object in turn, down the columns, [n] int64.
  """

  category: int
  outline: list[np.ndarray] | np.ndarray


@dataclasses.dataclass
class _Annotated:
  """What the annotation file says of an image."""

  size: tuple[int, int]
  instances: list[Instance] = dataclasses.field(default_factory=list)


def find(
  root: str, split: str, variant: str, annotated: bool
) -> folder_files.Files:
  """Finds the images of a split; see `image_folder_layouts.Layout`."""
  del variant
  directory = folder_files.find_directory(root, _IMAGES[split])
  if directory is None:
    raise FileNotFoundError(
      f"{root} holds none of {', '.join(_IMAGES[split])}; unpack "
      f"{_ARCHIVES[split]}.zip there, or choose another split."
    )
  images = folder_files.list_files(root, directory)
  files = folder_files.Files(root, tuple(images))
  if not annotated:
    return files
  path = _annotation_file(root, directory, split)
  if path is None:
    missing = "masks (annotations_trainval2017.zip; none exist for test2017)"
    return dataclasses.replace(files, missing=(missing,))
  names = [os.path.relpath(image, directory) for image in images]
  rows = _read_annotations(path, names, os.path.join(root, directory))

  def load_labels(number: int) -> np.ndarray:
    try:
      return draw_labels(rows[number].size, rows[number].instances)
    except ValueError as error:
      raise ValueError(
        f"{path} has annotations of {images[number]} that cannot be drawn: "
        f"{error}; unpack annotations_trainval2017.zip again."
      ) from error

  return dataclasses.replace(
    files,
    load_labels=load_labels,
    count_objects=lambda i: len(rows[i].instances),
  )


def _annotation_file(root: str, directory: str, split: str) -> str | None:
  """Returns COCO's own file, or the one that FiftyOne puts beside `data`."""
  candidates = [("annotations", f"instances_{_ARCHIVES[split]}.json")]
  if os.path.dirname(directory):
    candidates.append((os.path.dirname(directory), "labels.json"))
  for place, name in candidates:
    exists = folder_files.find_directory(root, [place])
    if exists and name in folder_files.list_names(root, place):
      return os.path.join(root, place, name)
  return None


def _read_annotations(
  path: str, names: list[str], directory: str
) -> list[_Annotated]:
  """Returns the annotations of the images of these names."""
  values = record_retry.retry(lambda: annotation_files.read_json(path), path)
  try:
    by_name = _parse(values, path)
  except (LookupError, TypeError, AttributeError, OverflowError) as error:
    raise ValueError(
      f"{path} is no annotation file of COCO's instances ({error!r}); unpack "
      "annotations_trainval2017.zip again."
    ) from error
  lost = sorted(by_name.keys() - set(names))
  strange = sorted(set(names) - by_name.keys())
  if lost or strange:
    name = (lost or strange)[0]
    where = (
      f"is named in {path}, but is not there"
      if lost
      else f"is not named in {path}"
    )
    raise ValueError(
      f"{os.path.join(directory, name)} {where}; unpack the images and "
      "annotations_trainval2017.zip again, or remove the annotation file."
    )
  return [by_name[name] for name in names]


def _parse(values: Mapping[str, Any], path: str) -> dict[str, _Annotated]:
  """Returns the annotations of images by the images' names."""
  by_name, by_number = {}, {}
  for image in values["images"]:
    name = folder_files.check_name(image["file_name"], path, directories=True)
    size = (_integer(image["height"]), _integer(image["width"]))
    if min(size) < 1 or size[0] * size[1] > _MAX_PIXELS:
      raise ValueError(
        f"{path} says that {name} has {size[0]}x{size[1]} pixels; unpack "
        "annotations_trainval2017.zip again."
      )
    row, name = _Annotated(size), os.path.normpath(name)
    if name in by_name or image["id"] in by_number:
      raise ValueError(
        f"{path} names {name}, or its number {image['id']}, twice; unpack "
        "annotations_trainval2017.zip again."
      )
    by_name[name] = by_number[image["id"]] = row
  for annotation in values["annotations"]:
    if not annotation.get("iscrowd", 0):
      row = by_number[annotation["image_id"]]
      row.instances.append(_parse_instance(annotation, path))
  return by_name


def _integer(value: object) -> int:
  if isinstance(value, str):  # Whose error would not name the file.
    raise TypeError(f"{value!r} is no number")
  return int(value if value == value else np.inf)  # NaN is refused as inf is.


def _parse_instance(annotation: Mapping[str, Any], path: str) -> Instance:
  outline = annotation["segmentation"]
  try:
    if isinstance(outline, list):
      # x, y, x, y, ... -> [n, 2]
      outline = [np.array(x, np.float32).reshape(-1, 2) for x in outline]
      if not all((abs(x) < _MAX_COORDINATE).all() for x in outline):
        raise ValueError("a coordinate is not finite, or far away")
    else:
      # Compressed ones, which are texts, are refused.
      outline = np.array(outline["counts"], np.int64).reshape(-1)
  except ValueError as error:
    raise ValueError(
      f"{path} has an outline, of annotation {annotation['id']!r}, that cannot "
      f"be drawn ({error}); unpack annotations_trainval2017.zip again."
    ) from error
  return Instance(_integer(annotation["category_id"]), outline)


def draw_labels(size: tuple[int, int], instances: list[Instance]) -> np.ndarray:
  """Draws the label map of an image.

  Args:
    size: (height, width) in pixels.
    instances: in the order of their labels, 1 and so on.

  Returns:
    [height, width] uint8; 0 where there is none.

  Raises:
    ValueError: there are too many instances, or an outline is malformed; the
      message is no whole sentence.
  """
  if len(instances) > _MAX_LABEL:
    raise ValueError(
      f"these are {len(instances)} objects, and label maps hold {_MAX_LABEL}"
    )
  # Enlarged, since Pillow's borders are a pixel wide.
  height, width = size[0] * _ENLARGE, size[1] * _ENLARGE
  canvas = PIL.Image.new("L", (width, height))
  draw = PIL.ImageDraw.Draw(canvas)
  order = sorted(range(len(instances)), key=lambda i: instances[i].category)
  for i in order:
    outline = instances[i].outline
    if isinstance(outline, np.ndarray):
      where = PIL.Image.fromarray(_decode_runs(outline, size))
      canvas.paste(i + 1, mask=where.resize((width, height), _NEAREST))
      continue
    for polygon in outline:
      # Pixel 0 lies between 0 and 1; Pillow counts from centres of pixels.
      points = (polygon * _ENLARGE - 0.5).tolist()
      if len(points) > 1:
        draw.polygon([tuple(point) for point in points], fill=i + 1)
  # What the centre of each pixel shows.
  return np.array(canvas)[_ENLARGE // 2 :: _ENLARGE, _ENLARGE // 2 :: _ENLARGE]


def _decode_runs(runs: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Returns where the object is, [height, width] of 0 and 255."""
  total = size[0] * size[1]
  # None is larger than the image, so that their sum cannot overflow.
  if np.any((runs < 0) | (runs > total)) or runs.sum() != total:
    raise ValueError(
      f"the runs of an outline do not fill its image of {size[0]}x{size[1]} "
      "pixels"
    )
  values = (np.arange(len(runs)) % 2 * 255).astype(np.uint8)
  columns = np.repeat(values, runs).reshape(size[::-1])  # [width, height]
  return np.ascontiguousarray(columns.T)
