"""Reads PyTorch's checkpoint files without PyTorch and without running code.

`torch.save` writes a zip archive: `<root>/data.pkl`, a pickle of whatever was
saved, and `<root>/data/<key>`, the bytes of every storage; before PyTorch 1.6
it was another file, see `legacy_torch_file`. Unpickling can call anything; here
it can build dictionaries and tensors, nothing else.
"""

import collections
from collections.abc import Callable, Mapping
import io
import math
import pickle
from typing import Any, BinaryIO, NamedTuple
import zipfile

from absl import logging
import jax.numpy as jnp
import numpy as np

from slot_attention.convert import legacy_torch_file

_STORAGES = {
  "FloatStorage": np.float32,
  "DoubleStorage": np.float64,
  "HalfStorage": np.float16,
  "BFloat16Storage": jnp.bfloat16,
  "LongStorage": np.int64,
  "IntStorage": np.int32,
  "ShortStorage": np.int16,
  "CharStorage": np.int8,
  "ByteStorage": np.uint8,
  "BoolStorage": np.bool_,
}


def load(path: str) -> dict[str, np.ndarray]:
  """Reads the tensors of a checkpoint.

  Args:
    path: file that `torch.save` wrote.

  Returns:
    Read-only arrays by name. Dictionaries within dictionaries give names joined
    by "/". Numbers become arrays without axes; what is neither a number nor a
    tensor is left out, and logged.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is not of torch.save, is damaged, or holds anything
      but dictionaries, lists, numbers, texts and tensors.
  """
  try:
    if legacy_torch_file.is_legacy(path):
      tree = legacy_torch_file.load(path, Unpickler)
    else:
      with zipfile.ZipFile(path) as archive:
        tree = _load_archive(archive, path)
  except zipfile.BadZipFile as error:
    raise ValueError(
      f"{path} is no complete zip archive ({error}): it is truncated, or not "
      "written by torch.save of PyTorch."
    ) from error
  except (OSError, _Refused):
    raise
  except Exception as error:  # Pickles fail in any way that Python knows.
    raise ValueError(
      f"{path} is damaged: {type(error).__name__}: {error}."
    ) from error
  if not isinstance(tree, Mapping):
    raise ValueError(
      f"{path} holds a {type(tree).__name__}, not a dictionary of tensors."
    )
  return dict(_flatten(tree, ""))


class _Refused(ValueError):
  """The file asks for something that is not allowed or not there."""


class Storage(NamedTuple):
  """Numbers without a shape."""

  dtype: np.dtype
  key: str
  size: int


class Unpickler(pickle.Unpickler):
  """Knows what a state dict needs, and refuses everything else by name."""

  def __init__(
    self,
    file: BinaryIO,
    path: str,
    read_storage: Callable[[Storage], np.ndarray | None],
  ):
    """Opens a pickle.

    Args:
      file: the pickle.
      path: of the checkpoint, for messages.
      read_storage: returns the numbers of a storage, all of them, or raises an
        error if they are not there; None stands for numbers that are not
        wanted, and gives empty tensors.
    """
    self._path = path
    self._read_storage = read_storage
    super().__init__(file)

  def find_class(self, module: str, name: str) -> Any:
    """Returns what stands for a class; bound methods cannot be tampered with.

    Raises:
      ValueError: the class is not allowed.
    """
    if (module, name) == ("collections", "OrderedDict"):
      return collections.OrderedDict
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
      return self._rebuild_tensor
    if (module, name) == ("torch._utils", "_rebuild_parameter"):
      return self._rebuild_parameter
    if module == "torch" and name in _STORAGES:
      return np.dtype(_STORAGES[name])
    raise _Refused(
      f"{self._path} refers to {module}.{name}, which is not read, since it "
      "could run code; save a plain state dict (names and tensors) instead."
    )

  def persistent_load(self, pid: Any) -> Storage:
    """Returns the storage that ("storage", type, key, device, size) names.

    Before PyTorch 1.6 a None stood behind, or which part of another it is.
    """
    match pid:
      case ("storage", np.dtype() as dtype, str(key), str(), int(size)) | (
        "storage",
        np.dtype() as dtype,
        str(key),
        str(),
        int(size),
        None,
      ):
        return Storage(dtype, key, size)
    raise _Refused(f"{self._path} refers to {pid!r}, which is no storage.")

  def _rebuild_tensor(
    self,
    storage: Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *unused: Any,
  ) -> np.ndarray:
    """Returns a view of a storage; offset and strides count numbers."""
    del unused  # Whether gradients are wanted, and hooks.
    numbers = self._read_storage(storage)
    if numbers is None:
      return np.zeros(0, storage.dtype)
    last = offset + sum(
      (n - 1) * s for n, s in zip(shape, strides, strict=True)
    )
    if math.prod(shape) == 0:
      return np.zeros(shape, storage.dtype)
    if min(offset, *shape, *strides, 0) < 0 or last >= storage.size:
      raise _Refused(
        f"{self._path} has a tensor of shape {shape}, strides {strides} and "
        f"offset {offset} in a storage of {storage.size} numbers."
      )
    return np.lib.stride_tricks.as_strided(
      numbers[offset:],
      shape,
      [s * storage.dtype.itemsize for s in strides],
      writeable=False,
    )

  def _rebuild_parameter(self, tensor: np.ndarray, *unused: Any) -> np.ndarray:
    del unused
    return tensor


def _load_archive(archive: zipfile.ZipFile, path: str) -> Any:
  """Unpickles what a zip archive holds."""
  names = [n for n in archive.namelist() if n.endswith("/data.pkl")]
  if len(names) != 1:
    raise _Refused(
      f"{path} is a zip archive with {len(names)} files called data.pkl; "
      "torch.save writes one."
    )
  root = names[0].removesuffix("data.pkl")
  byte_order = _read_byte_order(archive, root)

  def read_storage(storage: Storage) -> np.ndarray:
    name = f"{root}data/{storage.key}"
    expected = storage.size * storage.dtype.itemsize
    try:
      actual = archive.getinfo(name).file_size
    except KeyError:
      actual = 0
    if actual < expected:
      raise _Refused(
        f"{path} is damaged: {name} has {actual} bytes; {expected} are needed."
      )
    dtype = storage.dtype.newbyteorder(byte_order)
    numbers = np.frombuffer(archive.read(name), dtype, storage.size)
    return numbers.astype(storage.dtype, copy=False)

  file = io.BytesIO(archive.read(names[0]))
  return Unpickler(file, path, read_storage).load()


def _read_byte_order(archive: zipfile.ZipFile, root: str) -> str:
  try:
    order = archive.read(f"{root}byteorder").decode()
  except KeyError:  # Older than PyTorch 2.1.
    order = "little"
  return ">" if order == "big" else "<"


def _flatten(tree: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
  items = []
  for key, value in tree.items():
    name = f"{prefix}{key}"
    if isinstance(value, Mapping):
      items.extend(_flatten(value, f"{name}/"))
    elif isinstance(value, (np.ndarray, bool, int, float)):
      items.append((name, np.asarray(value)))
    else:
      logging.info("Left out %s: %s.", name, type(value).__name__)
  return items
