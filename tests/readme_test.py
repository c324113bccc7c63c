"""What README says to write works as it stands there."""

import pathlib
import re

import numpy as np

from configs import clevr_object_discovery
from slot_attention import evaluate
from slot_attention import train
from slot_attention.tasks import slots as slots_lib

ROOT = pathlib.Path(__file__).parents[1]


def _code_with(words: str) -> str:
  """Returns README's Python block that holds the words."""
  text = (ROOT / "README.md").read_text(encoding="utf-8")
  blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
  (block,) = [block for block in blocks if words in block]
  return block


def test_a_slot_module_of_ones_own(tmp_path, monkeypatch):
  code = _code_with("class MeanShift")
  assert len([line for line in code.splitlines() if line.strip()]) <= 15
  namespace = {}
  exec(compile(code, "README.md", "exec"), namespace)
  monkeypatch.setitem(
    slots_lib.SLOT_MODULES, "mean_shift", lambda _: namespace["MeanShift"]()
  )
  config = clevr_object_discovery.get_config("smoke")
  config.slot_module = "mean_shift"
  config.train.num_steps = 2
  config.eval.num_figures = 1
  scalars = train.train_and_evaluate(config, str(tmp_path))
  assert np.isfinite(scalars["eval/loss"])
  result = evaluate.evaluate(str(tmp_path), num_slots=[2, 5])
  assert [row["num_slots"] for row in result["results"]] == [2, 5]


def test_a_config_of_ones_own():
  namespace = {}
  exec(_code_with("config.model.num_iterations = 5"), namespace)
  assert namespace["get_config"]().model.num_iterations == 5
