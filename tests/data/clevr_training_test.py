"""A prepared CLEVR directory through training and evaluation."""

import json

import numpy as np
import pytest

from configs import clevr_set_prediction
from slot_attention import evaluate
from slot_attention import train


def _config(clevr_directory):
  config = clevr_set_prediction.get_config("smoke")
  config.data.source = "clevr"
  config.data.data_dir = clevr_directory.data_dir
  config.data.max_num_objects = config.data.num_targets = 10
  config.model.num_slots = 10
  config.eval.num_examples = 0
  return config


def _losses(workdir):
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return [r["train/loss"] for r in records if "train/loss" in r]


def test_train_resume_and_evaluate(tmp_path, clevr_directory):
  config = _config(clevr_directory)
  config.train.num_steps = 6
  scalars = train.train_and_evaluate(config, str(tmp_path / "whole"))
  assert scalars["eval/num_examples"] == 11  # The last batch is not full.
  assert "eval/ari" not in scalars  # CLEVR has no masks.
  for num_steps in (4, 6):
    config.train.num_steps = num_steps
    train.train_and_evaluate(config, str(tmp_path / "parts"))
  assert _losses(tmp_path / "parts") == _losses(tmp_path / "whole")

  workdir = str(tmp_path / "whole")
  again = evaluate.evaluate(workdir)["results"][0]
  np.testing.assert_allclose(again["eval/loss"], scalars["eval/loss"], 1e-5)
  other = evaluate.evaluate(workdir, [12], [5], split="train_eval")
  assert other["results"][0]["eval/num_examples"] == 4
  assert other["results"][0]["num_slots"] == 12


def test_too_many_evaluation_examples_stop_before_training(
  tmp_path, clevr_directory
):
  config = _config(clevr_directory)
  config.eval.num_examples = 12
  with pytest.raises(ValueError, match="only 11 examples"):
    train.train_and_evaluate(config, str(tmp_path))
