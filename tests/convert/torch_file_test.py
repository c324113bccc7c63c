"""Reading PyTorch's files without PyTorch, honest and hostile ones."""

import pathlib
import pickle
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
import torch_pickles

from slot_attention.convert import torch_file

NUMBERS = np.arange(12, dtype=np.float32)


def test_strides_offsets_and_shared_storages(tmp_path):
  path = torch_pickles.write(
    tmp_path / "x.pth",
    torch_pickles.dictionary(
      {
        "plain": torch_pickles.tensor(
          "FloatStorage", "0", 12, 0, (3, 4), (4, 1)
        ),
        "transposed": torch_pickles.tensor(
          "FloatStorage", "0", 12, 0, (4, 3), (1, 4)
        ),
        "part": torch_pickles.tensor("FloatStorage", "0", 12, 5, (2,), (4,)),
        "scalar": torch_pickles.tensor("FloatStorage", "0", 12, 7, (), ()),
        "empty": torch_pickles.tensor(
          "FloatStorage", "0", 12, 0, (0, 4), (4, 1)
        ),
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
  path = torch_pickles.write(
    tmp_path / "x.pth",
    torch_pickles.dictionary(
      {"x": torch_pickles.tensor(kind, "0", 3, 0, (3,), (1,))}
    ),
    {"0": numbers},
  )
  value = torch_file.load(path)["x"]
  assert value.dtype == np.dtype(dtype)
  np.testing.assert_array_equal(value, numbers)


def test_other_byte_order(tmp_path):
  path = torch_pickles.write(
    tmp_path / "x.pth",
    torch_pickles.dictionary(
      {"x": torch_pickles.tensor("FloatStorage", "0", 12, 0, (12,), (1,))}
    ),
    {"0": NUMBERS.astype(">f4")},
    byteorder=b"big",
  )
  np.testing.assert_array_equal(torch_file.load(path)["x"], NUMBERS)


def test_dictionaries_within_and_what_is_no_tensor(tmp_path):
  inner = torch_pickles.dictionary(
    {"x": torch_pickles.tensor("FloatStorage", "0", 12, 1, (1,), (1,))}
  )
  code = torch_pickles.dictionary(
    {
      "state": inner,
      "step": torch_pickles.constant(7),
      "name": torch_pickles.constant("a"),
    }
  )
  tensors = torch_file.load(
    torch_pickles.write(tmp_path / "x.pth", code, {"0": NUMBERS})
  )
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
  code = (
    torch_pickles.global_(module, name)
    + b"("
    + torch_pickles.constant(f"touch {marker}")
    + b"tR"
  )
  path = torch_pickles.write(
    tmp_path / "x.pth", torch_pickles.dictionary({"x": code})
  )
  with pytest.raises(ValueError, match=rf"{module}\.{name}, which is not read"):
    torch_file.load(path)
  assert not marker.exists()


def test_functions_cannot_be_changed(tmp_path):
  state = torch_pickles.constant((None, {"__defaults__": (1,), "shape": (1,)}))
  code = torch_pickles.global_(*torch_pickles.REBUILD) + state + b"b"
  path = torch_pickles.write(
    tmp_path / "x.pth", torch_pickles.dictionary({"x": code})
  )
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
  path = torch_pickles.write(
    tmp_path / "x.pth",
    torch_pickles.dictionary({"x": torch_pickles.tensor(*tensor)}),
    {"0": NUMBERS},
  )
  with pytest.raises(ValueError, match=sentence) as error:
    torch_file.load(path)
  assert path in str(error.value)


def test_persistent_ids_of_another_kind_are_refused(tmp_path):
  code = torch_pickles.dictionary(
    {"x": torch_pickles.constant(("module", "a")) + b"Q"}
  )
  with pytest.raises(ValueError, match="which is no storage"):
    torch_file.load(torch_pickles.write(tmp_path / "x.pth", code))


def test_truncated_files_of_any_length_are_one_sentence(tmp_path):
  code = torch_pickles.dictionary(
    {"x": torch_pickles.tensor("FloatStorage", "0", 12, 0, (12,), (1,))}
  )
  whole = pathlib.Path(
    torch_pickles.write(tmp_path / "x.pth", code, {"0": NUMBERS})
  )
  whole = whole.read_bytes()
  path = tmp_path / "y.pth"
  for length in range(0, len(whole), 7):
    path.write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r"y\.pth") as error:
      torch_file.load(str(path))
    assert "\n" not in str(error.value)


def test_damaged_bytes_are_one_sentence_or_harmless(tmp_path):
  code = torch_pickles.dictionary(
    {"x": torch_pickles.tensor("FloatStorage", "0", 12, 0, (12,), (1,))}
  )
  for position in range(len(code)):
    damaged = code[:position] + bytes([code[position] ^ 0x55])
    damaged += code[position + 1 :]
    path = torch_pickles.write(tmp_path / "x.pth", damaged, {"0": NUMBERS})
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
    torch_file.load(torch_pickles.write(path, torch_pickles.constant([1])))
