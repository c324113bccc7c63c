"""The training loop: same run on any devices, resume, divergence, learning."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import clevr_set_prediction
from slot_attention import checkpoints
from slot_attention import evaluate
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train
from slot_attention import train_step as train_step_lib
from slot_attention.data import pipeline


def _config(**train_values):
  config = clevr_set_prediction.get_config("smoke")
  config.train.update(train_values)
  return config


def _losses(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return {r["step"]: r["train/loss"] for r in records if "train/loss" in r}


def _use_devices(monkeypatch, count):
  devices = jax.devices()[:count]
  monkeypatch.setattr(
    sharding,
    "create_mesh",
    lambda: jax.sharding.Mesh(
      np.asarray(devices),
      ("data",),
      axis_types=(jax.sharding.AxisType.Auto,),
    ),
  )


def test_records_of_a_run(set_prediction_run):
  scalars, workdir = set_prediction_run.scalars, set_prediction_run.workdir
  expected = {
    "eval/loss",
    "eval/ap_inf",
    "eval/ap_1",
    "eval/ap_0.5",
    "eval/ap_0.25",
    "eval/ap_0.125",
    "eval/ap_0.0625",
    "eval/accuracy_all",
    "eval/ari",
    "eval/ari_fg",
    "eval/num_examples",
  }
  assert expected <= scalars.keys()
  assert scalars["eval/num_examples"] == 12
  for name in ("config.json", "metrics.jsonl", "evaluation.json"):
    assert (workdir / name).exists()
  evaluation = json.loads((workdir / "evaluation.json").read_text())
  assert evaluation["step"] == 4
  assert evaluation["results"][0]["eval/loss"] == scalars["eval/loss"]


@pytest.mark.parametrize("num_train", [0, 16])
def test_one_and_four_devices_agree(tmp_path, monkeypatch, num_train):
  config = _config(num_steps=6)
  config.data.procedural.num_train = num_train
  losses = []
  for count in (1, 4):
    _use_devices(monkeypatch, count)
    workdir = tmp_path / str(count)
    train.train_and_evaluate(config, str(workdir))
    losses.append(list(_losses(workdir).values()))
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
  assert len(set(losses[0])) == 6


# batch_norm has running averages to restore besides parameters and optimizer.
@pytest.mark.parametrize(
  "normalization",
  [pytest.param("weighted_mean", marks=pytest.mark.slow), "batch_norm"],
)
def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path, normalization):
  config = _config(num_steps=7)
  config.normalization = normalization
  whole = train.train_and_evaluate(config, str(tmp_path / "whole"))
  config.train.num_steps = 4
  train.train_and_evaluate(config, str(tmp_path / "parts"))
  config.train.num_steps = 7
  parts = train.train_and_evaluate(config, str(tmp_path / "parts"))
  assert _losses(tmp_path / "parts") == _losses(tmp_path / "whole")
  assert parts == whole
  records = (tmp_path / "whole" / "metrics.jsonl").read_text()
  assert train.train_and_evaluate(config, str(tmp_path / "whole")) == whole
  assert (tmp_path / "whole" / "metrics.jsonl").read_text() == records
  again = evaluate.evaluate(str(tmp_path / "whole"))["results"][0]
  np.testing.assert_allclose(again["eval/loss"], whole["eval/loss"], rtol=1e-5)


def test_another_seed_is_another_run(tmp_path, set_prediction_run):
  config = _config(num_steps=1)
  config.seed = 1
  train.train_and_evaluate(config, str(tmp_path))
  assert _losses(tmp_path)[1] != _losses(set_prediction_run.workdir)[1]


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_divergence_names_step_and_checkpoint(tmp_path, monkeypatch, value):
  config = _config(num_steps=8)
  config.checkpoint.every = 2
  original = pipeline.open_source

  def open_source(data, split, *args):
    source = original(data, split, *args)
    if split == "train":
      batches = source.train_batches

      def poisoned(*args):
        for i, batch in enumerate(batches(*args)):
          scale = value if i == 4 else 1.0
          yield batch | {"image": batch["image"] * scale}

      source.train_batches = poisoned
    return source

  monkeypatch.setattr(pipeline, "open_source", open_source)
  with pytest.raises(
    train.DivergedError, match=r"step 5 .*checkpoint is step 4"
  ):
    train.train_and_evaluate(config, str(tmp_path))
  assert max(_losses(tmp_path)) == 4


def _without_warmup(**train_values):
  config = _config(**train_values)
  config.optimizer.warmup_steps = 0
  return config


@pytest.fixture(scope="module")
def start():
  """A batch and a state without slot noise, on the host."""
  config, mesh = _without_warmup(), sharding.create_mesh(1)
  with jax.set_mesh(mesh):
    source = pipeline.open_source(config.data, "train", mesh)
    batch = next(source.train_batches(config.train.batch_size, 0, 0))
    state = train_step_lib.create_state(tasks.create_task(config), config, mesh)
  log_sigma = state.params["initializer"]["log_sigma"]
  state.params["initializer"]["log_sigma"] = jnp.full_like(log_sigma, -30.0)
  return jax.device_get((batch, state))


def _step_outputs(start, config, devices=1):
  """Metrics and parameters after one step of rate 1e-3."""
  batch, state = start
  mesh = sharding.create_mesh(devices)
  with jax.set_mesh(mesh):
    step = train_step_lib.create_train_step(tasks.create_task(config), config)
    state, metrics = jax.jit(step)(
      jax.device_put(state, sharding.replicated(mesh)),
      sharding.shard_batch(batch, mesh),
    )
  metrics, params = jax.device_get((metrics, state.params))
  del params["slot_module"]["iteration"]["norm_slots"]  # Has a null direction.
  return metrics, params


@pytest.fixture(scope="module")
def plain_step(start):
  return _step_outputs(start, _without_warmup())


def _assert_same_step(plain_step, found, atol=1e-6):
  (metrics, params), (other_metrics, other_params) = plain_step, found
  np.testing.assert_allclose(
    metrics["grad_norm"], other_metrics["grad_norm"], rtol=1e-4
  )
  np.testing.assert_allclose(metrics["loss"], other_metrics["loss"], rtol=1e-5)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=atol),
    params,
    other_params,
  )


# Compiling takes longer the more parts there are, and devices.
@pytest.mark.parametrize(("devices", "steps"), [(1, 4), (2, 2)])
def test_accumulation_gives_the_gradient_of_the_whole_batch(
  start, plain_step, devices, steps
):
  config = _without_warmup(accumulation_steps=steps)
  found = _step_outputs(start, config, devices)
  _assert_same_step(plain_step, found, atol=2e-5)


def test_remat_changes_nothing(start, plain_step):
  config = _without_warmup()
  config.model.remat = True
  _assert_same_step(plain_step, _step_outputs(start, config))


def test_scipy_matching_gives_the_same_step_on_four_devices(start, plain_step):
  config = _without_warmup()
  config.model.matching = "scipy"
  found = _step_outputs(start, config, devices=4)
  _assert_same_step(plain_step, found, atol=2e-5)


def test_latest_and_best_checkpoints_are_kept(tmp_path):
  config = _config().checkpoint
  manager = checkpoints.Checkpoints(str(tmp_path), config)
  task = tasks.create_task(_config())
  state = train_step_lib.create_state(task, _config(), sharding.create_mesh())
  for step, score in enumerate([0.1, 0.9, 0.2, 0.3, 0.4]):
    manager.save(step, state, {config.best_metric: score})
  manager.wait()
  assert manager.best_step() == 1
  assert manager.latest_step() == 4
  assert manager.find_step(3) == 3
  with pytest.raises(FileNotFoundError, match=r"has steps \[1, 3, 4\]"):
    manager.find_step(2)
  manager.close()


def test_a_best_metric_that_is_not_reported_is_named(tmp_path, caplog):
  config = _config(num_steps=2)
  config.checkpoint.best_metric = "eval/accuracy"
  train.train_and_evaluate(config, str(tmp_path))
  assert (
    "'eval/accuracy', but this run reports eval/accuracy_all" in caplog.text
  )
