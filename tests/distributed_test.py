"""Two processes of two devices do what one process of four does."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
_PYTHON_DIR = os.path.dirname(sys.executable)


def _environment(devices):
  flags = f"--xla_force_host_platform_device_count={devices}"
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",  # The last one counts.
    "PATH": f"{_PYTHON_DIR}{os.pathsep}{os.environ['PATH']}",
  }


def _flags(workdir, *more):
  return [
    "--config=configs/clevr_set_prediction.py:smoke",
    f"--workdir={workdir}",
    *more,
  ]


def _records(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  for record in records:
    record.pop("train/steps_per_second", None)
  return records


def _run(command, devices):
  result = subprocess.run(
    command,
    cwd=ROOT,
    env=_environment(devices),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert result.returncode == 0, result.stderr


def test_two_processes_equal_one(tmp_path):
  one, two = tmp_path / "one", tmp_path / "two"
  main = [sys.executable, "-m", "slot_attention.main"]
  _run([*main, *_flags(one)], devices=4)
  _run(["launch/local.sh", "2", *_flags(two)], devices=2)
  for expected, actual in zip(_records(one), _records(two), strict=True):
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
      np.testing.assert_allclose(
        actual[name], value, rtol=1e-4, atol=1e-6, err_msg=name
      )
  # A checkpoint of two processes goes on in one of another number of devices.
  _run([*main, *_flags(two, "--config.train.num_steps=6")], devices=1)
  assert _records(two)[-1]["step"] == 6


def _start_two(workdir):
  """Starts two processes that train for long; returns after some steps."""
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
  processes = []
  for i in range(2):
    with open(workdir / f"process_{i}.log", "w") as log:
      process = subprocess.Popen(
        [
          *(sys.executable, "-m", "slot_attention.main"),
          *_flags(workdir, "--config.train.num_steps=100000"),
          "--config.eval.every=100000",
          "--config.checkpoint.every=100000",
          f"--coordinator_address=127.0.0.1:{port}",
          "--num_processes=2",
          f"--process_id={i}",
        ],
        cwd=ROOT,
        env=_environment(1),
        stdout=log,
        stderr=log,
      )
    processes.append(process)
  metrics = workdir / "metrics.jsonl"
  deadline = time.monotonic() + 300
  while not metrics.exists() or not metrics.read_text():
    assert time.monotonic() < deadline
    assert all(process.poll() is None for process in processes)
    time.sleep(0.2)
  return processes


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_one_dead_process_ends_the_others(tmp_path, victim):
  processes = _start_two(tmp_path)
  try:
    processes[victim].kill()
    assert processes[1 - victim].wait(timeout=60) != 0
  finally:
    for process in processes:
      process.kill()


@pytest.mark.parametrize(
  "number",
  [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_signal_to_one_makes_both_save_the_same_step(tmp_path, number):
  processes = _start_two(tmp_path)
  try:
    processes[1].send_signal(number)
    assert [process.wait(timeout=60) for process in processes] == [75, 75]
  finally:
    for process in processes:
      process.kill()
  steps = []
  for i in range(2):
    log = (tmp_path / f"process_{i}.log").read_text()
    steps += re.findall(r"step (\d+) of 100000 is saved", log)
  assert len(steps) == 2 and steps[0] == steps[1]
  assert os.listdir(tmp_path / "checkpoints") == steps[:1]


@pytest.mark.parametrize("args", [[], ["two"], ["2", "--config=x"]])
def test_launcher_says_what_is_missing(args):
  result = subprocess.run(
    ["launch/local.sh", *args],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 2
  assert "launch/local.sh" in result.stderr
