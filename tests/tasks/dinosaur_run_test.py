"""Runs of DINOSAUR: training, checkpoints, loading, figures, bad values."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from configs import movi_c_dinosaur
import slot_attention
from slot_attention import checkpoints
from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import evaluate
from slot_attention import features
from slot_attention import run_files
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train
from slot_attention import train_step as train_step_lib
from slot_attention import visualize
from slot_attention.convert import timm


def _smoke(**kwargs):
  config = movi_c_dinosaur.get_config("smoke")
  config.update(kwargs)
  return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run with weights from a file, stopped in the middle and continued."""
  directory = tmp_path_factory.mktemp("run")
  config = _smoke()
  path = str(directory / "vit.safetensors")
  variables = features.load_vit(config.model.vit)
  timm.write_safetensors(path, timm.to_state_dict(variables))
  config.model.vit.init = "weights"
  config.model.vit.weights = path
  config.train.num_steps = 2
  workdir = str(directory / "run")
  train.train_and_evaluate(config, workdir)
  config.train.num_steps = 4
  return workdir, config, train.train_and_evaluate(config, workdir)


def test_a_run(run):
  workdir, _, scalars = run
  assert scalars["eval/loss"] == scalars["eval/mse"] > 0
  assert 0 <= scalars["eval/miou"] <= scalars["eval/mbo"] <= 1
  for name in ("ari", "ari_fg", "attention_ari", "attention_ari_fg"):
    assert -1 <= scalars[f"eval/{name}"] <= 1
  (row,) = evaluate.evaluate(workdir)["results"]
  assert row["eval/mse"] == pytest.approx(scalars["eval/mse"], rel=1e-5)


def test_random_and_loaded_weights_train_alike(run, tmp_path):
  _, config, scalars = run
  config = _smoke()
  expected = train.train_and_evaluate(config, str(tmp_path))
  assert scalars["eval/mse"] == pytest.approx(expected["eval/mse"], rel=1e-5)


def test_checkpoints_hold_no_frozen_weights(run):
  workdir, config, _ = run
  mesh = sharding.create_mesh()
  _, variables = checkpoints.load_variables(
    workdir, "latest", config.checkpoint, sharding.replicated(mesh)
  )
  assert set(variables) == {"params"}
  state = train_step_lib.abstract_state(tasks.create_task(config), config, mesh)
  assert "frozen" in state.model_state
  moments = jax.tree.leaves(state.opt_state)
  assert len(moments) < 3 * len(jax.tree.leaves(state.params))


def test_a_loaded_run_takes_images(run):
  workdir, _, _ = run
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, 16, 16, 3), np.uint8)
  outputs = slot_attention.load(workdir)(images, None, 5)
  assert outputs["masks"].shape == (2, 5, 8, 8)
  assert outputs["segments"].shape == (2, 32, 32)
  assert outputs["reconstruction"].shape == outputs["features"].shape
  assert outputs["features"].shape == (2, 64, 32)


def test_a_run_whose_transformer_lies_elsewhere(run, tmp_path):
  workdir, config, scalars = run
  moved = tmp_path / "vit.safetensors"
  shutil.copyfile(config.model.vit.weights, moved)
  copy = shutil.copytree(workdir, tmp_path / "run")
  config = config.copy_and_resolve_references()
  config.model.vit.weights = "/gone/vit.safetensors"
  run_files.write_config(str(copy), config)
  sentence = r"'/gone/vit\.safetensors', which does not exist; .*vit_weights"
  with pytest.raises(FileNotFoundError, match=sentence):
    evaluate.evaluate(str(copy))
  with pytest.raises(FileNotFoundError, match=sentence):
    slot_attention.load(str(copy))
  (row,) = evaluate.evaluate(str(copy), vit_weights=str(moved))["results"]
  assert row["eval/mse"] == pytest.approx(scalars["eval/mse"], rel=1e-5)
  images = np.zeros((2, 16, 16, 3), np.uint8)
  expected, found = (
    predictor(images, None, 5)["features"]
    for predictor in (
      slot_attention.load(workdir),
      slot_attention.load(str(copy), vit_weights=str(moved)),
    )
  )
  np.testing.assert_array_equal(found, expected)


def test_figures(run, tmp_path):
  workdir, *_ = run
  with evaluate.open_run(workdir) as opened:
    paths = visualize.draw_run(opened, "title", str(tmp_path), 2)
  names = {pathlib.Path(path).name for path in paths}
  assert {"slots_1.png", "iterations_0.png", "attention_0.png"} <= names
  assert {"scene_0.gif", "index.html"} <= names


def test_precomputed_features_give_the_same_loss_without_a_transformer():
  config = _smoke()
  task = tasks.create_task(config)
  variables = jax.jit(task.init)(jax.random.key(0))
  frozen = task.load_frozen()
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
  rngs = {"slots": jax.random.key(1)}
  loss = jax.jit(task.loss)
  expected, _ = loss(variables | frozen, {"image": images}, rngs)
  vit_variables = {"params": frozen["frozen"]["vit"]}
  rows = features.extract_features(vit_variables, images, config.model.vit)
  config.data.features = "precomputed"
  task = tasks.create_task(config)
  assert not task.load_frozen()
  assert task.load_frozen(needs_images=True)
  actual, _ = jax.jit(task.loss)(variables, {"features": rows}, rngs)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  with pytest.raises(ValueError, match=r"eval\.num_figures=0"):
    task.examples({}, {"features": rows})


def test_missing_weights_leave_no_run_behind(tmp_path):
  config = _smoke()
  config.model.vit.init = "weights"
  with pytest.raises(configuration.ConfigError, match=r"vit\.weights is ''"):
    train.train_and_evaluate(config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("key", "value", "sentence"),
  [
    ("model.vit.patch_size", 5, "a divisor of 32"),
    ("model.vit.num_heads", 3, "a divisor of 32"),
    ("model.vit.init", "zeros", "one of weights, random"),
    ("data.resolution", (16, 24), "a square"),
    ("data.features", "precomputed", "on_the_fly"),
    ("model.stepwise_loss", True, "False with task = dinosaur"),
  ],
)
def test_values_that_cannot_work(key, value, sentence):
  config = _smoke()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(configuration.ConfigError, match=sentence):
    config_validation.validate(config)
