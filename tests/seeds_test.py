"""launch/seeds.sh: several seeds and their aggregate, with real processes."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
_CONFIG = "--config=configs/tetrominoes_object_discovery.py:smoke"


def _seeds(*arguments):
  python = os.path.dirname(sys.executable)
  return subprocess.run(
    ["launch/seeds.sh", *arguments],
    cwd=ROOT,
    env=os.environ
    | {
      "JAX_PLATFORMS": "cpu",
      "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
    },
    capture_output=True,
    text=True,
    timeout=400,
    check=False,
  )


@pytest.mark.slow
def test_two_seeds_and_their_aggregate(tmp_path):
  result = _seeds("2", _CONFIG, f"--workdir={tmp_path}")
  assert result.returncode == 0, result.stderr
  aggregate = json.loads((tmp_path / "aggregate.json").read_text())
  (row,) = aggregate["results"]
  assert row["num_failed"] == 2  # Four steps bind nothing.
  values = row["eval/mse"]["values"]
  scores = [
    json.loads((tmp_path / f"seed_{seed}" / "evaluation.json").read_text())
    for seed in range(2)
  ]
  expected = [score["results"][0]["eval/mse"] for score in scores]
  np.testing.assert_allclose(list(values.values()), expected)
  assert expected[0] != expected[1]
  np.testing.assert_allclose(row["eval/mse"]["mean"], np.mean(expected))


@pytest.mark.parametrize(
  ("arguments", "sentence"),
  [
    ((_CONFIG, "--workdir=x"), "usage: launch/seeds.sh NUM_SEEDS"),
    (("2", _CONFIG, "--workdir="), "give --workdir=DIR"),
    (("2", _CONFIG, "--config.seed=1", "--workdir=x"), "leave out"),
  ],
)
def test_bad_calls_say_what_is_wrong(arguments, sentence):
  result = _seeds(*arguments)
  assert result.returncode == 2
  assert sentence in result.stderr
