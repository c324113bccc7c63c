"""Evaluating a run over a grid, and the files it leaves."""

import csv
import json
import pathlib
import subprocess
import sys

from PIL import Image
import pytest

from slot_attention import evaluate
from slot_attention import results

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def workdir(object_discovery_run):
  return str(object_discovery_run.workdir)


def test_plain_call_repeats_the_evaluation_of_training(workdir):
  with open(f"{workdir}/evaluation.json", encoding="utf-8") as f:
    expected = json.load(f)
  found = evaluate.evaluate(workdir)
  assert (found["step"], found["split"]) == (4, expected["split"])
  (row,) = found["results"]
  assert row["num_objects"] == "all" and row["num_examples"] == 12
  for name, value in expected["results"][0].items():
    assert row[name] == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_more_objects_than_in_training(workdir):
  found = evaluate.evaluate(
    workdir, num_slots=[6], num_objects=[4, 6], num_examples=16
  )
  whole, *groups = found["results"]
  assert [row["num_objects"] for row in groups] == [4, 6]
  assert whole["num_examples"] == 16
  assert 0 < sum(row["num_examples"] for row in groups) <= 16
  assert {row["num_slots"] for row in found["results"]} == {6}


def test_batches_can_be_smaller_than_in_the_run(workdir):
  with evaluate.open_run(workdir, batch_size=4) as run:
    _, batch = run.evaluator.examples(run.variables, 8)
  assert len(batch["image"]) == 4


def test_fid_needs_generated_images(workdir):
  with pytest.raises(
    ValueError, match=r"'x\.pth', but .* = object_discovery generates no images"
  ):
    evaluate.evaluate(workdir, inception_weights="x.pth")


def test_files_of_a_grid(workdir, tmp_path):
  output = tmp_path / "grid.json"
  command = [sys.executable, "-m", "slot_attention.evaluate"]
  command += [f"--workdir={workdir}", f"--output={output}"]
  command += [
    "--num_slots=4,6",
    "--num_iterations=1,3",
    "--num_objects=1,...,3",
    "--batch_size=4",
  ]
  subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
  rows = json.loads(output.read_text())["results"]
  assert len(rows) == 2 * 2 * 4
  with open(tmp_path / "grid.csv", encoding="utf-8", newline="") as f:
    table = list(csv.DictReader(f))
  assert list(table[0])[:4] == [*results.GRID, "num_examples"]
  assert "eval/num_examples" not in table[0]
  for row, line in zip(rows, table, strict=True):
    assert line["num_objects"] == str(row["num_objects"])
    for name in results.metrics_of([row]):
      assert float(line[name]) == row[name]
  assert Image.open(tmp_path / "grid.png").size[0] > 1000  # Three columns.


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("5,7,...,21", list(range(5, 22, 2))),
    ("3,...,10", list(range(3, 11))),
    ("7", [7]),
    ("7, 3", [7, 3]),
  ],
)
def test_numbers(text, expected):
  assert evaluate.parse_numbers("num_slots", text.split(",")) == expected
  assert evaluate.parse_numbers("num_slots", []) == []


@pytest.mark.parametrize(
  "text", ["...,3", "3,...", "x", "", "3,3", "0", "1,1,...,3"]
)
def test_no_numbers(text):
  with pytest.raises(ValueError, match=r"--num_slots=.* such as 5,7,11"):
    evaluate.parse_numbers("num_slots", text.split(","))
