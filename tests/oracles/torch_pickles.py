"""Writes files as torch.save does, without PyTorch."""

from collections.abc import Mapping
import pickle
import zipfile

import numpy as np

REBUILD = ("torch._utils", "_rebuild_tensor_v2")


def global_(module, name):
  return f"c{module}\n{name}\n".encode()


def constant(value):
  return pickle.dumps(value, 2)[2:-1]  # Without protocol and stop.


def storage(kind, key, size):
  return (
    b"("
    + constant("storage")
    + global_("torch", kind)
    + constant(key)
    + constant("cpu")
    + constant(size)
    + b"tQ"
  )


def tensor(kind, key, size, offset, shape, strides):
  """Pickle code of a tensor, as torch.save writes it."""
  return (
    global_(*REBUILD)
    + b"("
    + storage(kind, key, size)
    + b"".join(map(constant, (offset, shape, strides, False)))
    + global_("collections", "OrderedDict")
    + b")RtR"
  )


def dictionary(items):
  code = global_("collections", "OrderedDict") + b")R("
  for key, value in items.items():
    code += constant(key) + value
  return code + b"u"


def write(path, code, storages=None, **records):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", b"\x80\x02" + code + b".")
    for key, numbers in (storages or {}).items():
      archive.writestr(f"archive/data/{key}", numbers.tobytes())
    for name, value in records.items():
      archive.writestr(f"archive/{name}", value)
  return str(path)


def write_state_dict(path, arrays: Mapping[str, np.ndarray]) -> str:
  """Writes float32 arrays by name; returns the path."""
  items, storages = {}, {}
  for i, (name, array) in enumerate(arrays.items()):
    array = np.ascontiguousarray(array, np.float32)
    strides = tuple(stride // array.itemsize for stride in array.strides)
    items[name] = tensor(
      "FloatStorage", str(i), array.size, 0, array.shape, strides
    )
    storages[str(i)] = array
  return write(path, dictionary(items), storages)
