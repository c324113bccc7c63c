"""Records of a run, read back with TensorBoard's own reader."""

import json

import numpy as np
from tensorboard.backend.event_processing import event_accumulator

from slot_attention import writers


def _lines(workdir):
  text = (workdir / writers.METRICS_FILE).read_text()
  return [json.loads(line) for line in text.splitlines()]


def _events(workdir):
  return event_accumulator.EventAccumulator(str(workdir)).Reload()


def test_scalars_images_and_hparams_are_read_back(tmp_path):
  writer = writers.Writer(str(tmp_path), 0)
  writer.write_hparams({"train.batch_size": 8, "data.resolution": (4, 4)})
  writer.write_scalars(1, {"train/loss": 0.5, "eval/ap_inf": float("nan")})
  writer.write_images(1, {"eval/objects": [np.zeros((4, 6, 3), np.uint8)]})
  writer.close()
  assert _lines(tmp_path) == [
    {"step": 1, "train/loss": 0.5, "eval/ap_inf": None}
  ]
  events = _events(tmp_path)
  (point,) = events.Scalars("train/loss")
  assert (point.step, point.value) == (1, 0.5)
  image = events.Images("eval/objects/0")[0]
  assert (image.height, image.width) == (4, 6)
  metadata = events.SummaryMetadata("_hparams_/session_start_info")
  assert metadata.plugin_data.plugin_name == "hparams"
  assert b"train.batch_size" in metadata.plugin_data.content


def test_a_restart_drops_what_it_will_write_again(tmp_path):
  writer = writers.Writer(str(tmp_path), 0)
  for step in (1, 2, 3):
    writer.write_scalars(step, {"train/loss": float(step)})
  writer.close()
  with open(tmp_path / writers.METRICS_FILE, "a") as f:
    f.write('{"step": 4, "train/l')  # A killed process' last line.
  writer = writers.Writer(str(tmp_path), 2)
  writer.write_scalars(3, {"train/loss": 30.0})
  writer.close()
  assert [(x["step"], x["train/loss"]) for x in _lines(tmp_path)] == [
    (1, 1.0),
    (2, 2.0),
    (3, 30.0),
  ]
  steps = [e.step for e in _events(tmp_path).Scalars("train/loss")]
  assert steps == [1, 2, 3]


def test_a_restart_within_a_second_writes_a_file_that_is_read_last(tmp_path):
  seconds = []
  for start in (0, 1):
    before = set(tmp_path.iterdir())
    writers.Writer(str(tmp_path), start).close()
    (path,) = {p for p in tmp_path.iterdir() if "tfevents" in p.name} - before
    seconds.append(path.name.split(".")[3])
  assert seconds[0] < seconds[1]
