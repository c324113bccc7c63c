"""Statistics over seeds, and runs that are none of one experiment."""

import csv
import json
import pathlib
import statistics
import subprocess
import sys

from PIL import Image
import pytest

from configs import clevr_object_discovery
from slot_attention import aggregate
from slot_attention import run_files

ROOT = pathlib.Path(__file__).parents[1]


def _write(path, seed, rows, split="test", evaluation=True, **config_values):
  """Writes what a run leaves; a row is (slots, objects, ari_fg)."""
  path.mkdir()
  config = clevr_object_discovery.get_config("smoke")
  config.seed = seed
  config.data.data_dir = str(path)
  config.update_from_flattened_dict(config_values)
  run_files.write_config(str(path), config)
  results = [
    {
      "num_slots": slots,
      "num_iterations": 3,
      "num_objects": objects,
      "num_examples": 320,
      "eval/ari_fg": value,
      "eval/mse": 0.01 * (seed + 1),
      "eval/num_examples": 320,
    }
    for slots, objects, value in rows
  ]
  if evaluation:
    result = {"step": 4, "split": split, "results": results}
    run_files.write_json(str(path / "evaluation.json"), result)
  return path


VALUES = [0.95, 0.2, 0.9, 0.97]


@pytest.fixture
def runs(tmp_path):
  return [
    str(_write(tmp_path / f"seed_{i}", i, [(4, "all", value)]))
    for i, value in enumerate(VALUES)
  ]


def test_statistics_by_their_definitions(runs):
  result = aggregate.aggregate(runs, threshold=0.8)
  (row,) = result["results"]
  found = row["eval/ari_fg"]
  assert found["num_runs"] == 4 and row["num_failed"] == 1
  assert found["mean"] == pytest.approx(sum(VALUES) / 4)
  assert found["std"] == pytest.approx(statistics.stdev(VALUES))
  assert found["median"] == pytest.approx(0.925)
  assert found["max_deviation"] == pytest.approx(0.725)
  assert (found["min"], found["max"]) == (0.2, 0.97)
  assert found["values"] == {str(i): v for i, v in enumerate(VALUES)}
  assert row["eval/mse"]["mean"] == pytest.approx(0.025)
  assert "eval/num_examples" not in row
  assert [run["seed"] for run in result["runs"]] == [0, 1, 2, 3]
  assert "num_failed" not in aggregate.aggregate(runs)["results"][0]


def test_patterns_find_runs_once(runs, tmp_path):
  pattern = str(tmp_path / "seed_*")
  assert aggregate.find_runs([pattern, runs[2], runs[0] + "/"]) == runs
  with pytest.raises(FileNotFoundError, match="No run matches '/nowhere"):
    aggregate.find_runs([pattern, "/nowhere/*"])


def test_undefined_values_are_left_out_and_counted():
  found = aggregate.statistics({"0": 0.5, "1": None})
  assert found["num_runs"] == 1 and found["mean"] == 0.5
  assert found["std"] is None and found["max_deviation"] == 0.0
  assert aggregate.statistics({"0": None})["mean"] is None


def test_a_run_without_a_number_has_failed(tmp_path):
  rows = [[(4, "all", value)] for value in (0.0, None, 0.8)]
  paths = [
    str(_write(tmp_path / str(seed), seed, row))
    for seed, row in enumerate(rows)
  ]
  for threshold, failed in ((0.8, 2), (-0.1, 1), (0.9, 3)):
    result = aggregate.aggregate(paths, threshold=threshold)
    assert result["results"][0]["num_failed"] == failed


def test_the_last_evaluation_of_training_where_there_is_no_other(tmp_path):
  path = _write(tmp_path / "0", 0, [], evaluation=False)
  with pytest.raises(FileNotFoundError, match="holds no evaluation; evaluate"):
    aggregate.read_run(str(path))
  lines = [
    {"step": 2, "eval/ari_fg": 0.1, "eval/num_examples": 12},
    {"step": 4, "eval/ari_fg": 0.3, "eval/num_examples": 12},
    {"step": 5, "train/loss": 1.0},
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (path / "metrics.jsonl").write_text(text + '{"step": 6, "eval/a')
  run = aggregate.read_run(str(path))
  assert run.step == 4 and run.source.endswith("metrics.jsonl")
  (row,) = run.rows
  assert row["eval/ari_fg"] == 0.3 and row["num_examples"] == 12
  assert (row["num_slots"], row["num_iterations"]) == (4, 3)
  assert row["num_objects"] == "all"


def test_what_training_writes_is_aggregated_with_what_evaluate_writes(tmp_path):
  plain = _write(tmp_path / "0", 0, [])
  scalars = {"eval/ari_fg": 0.5, "eval/num_examples": 320}
  run_files.write_json(
    str(plain / "evaluation.json"),
    {"step": 4, "split": "test", "results": [scalars]},
  )
  other = _write(tmp_path / "1", 1, [(4, "all", 0.7)])
  result = aggregate.aggregate([str(plain), str(other)])
  assert result["results"][0]["eval/ari_fg"]["mean"] == pytest.approx(0.6)


@pytest.mark.parametrize(
  ("changes", "sentence"),
  [
    ({"normalization": "batch_norm"}, r"config\.normalization is 'weighted_m"),
    ({"model.num_slots": 5}, r"config\.model\.num_slots is 4 .* and 5 in"),
    ({"split": "train_eval"}, "the split is 'test' .* and 'train_eval'"),
    ({"rows": [(5, "all", 0.1)]}, "the grid of num_slots, num_iterations"),
    ({"seed": 0}, "have the same seed 0; leave one"),
  ],
)
def test_refuses_runs_that_are_not_alike(tmp_path, changes, sentence):
  first = _write(tmp_path / "a", 0, [(4, "all", 0.9)])
  values = {"seed": 1, "rows": [(4, "all", 0.9)]} | changes
  second = _write(tmp_path / "b", **values)
  with pytest.raises(ValueError, match=sentence):
    aggregate.aggregate([str(first), str(second)])


def test_an_unknown_metric_is_named(runs):
  with pytest.raises(ValueError, match=r"has no eval/x, .* has eval/ari_fg"):
    aggregate.aggregate(runs, metric="eval/x", threshold=0.5)


def test_command_line_writes_grids_with_a_figure(tmp_path):
  for seed in range(3):
    rows = [(k, "all", 0.1 * k + 0.02 * seed) for k in (4, 6)]
    rows += [(k, n, 0.05 * n + 0.02 * seed) for k in (4, 6) for n in (3, 5)]
    _write(tmp_path / f"seed_{seed}", seed, rows)
  command = [sys.executable, "-m", "slot_attention.aggregate"]
  command += [f"--workdirs={tmp_path}/seed_*", "--threshold=0.43"]
  command += ["--center=median", f"--output={tmp_path / 'all.json'}"]
  run = subprocess.run(
    command, cwd=ROOT, check=False, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stderr
  assert f"seed 2: step 4, from {tmp_path}/seed_2/evaluation.json" in run.stdout
  rows = json.loads((tmp_path / "all.json").read_text())["results"]
  assert [row["num_failed"] for row in rows] == [2, 0, 3, 3, 3, 3]
  with open(tmp_path / "all.csv", encoding="utf-8", newline="") as f:
    table = list(csv.DictReader(f))
  assert len(table) == 2 * len(rows)
  assert float(table[0]["median"]) == pytest.approx(0.42)
  assert float(table[0]["seed 2"]) == pytest.approx(0.44)
  assert Image.open(tmp_path / "all.png").size == (864, 648)
