"""A minute of training must teach what a minute can teach."""

import json

import pytest

from configs import clevr_set_prediction
from slot_attention import train


@pytest.mark.slow
def test_two_thousand_steps_learn_attributes(tmp_path):
  config = clevr_set_prediction.get_config("demo")
  config.data.procedural.num_train = 8_000
  config.train.num_steps = 2_000
  config.train.log_every = 100
  config.eval.num_figures = 0
  scalars = train.train_and_evaluate(config, str(tmp_path))
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  losses = [
    record["train/loss"]
    for record in map(json.loads, lines)
    if "train/loss" in record
  ]
  message = f"Losses {losses}, then {scalars}."
  assert losses[-1] < 0.6 * losses[2], message
  # Guessing gives 1/2, 1/2 and 1/8.
  assert scalars["eval/accuracy_size"] > 0.9, message
  assert scalars["eval/accuracy_material"] > 0.7, message
  assert scalars["eval/accuracy_color"] > 0.2, message
