"""What is wrong with a run's own files, its numbers, or the disks it reads."""

import errno
import json
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import clevr_object_discovery
from configs import clevr_set_prediction
from slot_attention import checkpoints
from slot_attention import cli
from slot_attention import evaluate
from slot_attention import run_files
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train
from slot_attention import train_step
from slot_attention import writers
from slot_attention.data.records import record_retry


def _config():
  return clevr_set_prediction.get_config("smoke")


def _save(workdir, config, value):
  """Makes a run of two steps, one of whose parameters is a value."""
  task, mesh = tasks.create_task(config), sharding.create_mesh()
  state = train_step.create_state(task, config, mesh)
  kernels, definition = jax.tree.flatten(state.params)
  kernels[0] = jnp.full_like(kernels[0], value)
  state = state.replace(params=definition.unflatten(kernels))
  manager = checkpoints.Checkpoints(str(workdir), config.checkpoint)
  manager.save(2, state)
  manager.close()
  run_files.write_config(str(workdir), config)


@pytest.mark.parametrize("value", [jnp.nan, -jnp.inf])
def test_weights_that_are_not_finite(tmp_path, value):
  _save(tmp_path, _config(), value)
  before = sorted(path.name for path in tmp_path.iterdir())
  with pytest.raises(
    train.DivergedError, match=r"hold NaN or infinity at step 2: .*; there is"
  ):
    train.train_and_evaluate(_config(), str(tmp_path))
  assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_checkpoint_of_another_task(tmp_path):
  _save(tmp_path, _config(), 0.0)
  before = (tmp_path / "config.json").read_text()
  with pytest.raises(
    checkpoints.CheckpointError,
    match=r"step 2 .* does not fit .*another --workdir. \(.*config.task is "
    r"'object_discovery', the run in .* had 'set_prediction'",
  ):
    train.train_and_evaluate(
      clevr_object_discovery.get_config("smoke"), str(tmp_path)
    )
  assert (tmp_path / "config.json").read_text() == before


def test_changed_keys_are_told_one_by_one(tmp_path):
  run_files.write_config(str(tmp_path), _config())
  config = _config()
  assert run_files.config_changes(str(tmp_path), config) == []
  config.train.batch_size = 16
  config.optimizer.learning_rate = 0.5
  assert run_files.config_changes(str(tmp_path), config) == [
    f"config.optimizer.learning_rate is 0.5, the run in {tmp_path} had 0.0004",
    f"config.train.batch_size is 16, the run in {tmp_path} had 8",
  ]


@pytest.mark.parametrize("text", ["", '{"seed": ', "\0" * 40])
def test_config_of_a_run_that_is_damaged(tmp_path, text):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(ValueError, match=r"config.json is damaged .* remove it"):
    evaluate.evaluate(str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
  "config", [clevr_object_discovery, clevr_set_prediction]
)
def test_no_objects_in_any_image(tmp_path, config):
  config = config.get_config("smoke")
  config.data.min_num_objects = config.data.max_num_objects = 0
  config.train.num_steps = 2
  train.train_and_evaluate(config, str(tmp_path))
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  losses = [json.loads(line).get("train/loss", 0) for line in lines]
  assert np.all(np.isfinite(losses))


@pytest.fixture
def waits(monkeypatch):
  slept = []
  monkeypatch.setattr(record_retry.time, "sleep", slept.append)
  return slept


def _reader(number, failures):
  """Returns a function that fails so often, and then reads."""
  left = [OSError(number, "no answer")] * failures

  def read():
    if left:
      raise left.pop()
    return b"content"

  return read


def test_errors_that_pass_are_waited_out(waits, caplog):
  read = _reader(errno.EIO, 3)
  assert record_retry.retry(read, "Record 3 of /x") == b"content"
  assert waits == [0.5, 1, 2]
  assert "Record 3 of /x cannot be read" in caplog.text


def test_errors_that_stay_are_named(waits):
  read = _reader(errno.ESTALE, 100)
  with pytest.raises(OSError, match=r"Record 3 of /x cannot be read, tried 8"):
    record_retry.retry(read, "Record 3 of /x")
  assert waits == list(record_retry.WAITS)


def test_a_missing_file_is_not_waited_for(waits):
  with pytest.raises(OSError, match="no answer"):
    record_retry.retry(_reader(errno.ENOENT, 1), "Record 3 of /x")
  assert waits == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_no_room_for_records(tmp_path):
  writer = writers.Writer(str(tmp_path), 0)
  (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
  with pytest.raises(
    OSError, match=r"Records cannot be .* make room or see to"
  ):
    writer.write_scalars(1, {"train/loss": 1.0})
  writer.close()


def test_tracebacks_of_threads_do_not_hide_the_sentence(capsys):
  for error, is_seen in ((OSError("full"), False), (KeyError("x"), True)):
    arguments = (type(error), error, None)
    thread = threading.Thread(
      target=cli._drop_what_threads_raise, args=arguments
    )
    thread.start()
    thread.join()
    assert bool(capsys.readouterr().err) == is_seen
    cli._drop_what_threads_raise(*arguments)  # Of the main thread.
    assert capsys.readouterr().err
