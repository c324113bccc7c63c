"""The benchmark as a command, and of a small config on two of four devices."""

import json
import pathlib
import subprocess
import sys

import jax
import pytest

from configs import tetrominoes_object_discovery
from slot_attention import benchmark
from slot_attention import configuration
from slot_attention import sharding
from slot_attention import train_step
from slot_attention.benchmarking import machine
from slot_attention.benchmarking import steps

ROOT = pathlib.Path(__file__).parents[1]
# As where tensorflow is not installed.
RUN = """
import runpy, sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
runpy.run_module("slot_attention.benchmark", run_name="__main__")
"""


def _config():
  config = tetrominoes_object_discovery.get_config("smoke")
  config.data.procedural.num_train = 0
  config.model.encoder_channels, config.model.encoder_strides = (4,), (1,)
  config.model.decoder_channels, config.model.decoder_strides = (4,), (1,)
  config.model.num_iterations = 1
  # Less to compile.
  for key in ("use_gru", "use_mlp", "use_layer_norm"):
    config.model[key] = False
  config.train.batch_size = config.eval.batch_size = 2
  return config


def _run(*flags):
  return subprocess.run(
    [sys.executable, "-c", RUN, *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )


@pytest.fixture(scope="module")
def result():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(machine, "MATRIX_SIZES", (64,))
    patch.setattr(machine, "COPIED_BYTES", 2**20)
    yield benchmark.measure(
      _config(), num_steps=4, mesh=sharding.create_mesh(2)
    )


def test_everything_is_measured(result):
  assert result["machine"]["num_devices"] == 2
  assert result["machine"]["matrix_rate"]["size"] == 64
  assert result["machine"]["copy_rate"] > 0
  for name in ("train_step", "eval_step"):
    step = result[name]
    assert step["batch_size"] == 2
    for times in (step["seconds"], step["seconds_one_by_one"]):
      assert 0 < times["min"] <= times["median"] <= times["max"]
      assert times["count"] == 4
    seconds = step["seconds"]["median"]
    assert step["images_per_second"] == pytest.approx(2 / seconds)
    assert step["flops_per_second"] == pytest.approx(step["flops"] / seconds)
    share = step["flops_per_second"] / step["matrix_rate"]
    assert 0.2 < step["share_of_matrix_rate"] / share < 5
    assert step["over_floor"] == pytest.approx(seconds / step["floor_seconds"])
    assert step["memory"]["total"] > step["memory"]["temporary"] > 0
    assert step["memory_used"]["process_peak"] > step["memory"]["total"]
    assert step["compile_seconds"] > 0 < step["trace_seconds"]
  # XLA divides over devices, skips what is padding, and adds what is no
  # product; the decoder's first layer costs it less than it is defined to.
  ratio = result["eval_step"]["xla_flops"] / result["eval_step"]["flops"]
  assert 0.2 < ratio < 2
  assert 2 < result["train_step"]["flops"] / result["eval_step"]["flops"] < 3


def test_input_is_compared_with_the_step(result):
  assert result["input"]["source"] == "procedural"
  assert result["input"]["seconds"]["count"] == 4
  assert result["input"]["seconds_together"] > 0
  assert result["input"]["keeps_up"] in (True, False)


def test_tables_of_it(result):
  table, sentence = benchmark.report.tables(result)
  assert "| train step" in table and "| eval step" in table
  assert sentence.startswith("Input (procedural, batch 2): ")
  assert "Measured: " in benchmark.report.describe_machine(result["machine"])
  assert json.loads(json.dumps(result)) == result


def test_the_step_is_that_of_training(result, monkeypatch):
  """Compiled from the same function, and with the state donated."""
  del result  # What it compiled serves here too.
  calls, original = [], train_step.lower_train_step

  def lower(*args):
    calls.append(0)
    return original(*args)

  monkeypatch.setattr(train_step, "lower_train_step", lower)
  mesh = sharding.create_mesh(2)
  with jax.set_mesh(mesh):
    setup = steps.create_setup(_config(), mesh, 1)
    batch = next(steps.open_batches(setup))
    trainer = steps.Trainer(setup, batch)
    before = jax.tree.leaves(trainer.variables)
    trainer.step(batch)
  assert calls == [0]
  assert all(x.is_deleted() for x in before)
  assert int(trainer._state.step) == 1


def test_memory_is_planned_without_data(tmp_path, monkeypatch):
  config = _config()
  config.data.source = "multi_object_datasets"
  config.data.data_dir = str(tmp_path / "nothing")
  monkeypatch.setattr(train_step, "create_state", None)
  compared = [{"batch_size": 2}, {"batch_size": 4, "model.num_slots": 6}]
  mesh = sharding.create_mesh(1)
  small, large = benchmark.plan_memory(config, compared, mesh)
  assert small["variant"] == {
    "batch_size": 2,
    "model.num_slots": 4,
    "precision": "float32",
    "model.remat": False,
  }
  assert large["variant"]["batch_size"] == 4
  assert large["variant"]["model.num_slots"] == 6
  growth = large["memory"]["temporary"] / small["memory"]["temporary"]
  assert 2 < growth < 4
  assert large["flops"] > 2 * small["flops"]


def test_every_variant_is_checked_before_anything_is_compiled():
  with pytest.raises(configuration.ConfigError, match="num_slots is 0"):
    benchmark.plan_memory(
      _config(), [{}, {"model.num_slots": 0}], sharding.create_mesh(1)
    )


def test_what_cannot_be_measured():
  assert benchmark._parse_what(["all"]) == ("train_step", "eval_step", "input")
  assert benchmark._parse_what(["input"]) == ["input"]
  for names in ([], ["speed"], ["input", "memory"]):
    with pytest.raises(
      ValueError, match="one or more of train_step, eval_step"
    ):
      benchmark._parse_what(names)
  with pytest.raises(ValueError, match="list 2 combinations; times are of one"):
    benchmark._require_one([{}, {}])
  for number in (0, 5):
    with pytest.raises(
      ValueError, match=f"{number} devices .* use from 1 to 4"
    ):
      sharding.create_mesh(number)


def test_command_without_tensorflow(tmp_path):
  output, cache = tmp_path / "x.json", tmp_path / "cache" / "programs"
  process = _run(
    "--config=configs/tetrominoes_object_discovery.py:smoke",
    "--what=input",
    "--num_steps=2",
    "--devices=2",
    f"--output={output}",
    f"--compilation_cache={cache}",
  )
  assert process.returncode == 0, process.stderr
  assert "Input (procedural, batch 8): " in process.stdout
  assert f"have been read from {cache}, not compiled." in process.stdout
  written = json.loads(output.read_text())
  assert written["machine"]["num_devices"] == 2
  assert written["input"]["seconds"]["count"] == 2
  assert "keeps_up" not in written["input"]
  assert written["config"]["train.batch_size"] == 8
  assert written["compilation_cache"] == str(cache)
  assert cache.is_dir()


@pytest.mark.parametrize(
  ("flag", "sentence"),
  [
    ("--what=speed", "--what=speed cannot be measured; give one or more of"),
    ("--what=input,memory", "--what=input,memory cannot be measured"),
    ("--devices=5", "5 devices are asked for, but this run sees 4; use from 1"),
    ("--devices=3", "config.train.batch_size is 8; it must be divisible by 3"),
    ("--batch_size=8,16", "The flags list 2 combinations; times are of one"),
    ("--compilation_cache=setup.py", "--compilation_cache=setup.py: "),
  ],
)
@pytest.mark.slow  # Six processes: `pytest -m slow tests/benchmark_test.py`.
def test_bad_flags_of_the_command(flag, sentence):
  config = "--config=configs/tetrominoes_object_discovery.py:smoke"
  process = _run(config, flag)
  assert process.returncode == 1
  (line,) = [x for x in process.stderr.splitlines() if x.startswith("E")]
  assert sentence in line
