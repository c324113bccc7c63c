"""A run that is killed again and again ends as one left alone, bit for bit.

`python tests/oracles/killing.py --output=DIR` does more of this, for a table.
"""

import json
import random
import shutil

import killing
import killing_sources
import power_failure
import pytest
import run_comparison

from slot_attention import writers


def test_killed_while_saving(tmp_path):
  result = killing.survey("cached", tmp_path, ["save"])
  assert result.kills == ["save"]
  assert not result.differences


@pytest.mark.slow
@pytest.mark.parametrize("source", killing_sources.SOURCES)
def test_killed_at_every_kind_of_moment(tmp_path, source):
  result = killing.survey(source, tmp_path, list(killing.MOMENTS))
  assert len(result.kills) >= 3, result
  assert not result.differences


def _run(path, losses, rate=1.0):
  path.mkdir()
  lines = [
    {"step": i + 1, "train/loss": loss, "train/steps_per_second": rate}
    for i, loss in enumerate(losses)
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (path / "metrics.jsonl").write_text(text)
  (path / "evaluation.json").write_text("{}")
  (path / "checkpoints").mkdir()
  return path


def test_the_comparison_sees_what_differs(tmp_path):
  first = _run(tmp_path / "a", [0.5, 0.25])
  same = _run(tmp_path / "b", [0.5, 0.25], rate=2.0)
  assert run_comparison.differences(first, same) == []
  doubled = _run(tmp_path / "c", [0.5, 0.25, 0.25])
  assert run_comparison.differences(first, doubled) == ["metrics.jsonl"]
  shutil.rmtree(same)
  other = _run(same, [0.5, 0.125])
  (other / "evaluation.json").write_text("[]")
  assert run_comparison.differences(first, other) == [
    "metrics.jsonl",
    "evaluation.json",
  ]


@pytest.mark.parametrize("seed", range(5))
def test_a_power_failure_leaves_what_was_synchronised(tmp_path, seed):
  writer = writers.Writer(str(tmp_path), 0)
  for step in range(1, 7):
    writer.write_scalars(step, {"train/loss": step / 2})
  writer.flush()
  for step in (2, 4, "6.orbax-checkpoint-tmp"):
    (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
    (tmp_path / "checkpoints" / str(step) / "array").write_bytes(b"x" * 1000)
  before = {
    path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
  }
  power_failure.damage(tmp_path, random.Random(seed))
  changed = {
    path for path, content in before.items() if path.read_bytes() != content
  }
  assert changed
  assert tmp_path / "checkpoints" / "2" / "array" not in changed
  # A start drops what is later than its checkpoint, torn or not.
  writers.Writer(str(tmp_path), 4).close()
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
  scalars = run_comparison.read_events(tmp_path)["train/loss"]
  assert scalars == [(step, step / 2) for step in range(1, 5)]
