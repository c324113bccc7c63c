"""Finds files below a directory, and no others.

What lists and annotation files name is looked for below the data set's own
directory; a name or a link that leads out of it is refused.
"""

from collections.abc import Callable, Collection
import dataclasses
import os
import pathlib
import re
from typing import NoReturn

import numpy as np

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_ARCHIVE = re.compile(r"\.(tar|tar\.\w+|tgz|zip|7z)$", re.IGNORECASE)
_UNPACK = {".zip": "unzip -q {0} -d DIRECTORY", ".7z": "7z x -oDIRECTORY {0}"}


@dataclasses.dataclass(frozen=True, eq=False)
class Files:
  """The images of one split and what is known of them.

  Attributes:
    root: directory to which the paths are relative.
    images: paths in the order of the examples.
    load_labels: reads the label map [h, w] uint8 of an image by its number, 0
      background, k object k - 1; None where there are no masks.
    count_objects: returns the number of objects in an image by its number;
      None where it is not known.
    missing: sentences, what could be there and is not.
  """

  root: str
  images: tuple[str, ...]
  load_labels: Callable[[int], np.ndarray] | None = None
  count_objects: Callable[[int], int] | None = None
  missing: tuple[str, ...] = ()

  def path(self, number: int) -> str:
    """Returns the path of an image."""
    return os.path.join(self.root, self.images[number])


def open_root(data_dir: str | os.PathLike) -> str:
  """Returns the directory of a data set.

  Args:
    data_dir: as the user gave it; "~" is allowed.

  Raises:
    FileNotFoundError: there is no such directory.
    ValueError: it is not local, or an archive.
  """
  path = os.path.expanduser(os.fspath(data_dir))
  if not path or "://" in path:
    raise ValueError(
      f"config.data.data_dir is {data_dir!r}; it must be a local directory "
      "that holds the unpacked data set."
    )
  if os.path.isfile(path):
    refuse_file(path)
  if not os.path.isdir(path):
    raise FileNotFoundError(
      f"There is no directory {path}; set config.data.data_dir (--input) to "
      "that of the unpacked data set."
    )
  return path


def is_archive(path: str | os.PathLike) -> bool:
  """Returns whether a path ends as those of archives do."""
  return _ARCHIVE.search(os.fspath(path)) is not None


def refuse_file(path: str | os.PathLike) -> NoReturn:
  """Raises ValueError that says how to unpack an archive, or what to give."""
  if is_archive(path):
    suffix = os.path.splitext(path)[1].lower()
    command = _UNPACK.get(suffix, "tar -xf {0} -C DIRECTORY").format(path)
    raise ValueError(
      f"{path} is an archive; unpack it with `{command}` and give DIRECTORY."
    )
  raise ValueError(f"{path} is a file; give the directory that it lies in.")


def list_files(
  root: str, below: str = "", suffixes: Collection[str] = IMAGE_SUFFIXES
) -> list[str]:
  """Finds files in a directory and in those below it.

  Args:
    root: directory to which results are relative, and which no link may leave.
    below: path of the directory to look into, relative to the root.
    suffixes: endings of the names, in lower case. Names that begin with a dot
      belong to operating systems, and are passed over.

  Returns:
    Sorted paths.

  Raises:
    FileNotFoundError: there is no such directory.
    ValueError: a link leads to a directory or out of the root, or what has
      such a name is no file.
  """
  found, directories = [], [below]
  while directories:  # No recursion: directories can be nested deeply.
    below = directories.pop()
    for entry in scan(os.path.join(root, below)):
      path = os.path.join(below, entry.name)
      if entry.is_symlink():
        _check_link(root, path)
      if entry.is_dir(follow_symlinks=False):
        directories.append(path)
      elif entry.name.lower().endswith(tuple(suffixes)):
        _check_file(entry)
        found.append(path)
  return sorted(found)


def scan(directory: str) -> list[os.DirEntry]:
  """Returns the entries of a directory but those that begin with a dot."""
  try:
    with os.scandir(directory) as entries:
      return [entry for entry in entries if not entry.name.startswith(".")]
  except OSError as error:
    raise type(error)(
      f"{directory} cannot be listed ({error.strerror}); unpack the data set "
      "there, or set config.data.data_dir to where it is."
    ) from error


def list_names(root: str, below: str) -> set[str]:
  """Returns the names of the files in one directory, whose links are checked.

  Args:
    root: directory that no link may leave.
    below: path of the directory, relative to the root.
  """
  names = set()
  for entry in scan(os.path.join(root, below)):
    path = os.path.join(below, entry.name)
    if entry.is_symlink():
      _check_link(root, path)
    if not entry.is_dir(follow_symlinks=False):
      _check_file(entry)
      names.add(entry.name)
  return names


def _check_link(root: str, path: str) -> None:
  path = os.path.join(root, path)
  inside = _is_inside(root, path)
  if not inside or os.path.isdir(path):
    raise ValueError(
      f"{path} is a link to {os.path.realpath(path)}, which is "
      f"{'a directory' if inside else f'not below {root}'}; put the files "
      "themselves there."
    )


def _check_file(entry: os.DirEntry) -> None:
  """Raises ValueError for what would block a reader, or never end."""
  # The directory itself tells what is a file; only links cost another look.
  if not (entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path)):
    raise ValueError(
      f"{entry.path} is neither a file nor a directory, but a pipe, a socket, "
      "a device or a link to nothing; remove it."
    )


def _is_inside(root: str, path: str) -> bool:
  """Returns whether a path, all links followed, lies below the root."""
  real_root = os.path.realpath(root).rstrip(os.sep)
  return os.path.realpath(path).startswith(real_root + os.sep)


def check_name(name: object, source: str, directories: bool = False) -> str:
  """Returns a name that a list or an annotation file gives, if it is harmless.

  Args:
    name: of a file or a directory.
    source: the file that gives it, for the message.
    directories: whether the name may have directories before it.

  Raises:
    ValueError: the name leads out of the directory that it is meant for, or is
      none.
  """
  parts = pathlib.PurePosixPath(name).parts if isinstance(name, str) else ()
  harmless = (
    parts
    and (directories or len(parts) == 1)
    and not {"/", ".."} & set(parts)
    and not set("\\\0") & set(name)
  )
  if not harmless:
    raise ValueError(
      f"{source} names {name!r}, which does not lie below the data set's "
      "directory; copy the file again from where the data set is published."
    )
  return name


def find_directory(root: str, names: Collection[str]) -> str | None:
  """Returns the first of these paths below the root that is a directory."""
  for name in names:
    path = os.path.join(root, name)
    if os.path.isdir(path):
      if not _is_inside(root, path):
        raise ValueError(
          f"{path} is a link to {os.path.realpath(path)}, which is not below "
          f"{root}; put the directory itself there, or set "
          "config.data.data_dir to another one."
        )
      return name
  return None


def check_not_packed(root: str) -> None:
  """Raises ValueError if archives are all that a directory holds."""
  entries = scan(root)
  if entries and all(is_archive(entry.name) for entry in entries):
    refuse_file(min(entry.path for entry in entries))
