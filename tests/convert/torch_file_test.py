"""Reading PyTorch's files without PyTorch, honest and hostile ones."""

import pathlib
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.convert import torch_file

REBUILD = ("torch._utils", "_rebuild_tensor_v2")


def _global(module, name):
  return f"c{module}\n{name}\n".encode()


def _constant(value):
  return pickle.dumps(value, 2)[2:-1]  # Without protocol and stop.


def _storage(kind, key, size):
  return (
    b"("
    + _constant("storage")
    + _global("torch", kind)
    + _constant(key)
    + _constant("cpu")
    + _constant(size)
    + b"tQ"
  )


def _tensor(kind, key, size, offset, shape, strides):
  """Pickle code of a tensor, as torch.save writes it."""
  return (
    _global(*REBUILD)
    + b"("
    + _storage(kind, key, size)
    + b"".join(map(_constant, (offset, shape, strides, False)))
    + _global("collections", "OrderedDict")
    + b")RtR"
  )


def _dictionary(items):
  code = _global("collections", "OrderedDict") + b")R("
  for key, value in items.items():
    code += _constant(key) + value
  return code + b"u"


def _write(path, code, storages=None, **records):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("archive/data.pkl", b"\x80\x02" + code + b".")
    for key, numbers in (storages or {}).items():
      archive.writestr(f"archive/data/{key}", numbers.tobytes())
    for name, value in records.items():
      archive.writestr(f"archive/{name}", value)
  return str(path)


NUMBERS = np.arange(12, dtype=np.float32)


def test_strides_offsets_and_shared_storages(tmp_path):
  path = _write(
    tmp_path / "x.pth",
    _dictionary(
      {
        "plain": _tensor("FloatStorage", "0", 12, 0, (3, 4), (4, 1)),
        "transposed": _tensor("FloatStorage", "0", 12, 0, (4, 3), (1, 4)),
        "part": _tensor("FloatStorage", "0", 12, 5, (2,), (4,)),
        "scalar": _tensor("FloatStorage", "0", 12, 7, (), ()),
        "empty": _tensor("FloatStorage", "0", 12, 0, (0, 4), (4, 1)),
      }
    ),
    {"0": NUMBERS},
  )
  tensors = torch_file.load(path)
  grid = NUMBERS.reshape(3, 4)
  np.testing.assert_array_equal(tensors["plain"], grid)
  np.testing.assert_array_equal(tensors["transposed"], grid.T)
  np.testing.assert_array_equal(tensors["part"], [5, 9])
  assert tensors["scalar"] == 7
  assert tensors["empty"].shape == (0, 4)


@pytest.mark.parametrize(
  ("kind", "dtype"),
  [
    ("DoubleStorage", np.float64),
    ("HalfStorage", np.float16),
    ("BFloat16Storage", jnp.bfloat16),
    ("LongStorage", np.int64),
    ("BoolStorage", np.bool_),
  ],
)
def test_types(tmp_path, kind, dtype):
  numbers = np.array([0, 1, 3], dtype)
  path = _write(
    tmp_path / "x.pth",
    _dictionary({"x": _tensor(kind, "0", 3, 0, (3,), (1,))}),
    {"0": numbers},
  )
  value = torch_file.load(path)["x"]
  assert value.dtype == np.dtype(dtype)
  np.testing.assert_array_equal(value, numbers)


def test_other_byte_order(tmp_path):
  path = _write(
    tmp_path / "x.pth",
    _dictionary({"x": _tensor("FloatStorage", "0", 12, 0, (12,), (1,))}),
    {"0": NUMBERS.astype(">f4")},
    byteorder=b"big",
  )
  np.testing.assert_array_equal(torch_file.load(path)["x"], NUMBERS)


def test_dictionaries_within_and_what_is_no_tensor(tmp_path):
  inner = _dictionary({"x": _tensor("FloatStorage", "0", 12, 1, (1,), (1,))})
  code = _dictionary(
    {"state": inner, "step": _constant(7), "name": _constant("a")}
  )
  tensors = torch_file.load(_write(tmp_path / "x.pth", code, {"0": NUMBERS}))
  assert tensors.keys() == {"state/x", "step"}
  assert tensors["step"] == 7


@pytest.mark.parametrize(
  ("module", "name"),
  [
    ("os", "system"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("torch", "load"),
    ("torch.nn.modules.linear", "Linear"),
    ("collections", "defaultdict"),
  ],
)
def test_other_classes_are_refused_by_name(tmp_path, module, name):
  marker = tmp_path / "ran"
  code = _global(module, name) + b"(" + _constant(f"touch {marker}") + b"tR"
  path = _write(tmp_path / "x.pth", _dictionary({"x": code}))
  with pytest.raises(ValueError, match=rf"{module}\.{name}, which is not read"):
    torch_file.load(path)
  assert not marker.exists()


def test_functions_cannot_be_changed(tmp_path):
  state = _constant((None, {"__defaults__": (1,), "shape": (1,)}))
  code = _global(*REBUILD) + state + b"b"
  path = _write(tmp_path / "x.pth", _dictionary({"x": code}))
  with pytest.raises(ValueError, match="is damaged"):
    torch_file.load(path)


@pytest.mark.parametrize(
  ("tensor", "sentence"),
  [
    (("FloatStorage", "0", 12, 0, (13,), (1,)), r"shape \(13,\)"),
    (("FloatStorage", "0", 12, 8, (2, 2), (4, 1)), "offset 8"),
    (("FloatStorage", "0", 12, -1, (2,), (1,)), "offset -1"),
    (("FloatStorage", "0", 12, 11, (2,), (-1,)), r"strides \(-1,\)"),
    (("FloatStorage", "0", 99, 0, (2,), (1,)), "48 bytes; 396 are needed"),
    (("FloatStorage", "7", 12, 0, (2,), (1,)), "data/7 has 0 bytes"),
    (("FloatStorage", "../data.pkl", 12, 0, (2,), (1,)), "has 0 bytes"),
  ],
)
def test_tensors_outside_their_storage_are_refused(tmp_path, tensor, sentence):
  path = _write(
    tmp_path / "x.pth", _dictionary({"x": _tensor(*tensor)}), {"0": NUMBERS}
  )
  with pytest.raises(ValueError, match=sentence) as error:
    torch_file.load(path)
  assert path in str(error.value)


def test_persistent_ids_of_another_kind_are_refused(tmp_path):
  code = _dictionary({"x": _constant(("module", "a")) + b"Q"})
  with pytest.raises(ValueError, match="which is no storage"):
    torch_file.load(_write(tmp_path / "x.pth", code))


def test_truncated_files_of_any_length_are_one_sentence(tmp_path):
  code = _dictionary({"x": _tensor("FloatStorage", "0", 12, 0, (12,), (1,))})
  whole = pathlib.Path(_write(tmp_path / "x.pth", code, {"0": NUMBERS}))
  whole = whole.read_bytes()
  path = tmp_path / "y.pth"
  for length in range(0, len(whole), 7):
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r"y\.pth") as error:
      torch_file.load(str(path))
    assert "\n" not in str(error.value)


def test_damaged_bytes_are_one_sentence_or_harmless(tmp_path):
  code = _dictionary({"x": _tensor("FloatStorage", "0", 12, 0, (12,), (1,))})
  for position in range(len(code)):
    damaged = code[:position] + bytes([code[position] ^ 0x55])
    damaged += code[position + 1 :]
    path = _write(tmp_path / "x.pth", damaged, {"0": NUMBERS})
    try:
      torch_file.load(path)
    except ValueError as error:
      assert path in str(error)


def test_what_is_no_checkpoint(tmp_path):
  with pytest.raises(FileNotFoundError):
    torch_file.load(str(tmp_path / "none.pth"))
  path = tmp_path / "legacy.pth"
  path.write_bytes(pickle.dumps({"a": 1}))
  with pytest.raises(ValueError, match=r"not written by torch\.save"):
    torch_file.load(str(path))
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("readme", b"")
  with pytest.raises(ValueError, match=r"0 files called data\.pkl"):
    torch_file.load(str(path))
  with pytest.raises(ValueError, match="a list, not a dictionary"):
    torch_file.load(_write(path, _constant([1])))
