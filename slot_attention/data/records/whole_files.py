"""Files that get their name when all of them is written."""

from collections.abc import Iterator
import contextlib
import errno
import os
import pathlib
from typing import BinaryIO

# As in tensorflow_datasets: what is called so is not finished.
INCOMPLETE = "incomplete."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def open_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
  """Opens a file for writing that nobody sees before it is whole.

  It is written beside its place under another name, reaches the disk, and gets
  its name when the block ends. After an error nothing is left.

  Args:
    path: the file; one that is there is replaced.

  Yields:
    The open file.

  Raises:
    OSError: the disk is full.
  """
  path = pathlib.Path(path)
  temporary = path.with_name(INCOMPLETE + path.name)
  try:
    with open(temporary, "wb") as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    temporary.replace(path)
  except BaseException as error:
    temporary.unlink(missing_ok=True)
    if isinstance(error, OSError) and error.errno in _FULL:
      raise OSError(
        f"There is no room for {path} ({error.strerror}); make room and run "
        "the same command again."
      ) from error
    raise
