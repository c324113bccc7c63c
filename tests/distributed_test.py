"""Two processes of two devices do what one process of four does."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
_PYTHON_DIR = os.path.dirname(sys.executable)


def _environment(devices):
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
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


def test_one_dead_process_ends_the_others(tmp_path):
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
  processes = [
    subprocess.Popen(
      [
        *(sys.executable, "-m", "slot_attention.main"),
        *_flags(tmp_path, "--config.train.num_steps=100000"),
        "--config.eval.every=100000",
        "--config.checkpoint.every=100000",
        f"--coordinator_address=127.0.0.1:{port}",
        "--num_processes=2",
        f"--process_id={i}",
      ],
      cwd=ROOT,
      env=_environment(1),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    for i in range(2)
  ]
  try:
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() or not metrics.read_text():
      assert time.monotonic() < deadline
      assert all(process.poll() is None for process in processes)
      time.sleep(0.2)
    processes[1].kill()
    assert processes[0].wait(timeout=120) != 0
  finally:
    for process in processes:
      process.kill()


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
