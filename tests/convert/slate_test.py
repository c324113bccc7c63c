"""State dicts of SLATE's code as runs of ours."""

import json
import pathlib

import jax
import numpy as np
import pytest
import torch_pickles

from configs import coco_slate
import slot_attention
from slot_attention import configuration
from slot_attention import tasks
from slot_attention.convert import conversion
from slot_attention.convert import slate
from slot_attention.convert import trees

DATA = pathlib.Path(__file__).parents[1] / "data"
STATISTICS = json.loads((DATA / "slate_torch_init.json").read_text())
SHAPES = {name: tuple(row[0]) for name, row in STATISTICS["parameters"].items()}
# Sizes of paper B that the smoke config has smaller: width (slots' too), four
# and three times the width, tokens and vocabulary with one more each.
_SMALLER = {192: 8, 768: 32, 576: 24, 577: 17, 4096: 16, 4097: 17}


def _small_state_dict():
  """Random weights of the published names in the smoke config's sizes."""
  rng = np.random.default_rng(0)
  state = {}
  for name, shape in SHAPES.items():
    block = name.removeprefix("tf_dec.blocks.").partition(".")[0]
    if block.isdigit() and int(block) > 0:
      continue
    hidden = name.startswith("slot_attn.slot_attention.mlp.")
    small = [_SMALLER.get(size, size) for size in shape]
    if hidden and name.endswith("mlp.0.weight"):
      small = [16, 8]
    elif hidden and name.endswith("mlp.0.bias"):
      small = [16]
    elif hidden and name.endswith("mlp.2.weight"):
      small = [8, 16]
    state[name] = rng.normal(size=small).astype(np.float32) * 0.1
  return state | {"tf_dec.blocks.0.self_attn_mask": np.ones((4, 4))}


def test_names_and_shapes_are_those_of_paper_bs_model():
  state = {
    name: np.broadcast_to(np.float32(0), shape)
    for name, shape in SHAPES.items()
  }
  variables = slate.to_variables(state)
  task = tasks.create_task(coco_slate.get_config())
  expected = jax.eval_shape(task.init, jax.random.key(0))
  trees.require_same_shapes(variables, expected)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A converted checkpoint, with the weights under "model"."""
  directory = tmp_path_factory.mktemp("slate")
  state = _small_state_dict()
  checkpoint = torch_pickles.write_state_dict(
    str(directory / "checkpoint.pt.tar"),
    {f"model/{name}": value for name, value in state.items()}
    | {"optimizer/lr": np.ones(1)},
  )
  workdir = str(directory / "run")
  conversion.convert(
    "slate", checkpoint, coco_slate.get_config("smoke"), workdir
  )
  return state, workdir


def test_converted_runs_have_the_weights(run):
  state, workdir = run
  predictor = slot_attention.load(workdir)
  params = predictor.variables["params"]
  np.testing.assert_array_equal(
    params["dvae"]["decoder"]["block_0"]["kernel"],
    state["dvae.decoder.0.m.weight"][:, :, 0, 0].T,
  )
  np.testing.assert_array_equal(
    params["dvae"]["decoder"]["block_5"]["conv"]["kernel"][1, 2],
    state["dvae.decoder.6.m.weight"][:, :, 1, 2].T,
  )
  np.testing.assert_array_equal(
    params["decoder"]["blocks_0"]["slot_attention"]["value"]["kernel"],
    state["tf_dec.blocks.0.encoder_decoder_attn.proj_v.weight"].T,
  )
  outputs = predictor(np.zeros((2, 16, 16, 3)), detailed=True)
  assert np.isfinite(outputs["slot_reconstruction"]).all()
  # Their Gumbel temperature has long come down.
  assert predictor.variables["progress"]["images"] > 30_000 * 64


def test_other_names_are_one_sentence():
  with pytest.raises(ValueError, match=r"'dvae.other' is no weight of SLATE"):
    slate.to_params({"dvae.other": np.zeros(1)})


def test_other_files_are_one_sentence(tmp_path):
  path = torch_pickles.write_state_dict(
    str(tmp_path / "other.pt"), {"weight": np.zeros(2)}
  )
  with pytest.raises(ValueError, match=r"0 arrays called 'slot_attn\.slot_mu'"):
    slate.read(path)


def test_other_slot_modules_are_refused():
  config = coco_slate.get_config("slot_mixture,smoke")
  with pytest.raises(configuration.ConfigError, match="leave the key out"):
    conversion.adapt_config(config, "slate")
