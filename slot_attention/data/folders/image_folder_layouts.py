"""Where the images of published data sets lie, and which split they are in.

  clevr_mirror: PNG files in any directories, `scenes/*.json` beside `images`.
  shapestacks, clevrtex, coco: see `shapestacks_layout` and so on.
  folder: one's own images, as clevr_mirror without scenes.

Splits of clevr_mirror and folder are the directories train, val (validation)
and test where there are such, and otherwise the first 70, the next 15 and the
last 15 % of the sorted paths, as the authors of SLATE cut their later sets.
"""

from collections.abc import Callable
import dataclasses
import os
import posixpath

from slot_attention.data.folders import annotation_files
from slot_attention.data.folders import clevrtex_layout
from slot_attention.data.folders import coco_layout
from slot_attention.data.folders import folder_files
from slot_attention.data.folders import shapestacks_layout

Files = folder_files.Files

SPLITS = ("train", "validation", "test")
_SPLIT_DIRECTORIES = {
  "train": ("train",),
  "validation": ("val", "validation"),
  "test": ("test",),
}


@dataclasses.dataclass(frozen=True)
class Layout:
  """How one data set lies on the disk.

  Attributes:
    find: takes the directory, a split of SPLITS, a variant, and whether masks
      and numbers of objects are wanted; finds the files.
    variants: names that config.data.variant can have, the default first; empty
      where there are none.
    archives: what users download and unpack, for messages.
  """

  find: Callable[[str, str, str, bool], Files]
  variants: tuple[str, ...]
  archives: str


def find(
  dataset: str,
  data_dir: str | os.PathLike,
  split: str,
  variant: str = "",
  annotated: bool = True,
) -> Files:
  """Finds the files of a split.

  Args:
    dataset: a key of LAYOUTS.
    data_dir: the unpacked data set.
    split: one of SPLITS.
    variant: of the data set; "" for the usual one.
    annotated: whether masks and numbers of objects are looked for.

  Returns:
    The files, at least one image.

  Raises:
    FileNotFoundError: the split is not there.
    ValueError: the split is there in part, the directory is an archive or holds
      what it should not, or there is no such variant.
  """
  layout = LAYOUTS[dataset]
  root = folder_files.open_root(data_dir)
  variant = resolve_variant(dataset, variant)
  folder_files.check_not_packed(root)
  files = layout.find(root, split, variant, annotated)
  if not files.images:
    raise FileNotFoundError(
      f"Split {split!r} of {dataset} has no images in {root}; unpack "
      f"{layout.archives} there, or choose another split."
    )
  return files


def resolve_variant(dataset: str, variant: str) -> str:
  """Returns a variant's name, that of the usual one for "".

  Args:
    dataset: a key of LAYOUTS.
    variant: a name, or "".

  Raises:
    ValueError: the data set has no such variant.
  """
  variants = LAYOUTS[dataset].variants
  if variant and variant not in variants:
    raise ValueError(
      f"config.data.variant is {variant!r}; it must be "
      f"{' or '.join(variants) or 'empty'} with config.data.dataset = "
      f"{dataset}."
    )
  return variant or next(iter(variants), "")


def share_bounds(split: str, size: int) -> tuple[int, int]:
  """Returns where a split of 70, 15 and 15 % begins and ends."""
  bounds = (0, int(size * 0.7), int(size * 0.85), size)
  i = SPLITS.index(split)
  return bounds[i], bounds[i + 1]


def _find_plain(root: str, split: str, variant: str, annotated: bool) -> Files:
  """Finds images anywhere below a directory."""
  del variant, annotated
  images = _images_of_split(root, split)
  return Files(root, tuple(images), missing=("masks, which it never has",))


def _find_clevr_mirror(
  root: str, split: str, variant: str, annotated: bool
) -> Files:
  files = _find_plain(root, split, variant, annotated)
  if not annotated:
    return files
  scenes = set(folder_files.list_files(root, suffixes=(".json",)))
  if not scenes:
    missing = (*files.missing, "scenes/*.json, for numbers of objects")
    return dataclasses.replace(files, missing=missing)
  paths = [_scene_of(image, scenes, root) for image in files.images]
  return dataclasses.replace(
    files,
    count_objects=lambda i: annotation_files.count_objects(
      os.path.join(root, paths[i])
    ),
  )


def _images_of_split(root: str, split: str) -> list[str]:
  """Returns the sorted images of a split, by directories or by shares."""
  base = _below_single_directory(root)
  directories = {
    name: folder_files.find_directory(
      root, [os.path.join(base, x) for x in choices]
    )
    for name, choices in _SPLIT_DIRECTORIES.items()
  }
  if not any(directories.values()):
    images = folder_files.list_files(root, base)
    start, end = share_bounds(split, len(images))
    return images[start:end]
  if directories[split] is None:
    raise FileNotFoundError(
      f"{os.path.join(root, base)} has a directory of another split, but none "
      f"called {' or '.join(_SPLIT_DIRECTORIES[split])}; make it, or choose "
      "another split."
    )
  return folder_files.list_files(root, directories[split])


def _below_single_directory(root: str) -> str:
  """Descends while a directory holds another directory and nothing else."""
  names = {x for choices in _SPLIT_DIRECTORIES.values() for x in choices}
  base = ""
  while True:
    entries = folder_files.scan(os.path.join(root, base))
    single = len(entries) == 1 and entries[0].is_dir(follow_symlinks=False)
    if not single or entries[0].name in names:
      return base
    base = os.path.join(base, entries[0].name)


def _scene_of(image: str, scenes: set[str], root: str) -> str:
  """Returns the scene file of an image: beside its directory, or in it."""
  directory, name = os.path.split(image)
  name = os.path.splitext(name)[0] + ".json"
  candidates = [
    posixpath.normpath(os.path.join(directory, *place, name))
    for place in (("..", "scenes"), ("scenes",), ())
  ]
  for candidate in candidates:
    if candidate in scenes:
      return candidate
  raise ValueError(
    f"{os.path.join(root, candidates[0])} is missing, the scene of {image}; "
    "unpack the data set again, or remove all scenes if numbers of objects are "
    "not needed."
  )


LAYOUTS = {
  "clevr_mirror": Layout(_find_clevr_mirror, (), "the CLEVR-Mirror archive"),
  "shapestacks": Layout(
    shapestacks_layout.find,
    shapestacks_layout.VARIANTS,
    "shapestacks-meta.tar.gz, shapestacks-rgb.tar.gz and, for masks, "
    "shapestacks-iseg.tar.gz",
  ),
  "clevrtex": Layout(
    clevrtex_layout.find,
    clevrtex_layout.VARIANTS,
    "clevrtex_full_part1.tar.gz to clevrtex_full_part5.tar.gz",
  ),
  "coco": Layout(
    coco_layout.find,
    (),
    "train2017.zip, val2017.zip, test2017.zip and, for masks, "
    "annotations_trainval2017.zip",
  ),
  "folder": Layout(_find_plain, (), "your PNG or JPEG files"),
}
