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


# Magic number, version, and what is said of the machine.
LEGACY_HEADER = (
  0x1950A86A20F9469CFC6C,
  1001,
  {
    "protocol_version": 1001,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
  },
)


def legacy_tensor(key, size, offset, shape, strides):
  """Pickle code of a float32 tensor as it was before PyTorch 1.6."""
  code = tensor("FloatStorage", key, size, offset, shape, strides)
  # The storage has a None behind its size.
  return code.replace(b"tQ", b"NtQ", 1)


def write_legacy(path, code, storages) -> str:
  """Writes a file as torch.save did before PyTorch 1.6; returns the path."""
  parts = [pickle.dumps(x, 2) for x in LEGACY_HEADER]
  parts.append(b"\x80\x02" + code + b".")
  parts.append(pickle.dumps(list(storages), 2))
  for numbers in storages.values():
    parts.append(np.int64(numbers.size).tobytes() + numbers.tobytes())
  path.write_bytes(b"".join(parts))
  return str(path)


def write_legacy_state_dict(path, arrays: Mapping[str, np.ndarray]) -> str:
  """Writes float32 arrays by name; returns the path."""
  items, storages = {}, {}
  for i, (name, array) in enumerate(arrays.items()):
    array = np.array(array, np.float32)  # A copy keeps a shape of ().
    strides = tuple(stride // array.itemsize for stride in array.strides)
    items[name] = legacy_tensor(str(i), array.size, 0, array.shape, strides)
    storages[str(i)] = array
  return write_legacy(path, dictionary(items), storages)
