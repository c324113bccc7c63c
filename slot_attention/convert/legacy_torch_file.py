"""The files that torch.save wrote before PyTorch 1.6.

Four pickles follow one another: a magic number, the version 1001, a dictionary
about the machine, and what was saved. A fifth lists the keys of all storages,
and for each of them follow the number of its elements, 8 bytes, and these.
"""

from collections.abc import Callable
import os
import struct
from typing import Any, BinaryIO

import numpy as np

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
# How the number stands in a file, whichever protocol of pickle is used.
_MAGIC_BYTES = _MAGIC_NUMBER.to_bytes(10, "little")
_VERSION = 1001
_COUNT = struct.Struct("<q")

# Takes the file, its path and what reads a storage; `torch_file.Unpickler`.
_Unpickler = Callable[[BinaryIO, str, Callable[[Any], np.ndarray | None]], Any]


def is_legacy(path: str) -> bool:
  """Returns whether a file begins as these do."""
  with open(path, "rb") as file:
    return _MAGIC_BYTES in file.read(32)


def load(path: str, unpickler: _Unpickler) -> Any:
  """Unpickles what was saved.

  Args:
    path: the file.
    unpickler: a class that knows what may be called, `torch_file.Unpickler`.

  Returns:
    What was saved, with arrays for tensors.

  Raises:
    ValueError: the file is damaged, or of a machine with big numbers first.
    pickle.UnpicklingError, EOFError: a pickle is damaged.
  """
  with open(path, "rb") as file:
    header = [unpickler(file, path, _unwanted).load() for _ in range(3)]
    little = isinstance(header[2], dict) and header[2].get("little_endian", 1)
    if header[:2] != [_MAGIC_NUMBER, _VERSION] or not little:
      raise ValueError(f"its header is {header!r}")
    start = file.tell()
    # Numbers come behind the tensors that are cut out of them: the first time
    # tells their types, and the second one builds the tensors.
    found: dict[str, Any] = {}

    def note_storage(storage: Any) -> None:
      found[storage.key] = storage

    unpickler(file, path, note_storage).load()
    keys = unpickler(file, path, note_storage).load()
    storages = {key: _read(file, found[key]) for key in keys}
    file.seek(start)
    return unpickler(
      file, path, lambda storage: _checked(storages[storage.key], storage)
    ).load()


def _unwanted(storage: Any) -> None:
  del storage


def _read(file: BinaryIO, storage: Any) -> np.ndarray:
  """Reads the next storage of a file."""
  (count,) = _COUNT.unpack(file.read(_COUNT.size))
  size = count * storage.dtype.itemsize
  rest = os.fstat(file.fileno()).st_size - file.tell()
  if count != storage.size or size > rest:
    raise ValueError(
      f"storage {storage.key} has {count} numbers and {rest} bytes follow, but "
      f"{storage.size} numbers are needed"
    )
  dtype = storage.dtype.newbyteorder("<")
  return np.frombuffer(file.read(size), dtype).astype(storage.dtype, copy=False)


def _checked(numbers: np.ndarray, storage: Any) -> np.ndarray:
  if numbers.dtype != storage.dtype or numbers.size != storage.size:
    raise ValueError(f"storage {storage.key} is described in two ways")
  return numbers
