"""Records of a run: metrics.jsonl, TensorBoard events and the log.

Events go through TensorBoard's own pure-Python writer, since clu.metric_writers
imports tensorflow, which accelerator images often lack.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import glob
import io
import json
import math
import os
import sys
import time
import types
from typing import Any

from absl import logging
import numpy as np
from PIL import Image

# TensorBoard imports tensorflow where it finds it, which costs seconds at every
# start, unless a module of this name exists: its own switch.
sys.modules.setdefault(
  "tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf")
)
from tensorboard.compat.proto import event_pb2  # noqa: E402
from tensorboard.compat.proto import summary_pb2  # noqa: E402
from tensorboard.plugins.hparams import summary_v2 as hparams  # noqa: E402
from tensorboard.summary.writer import event_file_writer  # noqa: E402

METRICS_FILE = "metrics.jsonl"


class Writer:
  """Writes scalars and figures; only one process of a run should own one."""

  def __init__(self, workdir: str, start_step: int):
    """Opens the files; records later than `start_step` are dropped.

    Args:
      workdir: directory of the run.
      start_step: step from which the run goes on; 0 for a new one.
    """
    self._path = os.path.join(workdir, METRICS_FILE)
    _drop_after(self._path, start_step)
    before = set(_event_files(workdir))
    _wait_for_a_later_name(before)
    self._events = event_file_writer.EventFileWriter(workdir)
    (self._events_path,) = set(_event_files(workdir)) - before
    # TensorBoard forgets what earlier files say of this step and later ones.
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(start_step + 1, session_log=start)

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes one line of metrics.jsonl and one event per scalar."""
    with self._explained(), open(self._path, "a", encoding="utf-8") as f:
      f.write(json.dumps({"step": step, **_finite_or_none(scalars)}) + "\n")
    for name, value in scalars.items():
      # simple_value is what every reader of event files understands.
      point = summary_pb2.Summary.Value(tag=name, simple_value=value)
      self._add(step, summary=summary_pb2.Summary(value=[point]))
    logging.info(
      "step %d: %s",
      step,
      ", ".join(f"{name} {value:.5g}" for name, value in scalars.items()),
    )

  def write_images(
    self, step: int, images: Mapping[str, Sequence[np.ndarray]]
  ) -> None:
    """Writes uint8 [H, W, 3] pictures, each list under its name."""
    for name, pictures in images.items():
      for i, picture in enumerate(pictures):
        self._add(step, summary=_image_summary(f"{name}/{i}", picture))

  def write_hparams(self, hyperparameters: Mapping[str, Any]) -> None:
    """Writes the run's hyper-parameters for TensorBoard's hparams page."""
    values = {
      key: value if isinstance(value, (bool, int, float, str)) else str(value)
      for key, value in hyperparameters.items()
    }
    self._add(0, summary=hparams.hparams_pb(values))

  def flush(self) -> None:
    """Brings everything written so far to disk."""
    with self._explained():
      self._events.flush()
      for path in (self._path, self._events_path):
        if os.path.exists(path):
          with open(path, "rb") as f:
            os.fsync(f.fileno())

  def close(self) -> None:
    """Flushes and closes."""
    self._events.close()

  def _add(self, step: int, **what: Any) -> None:
    event = event_pb2.Event(wall_time=time.time(), step=step, **what)
    with self._explained():  # Also what the thread behind it ran into.
      self._events.add_event(event)

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    """Turns what a full disk raises into a sentence."""
    try:
      yield
    except OSError as error:
      raise OSError(
        f"Records cannot be written to {os.path.dirname(self._path)} "
        f"({error.strerror}); make room or see to the disk, then run the same "
        "command again."
      ) from error


def has_scalars(workdir: str, step: int, prefix: str) -> bool:
  """Returns whether scalars of a step, of names that begin so, are recorded."""
  path = os.path.join(workdir, METRICS_FILE)
  if not os.path.exists(path):
    return False
  with open(path, encoding="utf-8", errors="replace") as f:
    return any(_step_of(line) == step and f'"{prefix}' in line for line in f)


def _event_files(workdir: str) -> list[str]:
  return glob.glob(os.path.join(glob.escape(workdir), "events.out.tfevents.*"))


def _wait_for_a_later_name(paths: Iterable[str]) -> None:
  """Waits for the second after those in the names of event files.

  TensorBoard reads files in the order of their names, which begin with the
  second of their making; within one second the number of the process decides.
  A clock that is far behind, of another machine, is not waited for.
  """
  seconds = [int(os.path.basename(path).split(".")[3]) for path in paths]
  ahead = max(seconds, default=0) + 1 - time.time()
  if 0 < ahead < 2:
    time.sleep(ahead)


def _image_summary(tag: str, picture: np.ndarray) -> summary_pb2.Summary:
  buffer = io.BytesIO()
  Image.fromarray(picture).save(buffer, format="PNG")
  image = summary_pb2.Summary.Image(
    height=picture.shape[0],
    width=picture.shape[1],
    colorspace=3,
    encoded_image_string=buffer.getvalue(),
  )
  return summary_pb2.Summary(
    value=[summary_pb2.Summary.Value(tag=tag, image=image)]
  )


def _finite_or_none(scalars: Mapping[str, float]) -> dict[str, float | None]:
  """JSON has no NaN."""
  return {
    name: value if math.isfinite(value) else None
    for name, value in scalars.items()
  }


def _drop_after(path: str, step: int) -> None:
  """Drops lines of steps that a restarted run will do again."""
  if not os.path.exists(path):
    return
  kept = 0
  with open(path, "rb") as f:
    for line in f:
      if _step_of(line) > step:
        break
      kept += len(line)
  # Steps only grow, so these lines are the last; a full disk allows that, too.
  os.truncate(path, kept)


def _step_of(line: str | bytes) -> float:
  """A line that a killed process left unfinished counts as later than any."""
  try:
    return float(json.loads(line)["step"])
  except (ValueError, KeyError, TypeError):
    return math.inf
