"""Files of vision transformers: honest, damaged and of other networks."""

import json
import pathlib

import ml_collections
import numpy as np
import pytest
import torch_pickles

from slot_attention import configuration
from slot_attention import features
from slot_attention.convert import timm
from slot_attention.convert import trees
from slot_attention.convert import vit_file

DATA = pathlib.Path(__file__).parents[1] / "data"
ARRAYS = dict(np.load(DATA / "dinosaur_torch_vit.npz"))
STATE_DICT = {
  key.removeprefix("param/"): value
  for key, value in ARRAYS.items()
  if key.startswith("param/")
}
# What timm 0.6.12 lists for vit_base_patch8_224_dino without its head.
PUBLISHED = json.loads(
  (DATA / "vit_base_patch8_224_dino_state_dict.json").read_text()
)


def _config(**kwargs):
  config = ml_collections.ConfigDict()
  config.task = "dinosaur"
  config.model = configuration.get_default().model
  values = {"image_size": 32, "width": 48, "depth": 1, "num_heads": 3}
  config.model.vit.update(values | kwargs)
  return config


def _shapes(**kwargs):
  return features.vit_shapes(_config(**kwargs).model.vit)


def _write_pth(path, arrays):
  items, storages = {}, {}
  for i, (name, value) in enumerate(arrays.items()):
    strides = tuple(s // value.itemsize for s in value.strides)
    items[name] = torch_pickles.tensor(
      "FloatStorage", str(i), value.size, 0, value.shape, strides
    )
    storages[str(i)] = np.ascontiguousarray(value)
  return torch_pickles.write(path, torch_pickles.dictionary(items), storages)


def _write_safetensors(path, header, numbers=b""):
  text = json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, "little") + text + numbers)
  return str(path)


def _assert_same(actual, expected):
  assert actual.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(actual[name], value, err_msg=name)


def test_published_names_and_shapes_are_ours():
  config = configuration.get_default().model.vit
  shapes = trees.flatten(features.vit_shapes(config)["params"])
  zeros = {
    name: np.broadcast_to(np.float32(0), shape)
    for name, shape in PUBLISHED.items()
  }
  variables = timm.to_variables(zeros, features.vit_shapes(config))
  assert {
    path: value.shape
    for path, value in trees.flatten(variables["params"]).items()
  } == {path: shape.shape for path, shape in shapes.items()}
  assert len(shapes) == 150
  assert sum(shape.size for shape in shapes.values()) == 85_807_872


def test_both_kinds_of_files(tmp_path):
  pth = _write_pth(tmp_path / "x.pth", STATE_DICT)
  _assert_same(timm.read(pth), STATE_DICT)
  path = str(tmp_path / "x.safetensors")
  timm.write_safetensors(path, STATE_DICT)
  _assert_same(timm.read(path), STATE_DICT)
  variables = timm.to_variables(timm.read(pth), _shapes())
  _assert_same(timm.to_state_dict(variables), STATE_DICT)


def test_safetensors_as_the_format_has_them(tmp_path):
  numbers = np.arange(3, dtype=np.float16)
  header = {
    "__metadata__": {"format": "pt"},
    "half": {"dtype": "F16", "shape": [3], "data_offsets": [4, 10]},
    "brain": {"dtype": "BF16", "shape": [1, 1], "data_offsets": [0, 2]},
    "scalar": {"dtype": "F16", "shape": [], "data_offsets": [2, 4]},
  }
  bfloat16_one = (0x3F80).to_bytes(2, "little")
  content = bfloat16_one + numbers[2:].tobytes() + numbers.tobytes()
  path = _write_safetensors(tmp_path / "x.safetensors", header, content)
  arrays = timm.read(path)
  assert arrays.keys() == {"half", "brain", "scalar"}
  np.testing.assert_array_equal(arrays["half"], numbers)
  assert arrays["brain"].shape == (1, 1)
  assert float(arrays["brain"][0, 0]) == 1.0
  assert float(arrays["scalar"]) == 2.0


@pytest.mark.parametrize(
  ("entry", "sentence"),
  [
    ({"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}, "as F8_E4M3"),
    ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "needs 8 bytes"),
    ({"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}, "4 to 12 of 8"),
    ({"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}, "-8 to 0"),
  ],
)
def test_damaged_entries(tmp_path, entry, sentence):
  path = _write_safetensors(
    tmp_path / "x.safetensors", {"bad": entry}, bytes(8)
  )
  with pytest.raises(ValueError, match=sentence):
    timm.read(path)


def test_damaged_headers(tmp_path):
  path = tmp_path / "x.safetensors"
  for content, sentence in (
    (b"", "has 0 in all"),
    ((99).to_bytes(8, "little") + b"{}", "should have 99 bytes"),
    ((2).to_bytes(8, "little") + b"{{", "is no JSON"),
  ):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
      timm.read(str(path))


def test_wrong_weights_are_named():
  lacking = dict(STATE_DICT)
  del lacking["blocks.0.attn.qkv.bias"]
  with pytest.raises(ValueError, match=r"lacks blocks\.0\.attn\.qkv\.bias"):
    timm.to_variables(lacking, _shapes())
  other = STATE_DICT | {"blocks.0.ls1.gamma": np.ones(48)}
  with pytest.raises(ValueError, match=r"should not, blocks\.0\.ls1\.gamma"):
    timm.to_variables(other, _shapes())
  with pytest.raises(
    ValueError, match=r"pos_embed .* \(1, 17, 48\).* \(1, 65, 48\)"
  ):
    timm.to_variables(STATE_DICT, _shapes(image_size=64))
  with pytest.raises(
    ValueError, match=r"\.proj\.weight .* \(48, 3, 8, 8\).* \(48, 3, 16, 16\)"
  ):
    timm.to_variables(STATE_DICT, _shapes(patch_size=16, image_size=64))
  headed = STATE_DICT | {"head.weight": np.ones((10, 48))}
  timm.to_variables(headed, _shapes())


def test_a_file_is_rewritten_and_loaded(tmp_path):
  config = _config()
  pth = _write_pth(tmp_path / "x.pth", STATE_DICT)
  path = vit_file.rewrite(pth, config, str(tmp_path / "out"))
  _assert_same(timm.read(path), STATE_DICT)
  config.model.vit.weights = path
  variables = features.load_vit(config.model.vit)
  _assert_same(timm.to_state_dict(variables), STATE_DICT)
  config.task = "object_discovery"
  with pytest.raises(configuration.ConfigError, match="must be dinosaur"):
    vit_file.rewrite(pth, config, str(tmp_path))


def test_weights_that_are_not_there(tmp_path):
  vit = _config().model.vit
  with pytest.raises(configuration.ConfigError, match=r"vit\.weights is ''"):
    features.load_vit(vit)
  vit.weights = str(tmp_path / "none.pth")
  with pytest.raises(FileNotFoundError, match=r"none\.pth.*does not exist"):
    features.load_vit(vit)
