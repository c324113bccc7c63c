"""Checkpoints that are damaged, do not fit, or find no room."""

import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from slot_attention import checkpoint_files
from slot_attention import checkpoints
from slot_attention import sharding
from slot_attention import train_state

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ml_collections.ConfigDict(
  {"keep": 2, "best_metric": "score", "best_mode": "max"}
)
STEPS = (10, 20, 30, 40)  # Of which 10 is the best, 30 and 40 the latest.


def _state(value, devices=1, width=200):
  state = train_state.TrainState(
    step=jnp.int32(value),
    params={"a": {"kernel": jnp.full((300, width), value, jnp.float32)}},
    model_state={"batch_stats": {"mean": jnp.full(3, value, jnp.bfloat16)}},
    opt_state=({"mu": jnp.arange(4.0) + value}, ()),
  )
  mesh = jax.make_mesh(
    (devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  return jax.device_put(state, sharding.replicated(mesh))


def _abstract(state):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )


def _open(workdir, **kwargs):
  return checkpoints.Checkpoints(str(workdir), CONFIG, **kwargs)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("run")
  manager = _open(workdir)
  for step, score in zip(STEPS, (0.5, None, 0.2, 0.1), strict=True):
    manager.save(
      step, _state(step), None if score is None else {"score": score}
    )
  manager.close()
  return workdir


@pytest.fixture
def copy(saved, tmp_path):
  shutil.copytree(saved, tmp_path / "copy")
  return tmp_path / "copy"


def _assert_is(state, step):
  for leaf, expected in zip(
    jax.tree.leaves(state), jax.tree.leaves(_state(step)), strict=True
  ):
    np.testing.assert_array_equal(leaf, expected)


def _largest(directory):
  files = [path for path in directory.rglob("*") if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def _flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 16
  path.write_bytes(content)


DAMAGE = {
  "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
  "flipped": _flip,
  "empty": lambda path: path.write_bytes(b""),
  "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("part", ["state", "fingerprint"])
def test_a_damaged_newest_one_is_named_and_passed_over(copy, how, part, caplog):
  DAMAGE[how](_largest(copy / "checkpoints" / "40" / part))
  manager = _open(copy)
  step, state = manager.restore_newest(_abstract(_state(0)))
  assert step == 30
  _assert_is(state, 30)
  assert re.search("step 40 in .*checkpoints is damaged", caplog.text)
  assert (copy / checkpoint_files.DAMAGED_DIRECTORY / "40.0").is_dir()
  manager.save(40, _state(40))  # Its place is free.
  manager.close()
  manager = _open(copy, read_only=True)
  assert (manager.latest_step(), manager.best_step()) == (40, 10)
  manager.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGE)
def test_damage_to_any_file_is_harmless_or_noticed(saved, tmp_path, how):
  newest = saved / "checkpoints" / "40"
  for path in [path for path in newest.rglob("*") if path.is_file()]:
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(saved, copy)
    damaged = copy / path.relative_to(saved)
    if damaged.stat().st_size:
      DAMAGE[how](damaged)
    manager = _open(copy)
    step, state = manager.restore_newest(_abstract(_state(0)))
    assert step in (30, 40)
    _assert_is(state, step)
    manager.close()


def test_a_reader_passes_over_it_too_and_touches_nothing(copy):
  _flip(_largest(copy / "checkpoints" / "40" / "state"))
  place = sharding.replicated(sharding.create_mesh())
  step, variables = checkpoints.load_variables(
    str(copy), "latest", CONFIG, place
  )
  assert step == 30
  assert variables["params"]["a"]["kernel"][0, 0] == 30
  with pytest.raises(checkpoints.DamagedCheckpointError, match="step 40"):
    checkpoints.load_variables(str(copy), 40, CONFIG, place)
  assert os.listdir(copy) == ["checkpoints"]


def test_nothing_is_left_when_all_are_damaged(copy):
  for step in (10, 30, 40):
    _flip(_largest(copy / "checkpoints" / str(step) / "state"))
  manager = _open(copy)
  with pytest.raises(
    checkpoints.CheckpointError, match=r"All .*\[40, 30, 10\]"
  ):
    manager.restore_newest(_abstract(_state(0)))
  manager.close()
  assert len(os.listdir(copy / "checkpoints")) == 3


def test_a_damaged_score_is_removed(copy, caplog):
  path = copy / "checkpoints" / "30" / "metrics" / "metrics"
  path.write_text('{"best": ')
  with pytest.raises(
    checkpoints.CheckpointError, match=r"is damaged .* remove"
  ):
    _open(copy, read_only=True)
  manager = _open(copy)
  assert "Removing" in caplog.text
  assert manager.best_step() == 10
  manager.close()


@pytest.mark.parametrize(
  ("change", "phrase"),
  [
    (
      lambda state: state.replace(params={"b": state.params["a"]["kernel"]}),
      "its params/a/kernel belongs to another model, it has no params/b",
    ),
    (
      lambda state: _state(0, width=100),
      r"its params/a/kernel is float32 \[300, 200\], not float32 \[300, 100\]",
    ),
  ],
)
def test_checkpoint_of_another_model(saved, change, phrase):
  manager = _open(saved)
  with pytest.raises(checkpoints.CheckpointError, match=phrase):
    manager.restore_newest(_abstract(change(_state(0))))
  manager.close()


@pytest.mark.parametrize("devices", [2, 4])
def test_restores_on_other_devices(saved, devices):
  manager = _open(saved)
  step, state = manager.restore_newest(_abstract(_state(0, devices)))
  assert (step, state.params["a"]["kernel"].sharding.num_devices) == (
    40,
    devices,
  )
  _assert_is(state, 40)
  manager.close()


def test_a_score_is_added_later(copy):
  manager = _open(copy)
  manager.save(40, _state(41), {"score": 0.9})
  manager.close()
  manager = _open(copy)
  assert manager.best_step() == 40
  _assert_is(manager.restore(40, _abstract(_state(0))), 41)
  manager.close()
  assert os.listdir(copy) == ["checkpoints"]


def test_what_could_not_be_replaced_is_put_back(copy):
  checkpoint_files.begin_replacing(copy / "checkpoints", 40)
  manager = _open(copy)
  assert manager.latest_step() == 40
  manager.close()
  assert os.listdir(copy) == ["checkpoints"]


# What any file may grow to stands for a disk without room: writing beyond it
# fails as on a full one, by another number.
_FULL = """
import json, resource, signal, sys
sys.path.insert(0, "tests")
import checkpoints_test as test
manager = test._open(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
try:
  manager.save(50, test._state(50).replace(params={"a": test.noise()}))
  manager.wait()
except test.checkpoints.CheckpointError as error:
  print(json.dumps(str(error)))
"""


def noise():
  values = np.random.default_rng(0).normal(size=10_000)
  return jnp.asarray(values, jnp.float32)


def _run_until_full(workdir):
  process = subprocess.run(
    [sys.executable, "-c", _FULL, str(workdir)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  return json.loads(process.stdout.splitlines()[-1])


def test_no_room_for_a_checkpoint(copy):
  sentence = _run_until_full(copy)
  assert re.search("step 50 finds no room in .*; the newest good", sentence)
  assert re.search("is of step 40; make room and run the same", sentence)
  assert sorted(os.listdir(copy / "checkpoints")) == ["10", "30", "40"]
  manager = _open(copy)
  step, state = manager.restore_newest(_abstract(_state(0)))
  assert step == 40
  _assert_is(state, 40)
  manager.close()


def test_random_damage_in_the_middle_of_arrays_is_found(saved, tmp_path):
  rng = random.Random(0)
  for _ in range(3):
    copy = tmp_path / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(saved, copy)
    path = _largest(copy / "checkpoints" / "40" / "state")
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    manager = _open(copy)
    step, state = manager.restore_newest(_abstract(_state(0)))
    _assert_is(state, step)
    manager.close()
