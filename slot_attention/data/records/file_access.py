"""Reading parts of files on local disks and, through tensorflow, in buckets."""

from collections.abc import Iterator
import contextlib
import errno
import os
from typing import Protocol

from slot_attention.data import preprocess

# Errors of a bucket that may pass; the others are as of a file.
_PASSING = (
  "AbortedError",
  "DeadlineExceededError",
  "InternalError",
  "ResourceExhaustedError",
  "UnavailableError",
)


class File(Protocol):
  """A file that is open for reading."""

  @property
  def size(self) -> int:
    """Number of bytes."""

  def read(self, size: int, offset: int) -> bytes:
    """Returns `size` bytes from `offset` on, or fewer at the end."""


@contextlib.contextmanager
def open_file(path: str, scattered: bool = False) -> Iterator[File]:
  """Opens a file to read parts of it.

  Args:
    path: of a local file, or the address of one that tensorflow can read, such
      as gs://BUCKET/NAME.
    scattered: small parts far from each other are to be read; the kernel then
      reads nothing around them.

  Yields:
    The file.

  Raises:
    FileNotFoundError: it does not exist.
    OSError: it cannot be read; see `record_retry.may_pass`.
  """
  if is_remote(path):
    with os_errors(path):
      yield _RemoteFile(path)
    return
  descriptor = os.open(path, os.O_RDONLY)
  try:
    if scattered and hasattr(os, "posix_fadvise"):
      os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    yield _LocalFile(descriptor)
  finally:
    os.close(descriptor)


def is_remote(path: str | os.PathLike) -> bool:
  """Returns whether a path is an address such as gs://BUCKET/NAME."""
  return "://" in os.fspath(path)


@contextlib.contextmanager
def os_errors(path: str | os.PathLike) -> Iterator[None]:
  """Raises tensorflow's errors about files as the OSErrors they stand for."""
  if not is_remote(path):
    yield
    return
  tf = preprocess.import_tensorflow()
  try:
    yield
  except tf.errors.OpError as error:
    name = type(error).__name__
    reason = (error.message.strip() or name).splitlines()[0]
    message = f"{os.fspath(path)}: {reason}"
    if isinstance(error, tf.errors.NotFoundError):
      raise FileNotFoundError(errno.ENOENT, message) from error
    number = errno.EREMOTEIO if name in _PASSING else errno.EACCES
    raise OSError(number, message) from error


class _LocalFile:
  """A descriptor; see File."""

  def __init__(self, descriptor: int):
    self._descriptor = descriptor

  @property
  def size(self) -> int:
    return os.fstat(self._descriptor).st_size

  def read(self, size: int, offset: int) -> bytes:
    return os.pread(self._descriptor, size, offset)


class _RemoteFile:
  """A file of tensorflow's file systems, for one thread; see File."""

  def __init__(self, path: str):
    tf = preprocess.import_tensorflow()
    self._file = tf.io.gfile.GFile(path, "rb")
    self.size = self._file.size()

  def read(self, size: int, offset: int) -> bytes:
    self._file.seek(offset)
    return self._file.read(size)
