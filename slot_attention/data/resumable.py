"""What programs need that write a directory and go on after they were killed.

Their arguments are written first and the description of the result last.
"""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import pathlib
from typing import Any

from slot_attention.data.records import whole_files


@contextlib.contextmanager
def locked(path: pathlib.Path, wait: bool = False) -> Iterator[None]:
  """Keeps other processes away; the lock goes when this one is killed.

  Args:
    path: a file or directory that exists.
    wait: whether to wait for another process.

  Raises:
    FileExistsError: another process has the lock.
  """
  descriptor = os.open(path, os.O_RDONLY)
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    yield
  except BlockingIOError as error:
    raise FileExistsError(
      f"Another process is writing to {path}; wait for it or choose another "
      "directory."
    ) from error
  finally:
    os.close(descriptor)


def claim(
  directory: pathlib.Path, name: str, arguments: dict[str, Any]
) -> None:
  """Writes down the arguments, or compares them with those written down.

  Args:
    directory: where the result will be.
    name: of the file of arguments.
    arguments: what JSON can hold.

  Raises:
    FileExistsError: there is something else in the directory.
    ValueError: other arguments were written down.
  """
  path = directory / name
  begun = [
    file
    for file in directory.iterdir()
    if file != path and not file.name.startswith(whole_files.INCOMPLETE)
  ]
  if begun and path.exists():
    _compare(directory, arguments, json.loads(path.read_text(encoding="utf-8")))
    return
  if begun:
    raise FileExistsError(
      f"{directory} is not empty and holds nothing that could go on; remove it "
      "or choose another directory."
    )
  write_json(path, arguments)


def _compare(
  directory: pathlib.Path, arguments: dict[str, Any], earlier: dict[str, Any]
) -> None:
  for name, value in arguments.items():
    if value != earlier.get(name):
      raise ValueError(
        f"{directory} was begun with {name}={earlier.get(name)}, which is now "
        f"{value}; give the same again or choose another directory."
      )


def write_json(path: pathlib.Path, values: dict[str, Any]) -> None:
  """Writes an indented JSON file that is whole or not there."""
  with whole_files.open_whole(path) as file:
    file.write((json.dumps(values, indent=2) + "\n").encode())
