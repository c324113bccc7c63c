"""The files of torch.save before PyTorch 1.6, honest and hostile ones."""

import pickle

import numpy as np
import pytest
import torch_pickles

from slot_attention.convert import torch_file

ARRAYS = {
  "a": np.arange(12, dtype=np.float32).reshape(3, 4),
  "b": np.array(7, np.float32),
  "c": np.ones((2, 1, 5), np.float32),
}


@pytest.fixture
def path(tmp_path):
  return torch_pickles.write_legacy_state_dict(tmp_path / "x.pth", ARRAYS)


def test_arrays_come_back(path):
  found = torch_file.load(path)
  assert set(found) == set(ARRAYS)
  for name, array in ARRAYS.items():
    np.testing.assert_array_equal(found[name], array)
    assert found[name].shape == array.shape


def test_shared_storages_and_strides(tmp_path):
  code = torch_pickles.dictionary(
    {
      "whole": torch_pickles.legacy_tensor("9", 12, 0, (3, 4), (4, 1)),
      "turned": torch_pickles.legacy_tensor("9", 12, 0, (4, 3), (1, 4)),
      "part": torch_pickles.legacy_tensor("9", 12, 5, (2,), (4,)),
    }
  )
  path = torch_pickles.write_legacy(
    tmp_path / "x.pth", code, {"9": ARRAYS["a"]}
  )
  found = torch_file.load(path)
  np.testing.assert_array_equal(found["turned"], ARRAYS["a"].T)
  np.testing.assert_array_equal(found["part"], [5, 9])


def test_cut_off_anywhere(path, tmp_path):
  content = (tmp_path / "x.pth").read_bytes()
  for size in range(0, len(content), 7):
    (tmp_path / "x.pth").write_bytes(content[:size])
    with pytest.raises(ValueError, match=path):
      torch_file.load(path)


def test_storages_that_are_not_as_described(tmp_path):
  def load(size, key, storages):
    code = torch_pickles.dictionary(
      {"a": torch_pickles.legacy_tensor(key, size, 0, (size,), (1,))}
    )
    return torch_file.load(
      torch_pickles.write_legacy(tmp_path / "x.pth", code, storages)
    )

  numbers = np.zeros(4, np.float32)
  assert load(4, "0", {"0": numbers})["a"].shape == (4,)
  for size, key, storages in (
    (5, "0", {"0": numbers}),
    (4, "1", {"0": numbers}),
    (4, "0", {}),
    (10**15, "0", {"0": numbers}),
  ):
    with pytest.raises(ValueError, match=r"x\.pth is damaged"):
      load(size, key, storages)


def test_runs_no_code(tmp_path):
  class Evil:
    def __reduce__(self):
      return (print, ("caught",))

  for position in range(4):
    parts = [pickle.dumps(x, 2) for x in torch_pickles.LEGACY_HEADER]
    parts.append(b"\x80\x02" + torch_pickles.dictionary({}) + b".")
    parts.append(pickle.dumps([], 2))
    if position:  # The magic number itself is looked at first.
      parts[position] = pickle.dumps(Evil(), 2)
    else:
      parts[4] = pickle.dumps(Evil(), 2)
    path = tmp_path / "x.pth"
    path.write_bytes(b"".join(parts))
    with pytest.raises(ValueError, match="print, which is not read"):
      torch_file.load(str(path))


def test_machines_with_big_numbers_first(tmp_path):
  header = [*torch_pickles.LEGACY_HEADER[:2], {"little_endian": False}]
  path = tmp_path / "x.pth"
  path.write_bytes(b"".join(pickle.dumps(x, 2) for x in header))
  with pytest.raises(ValueError, match=r"damaged.*its header is"):
    torch_file.load(str(path))
