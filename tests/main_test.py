"""The command line as users call it, in processes of their own."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SMOKE = "configs/clevr_set_prediction.py:smoke"


def _command(*args, module="main"):
  return [sys.executable, "-m", f"slot_attention.{module}", *args]


def _environment(devices=1):
  flags = f"--xla_force_host_platform_device_count={devices}"
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",  # The last one counts.
  }


def _run(*args, module="main", **kwargs):
  return subprocess.run(
    _command(*args, module=module),
    cwd=ROOT,
    env=_environment(**kwargs),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


def _metrics(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
  ("args", "sentence"),
  [
    (["--config=nope.py"], "No such file or directory: 'nope.py'"),
    ([f"--config={SMOKE}x"], "no variant 'smokex'; it has demo, smoke"),
    ([f"--config={SMOKE}", "--config.model.num_slotz=3"], '"num_slots"'),
    ([f"--config={SMOKE}", "--config.model.num_slots=x"], "num_slots=x"),
    ([f"--config={SMOKE}", "--config.task=x"], "one of dinosaur, object"),
    ([f"--config={SMOKE}", "--confg=x"], "Did you mean"),
    (
      ["--config=configs/clevr_set_prediction.py", "--config.data.data_dir=/x"],
      "looked for in /x/clevr/3.1.0",
    ),
    ([f"--config={SMOKE}", "--config.train.batch_size=0"], "more than 0"),
    ([], "--config"),
  ],
)
def test_bad_flags_are_one_sentence(tmp_path, args, sentence):
  result = _run(*args, f"--workdir={tmp_path / 'run'}")
  assert result.returncode == 1
  assert sentence in result.stderr
  assert "Traceback" not in result.stderr
  assert not (tmp_path / "run").exists()


def test_run_evaluate_and_visualize(tmp_path):
  result = _run(f"--config={SMOKE}", f"--workdir={tmp_path}")
  assert result.returncode == 0, result.stderr
  for part in ("conv_0/kernel", "GFLOP", "GiB of memory", "left"):
    assert part in result.stderr
  steps = [line["step"] for line in _metrics(tmp_path) if "train/loss" in line]
  assert steps == [1, 2, 3, 4]
  assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0
  before = json.loads((tmp_path / "evaluation.json").read_text())

  result = _run(
    f"--workdir={tmp_path}",
    "--num_slots=4,6",
    "--num_iterations=3,5",
    f"--output={tmp_path / 'grid.json'}",
    module="evaluate",
  )
  assert result.returncode == 0, result.stderr
  grid = json.loads((tmp_path / "grid.json").read_text())["results"]
  assert [(r["num_slots"], r["num_iterations"]) for r in grid] == [
    (4, 3),
    (4, 5),
    (6, 3),
    (6, 5),
  ]
  assert grid[0]["eval/loss"] == pytest.approx(
    before["results"][0]["eval/loss"], rel=1e-5
  )
  assert grid[1]["eval/loss"] != grid[0]["eval/loss"]

  pictures = tmp_path / "pictures"
  result = _run(
    f"--workdir={tmp_path}", f"--output={pictures}", module="visualize"
  )
  assert result.returncode == 0, result.stderr
  assert len(list(pictures.glob("*.png"))) == 4


def test_evaluate_without_a_run_is_one_sentence(tmp_path):
  result = _run(f"--workdir={tmp_path}", module="evaluate")
  assert result.returncode == 1
  assert "holds no run" in result.stderr
  assert "Traceback" not in result.stderr


def test_training_needs_no_tensorflow_on_procedural_data(tmp_path):
  code = (
    "import sys; sys.modules['tensorflow'] = None; "
    "sys.modules['tensorflow_datasets'] = None; "
    "from slot_attention import main; main.run()"
  )
  result = subprocess.run(
    [sys.executable, "-c", code, f"--config={SMOKE}", f"--workdir={tmp_path}"],
    cwd=ROOT,
    env=_environment(),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  assert list(tmp_path.glob("events.out.tfevents.*"))


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path):
  args = [
    f"--config={SMOKE}",
    f"--workdir={tmp_path}",
    "--config.train.num_steps=200000",
    "--config.eval.every=200000",
    "--config.checkpoint.every=200000",
  ]
  process = subprocess.Popen(
    _command(*args),
    cwd=ROOT,
    env=_environment(),
    stderr=subprocess.PIPE,
    text=True,
  )
  metrics = tmp_path / "metrics.jsonl"
  deadline = time.monotonic() + 120
  while not metrics.exists() or len(metrics.read_text().splitlines()) < 5:
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.1)
  process.send_signal(signal.SIGTERM)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 75, errors
  assert "is saved" in errors
  saved = _metrics(tmp_path)[-1]["step"]
  assert saved < 200_000

  args[2] = f"--config.train.num_steps={saved + 3}"
  result = _run(*args)
  assert result.returncode == 0, result.stderr
  assert f"Restoring step {saved}" in result.stderr
  steps = [line["step"] for line in _metrics(tmp_path) if "train/loss" in line]
  assert steps == list(range(1, saved + 4))


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint(tmp_path):
  args = [
    f"--config={SMOKE}",
    f"--workdir={tmp_path}",
    "--config.train.num_steps=200000",
    "--config.eval.every=200000",
    "--config.checkpoint.every=50",
  ]
  process = subprocess.Popen(
    _command(*args), cwd=ROOT, env=_environment(), stderr=subprocess.DEVNULL
  )
  checkpoints = tmp_path / "checkpoints"
  deadline = time.monotonic() + 120
  while not checkpoints.exists() or not list(checkpoints.glob("[0-9]*[0-9]")):
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.05)
  process.kill()
  process.wait()
  saved = max(
    int(path.name) for path in checkpoints.iterdir() if path.name.isdigit()
  )

  args[2] = f"--config.train.num_steps={saved + 20}"
  result = _run(*args)
  assert result.returncode == 0, result.stderr
  steps = [line["step"] for line in _metrics(tmp_path) if "train/loss" in line]
  assert steps == list(range(1, saved + 21))
