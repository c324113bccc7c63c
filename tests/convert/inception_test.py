"""Weights of the FID's network from files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_pickles

from slot_attention.convert import inception as convert
from slot_attention.convert import trees
from slot_attention.modules import inception


@pytest.fixture(scope="module")
def state_dict():
  """Zeros by pytorch-fid's names; the names are torchvision's."""
  images = jax.ShapeDtypeStruct((1, 96, 96, 3), jnp.float32)
  variables = jax.eval_shape(
    inception.InceptionV3().init, jax.random.key(0), images
  )
  leaves = {
    "conv/kernel": "conv.weight",
    "bn/scale": "bn.weight",
    "bn/bias": "bn.bias",
    "bn/mean": "bn.running_mean",
    "bn/var": "bn.running_var",
  }
  weights = {}
  for path, value in trees.flatten(variables).items():
    _, *parents, layer, leaf = path.split("/")
    shape = value.shape
    if leaf == "kernel":  # (kh, kw, in, out) -> (out, in, kh, kw)
      shape = (shape[3], shape[2], shape[0], shape[1])
    name = ".".join([*parents, leaves[f"{layer}/{leaf}"]])
    # Of one number each, so that no test moves 90 MB.
    weights[name] = np.broadcast_to(np.float32(0), shape)
  weights["fc.weight"] = np.zeros((1008, 4), np.float32)
  weights["Conv2d_1a_3x3.bn.num_batches_tracked"] = np.zeros((), np.int64)
  return weights


def test_names_are_those_of_pytorch_fid(state_dict):
  assert "Conv2d_1a_3x3.conv.weight" in state_dict
  assert state_dict["Mixed_6b.branch7x7dbl_2.conv.weight"].shape == (
    (128, 128, 7, 1)
  )
  assert state_dict["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (
    (384, 384, 3, 1)
  )
  assert state_dict["Mixed_5b.branch_pool.bn.running_var"].shape == (32,)


def test_kernels_are_turned(state_dict):
  kernel = np.arange(32 * 3 * 9, dtype=np.float32).reshape(32, 3, 3, 3)
  weights = state_dict | {"Conv2d_1a_3x3.conv.weight": kernel}
  params = convert.to_variables(weights)["params"]
  ours = params["Conv2d_1a_3x3"]["conv"]["kernel"]
  np.testing.assert_array_equal(ours[1, 2, 0], kernel[:, 0, 1, 2])


def test_files_of_something_else(state_dict, tmp_path):
  fewer = {k: v for k, v in state_dict.items() if "Mixed_7c" not in k}
  with pytest.raises(ValueError, match=r"lacks .*Mixed_7c"):
    convert.to_variables(fewer)
  other = {"Conv2d_1a_3x3.conv.weight": np.zeros((32, 4, 3, 3), np.float32)}
  with pytest.raises(ValueError, match=r"\(3, 3, 4, 32\) instead of"):
    convert.to_variables(state_dict | other)
  with pytest.raises(ValueError, match="has, but should not, params/x/y"):
    convert.to_variables(state_dict | {"x.y": np.zeros(1)})
  path = tmp_path / "weights.npz"
  path.write_bytes(b"no")
  with pytest.raises(ValueError, match=r"weights\.npz is no npz file"):
    convert.load(str(path))
  np.savez(path, x=np.array([{}], object))
  with pytest.raises(ValueError, match=r"weights\.npz is no npz file"):
    convert.load(str(path))
  # As far as names go, "x" is the beginning of "x.weight".
  np.savez(path, **{"x": np.zeros(1), "x.weight": np.zeros(1)})
  with pytest.raises(
    ValueError,
    match=r"weights\.npz does not hold the network .*has, but should",
  ):
    convert.load(str(path))
  for missing in (tmp_path / "none.pth", tmp_path):
    with pytest.raises(FileNotFoundError, match="is no file; the FID needs"):
      convert.load(str(missing))


def test_reads_both_kinds_of_files(tmp_path):
  arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
  paths = [
    torch_pickles.write_state_dict(tmp_path / "x.pth", arrays),
    torch_pickles.write_legacy_state_dict(tmp_path / "old.pth", arrays),
    str(tmp_path / "x.npz"),
  ]
  np.savez(paths[2], **arrays)
  for path in paths:
    found = convert.read(path)
    np.testing.assert_array_equal(found["a.weight"], arrays["a.weight"])
