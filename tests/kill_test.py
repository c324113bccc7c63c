"""A run that is killed again and again ends as one left alone, bit for bit.

`python tests/oracles/killing.py --output=DIR` does more of this, for a table.
"""

import json
import shutil

import killing
import pytest
import run_comparison


def test_killed_while_saving(tmp_path):
  result = killing.survey("cached", tmp_path, ["save"])
  assert result.kills == ["save"]
  assert not result.differences


@pytest.mark.slow
@pytest.mark.parametrize("source", killing.SOURCES)
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
