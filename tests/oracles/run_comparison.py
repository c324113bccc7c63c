"""Compares what two runs left, bit for bit."""

import json
import pathlib

import numpy as np

_RATE = "train/steps_per_second"  # The only scalar that tells the time.


def differences(first: pathlib.Path, second: pathlib.Path) -> list[str]:
  """Returns the names of what is not the same in two runs."""
  found = []
  for what, read in (
    ("checkpoints", _read_checkpoints),
    ("metrics.jsonl", _read_metrics),
    ("evaluation.json", lambda run: (run / "evaluation.json").read_text()),
    ("TensorBoard", read_events),
  ):
    expected, actual = read(first), read(second)
    if isinstance(expected, dict):
      found += [
        f"{what}: {key}"
        for key in sorted(expected.keys() | actual.keys(), key=str)
        if expected.get(key) != actual.get(key)
      ]
    elif expected != actual:
      found.append(what)
  return found


def _read_checkpoints(run: pathlib.Path) -> dict[str, tuple]:
  """Returns the bytes of every array of every checkpoint that is kept."""
  import jax
  import orbax.checkpoint as ocp

  arrays = {}
  for step in (run / "checkpoints").iterdir():
    state = ocp.StandardCheckpointer().restore(step.absolute() / "state")
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
      array = np.asarray(leaf)
      name = f"{step.name}{jax.tree_util.keystr(path)}"
      arrays[name] = (array.dtype, array.shape, array.tobytes())
    scores = step / "metrics" / "metrics"
    arrays[f"{step.name} score"] = scores.exists() and scores.read_text()
  return arrays


def _read_metrics(run: pathlib.Path) -> list[dict]:
  lines = (run / "metrics.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return [{k: v for k, v in r.items() if k != _RATE} for r in records]


def read_events(run: pathlib.Path) -> dict[str, list]:
  """Returns what TensorBoard shows, by tag: steps, and values or pictures."""
  from tensorboard.backend.event_processing import event_accumulator

  events = event_accumulator.EventAccumulator(
    str(run), size_guidance={"scalars": 0, "images": 0}
  ).Reload()
  tags = events.Tags()
  scalars = {
    tag: [(event.step, event.value) for event in events.Scalars(tag)]
    for tag in tags["scalars"]
  }
  if _RATE in scalars:
    scalars[_RATE] = [(step, None) for step, _ in scalars[_RATE]]
  return scalars | {
    tag: [(e.step, e.encoded_image_string) for e in events.Images(tag)]
    for tag in tags["images"]
  }
