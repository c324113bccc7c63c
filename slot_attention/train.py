"""The one training loop, for all tasks."""

import json
import math
import os
import signal
import threading
import time
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from slot_attention import checkpoints as checkpoints_lib
from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import evaluator as evaluator_lib
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train_state as train_state_lib
from slot_attention import train_step as train_step_lib
from slot_attention import writers
from slot_attention.data import pipeline

CONFIG_FILE = "config.json"
EVALUATION_FILE = "evaluation.json"

# Steps dispatched before the oldest one's metrics are fetched. Enough to keep
# any device busy; more than 16 in flight deadlock several CPU devices.
_STEPS_IN_FLIGHT = 8


class DivergedError(RuntimeError):
  """A loss or gradient is no longer finite; the message is one sentence."""


class InterruptedRun(RuntimeError):
  """The run was told to stop and has saved its state."""


def train_and_evaluate(
  config: ml_collections.ConfigDict, workdir: str
) -> dict[str, float]:
  """Trains, from the newest checkpoint if there is one, to the last step.

  Args:
    config: checked by `config_validation.validate`.
    workdir: directory of the run: config.json, metrics.jsonl, TensorBoard
      events, checkpoints/, evaluation.json.

  Returns:
    The scalars of the last evaluation, called "eval/...".

  Raises:
    DivergedError: loss or gradient became NaN or infinite.
    InterruptedRun: SIGTERM or SIGINT arrived; the state was saved.
  """
  mesh = sharding.create_mesh()
  config_validation.validate(config, mesh.size)
  with jax.set_mesh(mesh):
    run = _Run(config, workdir, mesh)
    try:
      return run.train()
    finally:
      run.close()


class _Run:
  """Everything a run holds: state, sources, writers, checkpoints."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: str,
    mesh: jax.sharding.Mesh,
  ):
    self._config = config
    self._workdir = workdir
    self._mesh = mesh
    self._is_main = jax.process_index() == 0
    self._source = pipeline.open_source(config.data, "train", mesh)
    self._task = tasks.create_task(config)
    self._evaluator = evaluator_lib.Evaluator(
      self._task,
      pipeline.open_source(config.data, config.eval.split, mesh),
      mesh,
      config.eval.batch_size,
      config.eval.num_examples,
    )
    # Only now, so that bad data leaves no empty run behind.
    os.makedirs(workdir, exist_ok=True)
    self._checkpoints = checkpoints_lib.Checkpoints(workdir, config.checkpoint)
    self._state, self._step = self._restore_or_create()
    self._writer = None
    if self._is_main:
      write_config(workdir, config)
      self._writer = writers.Writer(workdir, self._step)
      self._writer.write_hparams(configuration.flatten(config))
    self._stop = _StopSignal()
    self._pending: list[tuple[int, dict[str, jax.Array]]] = []
    self._last_logged: tuple[int, float] | None = None

  def train(self) -> dict[str, float]:
    """Runs the loop; see `train_and_evaluate`."""
    config, num_steps = self._config, self._config.train.num_steps
    batches = self._source.train_batches(
      config.train.batch_size, config.seed, self._step
    )
    step_fn, scalars = None, {}
    while self._step < num_steps:
      batch = next(batches)
      if step_fn is None:
        step_fn = train_step_lib.compile_train_step(
          train_step_lib.create_train_step(self._task, config),
          self._state,
          batch,
        )
        self._last_logged = (self._step, time.monotonic())
      self._state, metrics = step_fn(self._state, batch)
      self._step += 1
      self._pending.append((self._step, metrics))
      self._collect(_STEPS_IN_FLIGHT)
      last = self._step == num_steps
      evaluates = last or self._step % config.eval.every == 0
      if evaluates:
        scalars = self._evaluate()
      if last or self._step % config.checkpoint.every == 0:
        self._save(scalars if evaluates else None)
      if not last:
        self._stop_if_told()
    if not scalars:  # The run was complete and its records are written.
      scalars = self._evaluate(record=False)
    self._write_evaluation(scalars)
    return scalars

  def close(self) -> None:
    """Waits for checkpoints and closes files."""
    self._stop.restore()
    self._checkpoints.close()
    if self._writer:
      self._writer.close()

  def _restore_or_create(self) -> tuple[train_state_lib.TrainState, int]:
    step = self._checkpoints.latest_step()
    if step is None:
      state = train_step_lib.create_state(self._task, self._config, self._mesh)
      return state, 0
    _log_config_changes(self._workdir, self._config)
    abstract = train_step_lib.abstract_state(
      self._task, self._config, self._mesh
    )
    return self._checkpoints.restore(step, abstract), step

  def _collect(self, in_flight: int) -> None:
    """Fetches metrics of all but the newest `in_flight` steps."""
    while len(self._pending) > in_flight:
      step, metrics = self._pending.pop(0)
      metrics = {
        name: float(value) for name, value in sharding.to_host(metrics).items()
      }
      self._require_finite(step, metrics)
      if step % self._config.train.log_every == 0 and self._writer:
        self._log(step, metrics)

  def _require_finite(self, step: int, metrics: dict[str, float]) -> None:
    bad = {k: v for k, v in metrics.items() if not math.isfinite(v)}
    if not bad:
      return
    self._checkpoints.wait()
    good = self._checkpoints.latest_step()
    where = (
      f"the last good checkpoint is step {good} in {self._workdir}"
      if good is not None
      else "there is no checkpoint yet"
    )
    values = ", ".join(f"{name} = {value}" for name, value in bad.items())
    raise DivergedError(
      f"Training diverged at step {step} ({values}, from batch {step - 1}); "
      f"{where}; lower config.optimizer.learning_rate or look at that batch."
    )

  def _log(self, step: int, metrics: dict[str, float]) -> None:
    now = time.monotonic()
    last_step, last_time = self._last_logged
    self._last_logged = (step, now)
    rate = (step - last_step) / max(now - last_time, 1e-9)
    scalars = {f"train/{name}": value for name, value in metrics.items()}
    scalars["train/steps_per_second"] = rate
    self._writer.write_scalars(step, scalars)
    left = (self._config.train.num_steps - step) / rate
    logging.info(
      "%.1f steps/s, %.0f images/s, %s left",
      rate,
      rate * self._config.train.batch_size,
      _duration(left),
    )

  def _evaluate(self, record: bool = True) -> dict[str, float]:
    self._collect(0)
    start = time.monotonic()
    variables = {"params": self._state.params, **self._state.model_state}
    scalars = self._evaluator.evaluate(variables)
    # At first the slots of every run do what these warnings are about.
    if self._step >= self._config.train.num_steps // 10:
      for warning in self._task.warnings(scalars):
        logging.warning("Step %d: %s", self._step, warning)
    scalars = {f"eval/{name}": value for name, value in scalars.items()}
    if not record:
      return scalars
    figures = self._evaluator.figures(variables, self._config.eval.num_figures)
    if self._writer:
      self._writer.write_scalars(self._step, scalars)
      self._writer.write_images(
        self._step, {f"eval/{name}": rows for name, rows in figures.items()}
      )
      self._writer.flush()
    self._pause(time.monotonic() - start)
    return scalars

  def _save(self, scalars: dict[str, float] | None = None) -> None:
    """Saves, after every step so far has proved finite and is on record."""
    self._collect(0)
    start = time.monotonic()
    if self._writer:
      self._writer.flush()
    self._checkpoints.save(self._step, self._state, scalars)
    self._pause(time.monotonic() - start)

  def _pause(self, seconds: float) -> None:
    """Leaves evaluation and saving out of steps_per_second."""
    if self._last_logged:
      step, moment = self._last_logged
      self._last_logged = (step, moment + seconds)

  def _stop_if_told(self) -> None:
    if not (
      self._stop.received or self._checkpoints.reached_preemption(self._step)
    ):
      return
    if self._checkpoints.latest_step() != self._step:
      self._save()
    self._checkpoints.wait()
    raise InterruptedRun(
      f"Stopped by a signal; step {self._step} of "
      f"{self._config.train.num_steps} is saved in {self._workdir}; the same "
      "command goes on from there."
    )

  def _write_evaluation(self, scalars: dict[str, float]) -> None:
    if self._is_main:
      result = {
        "step": self._step,
        "split": self._config.eval.split,
        "results": [scalars],
      }
      write_json(os.path.join(self._workdir, EVALUATION_FILE), result)


class _StopSignal:
  """Remembers SIGTERM and SIGINT; the loop looks between steps.

  With several processes orbax' preemption service does this, so that all of
  them stop at the same step.
  """

  def __init__(self) -> None:
    self.received = False
    self._previous: dict[int, Any] = {}
    if (
      jax.process_count() > 1
      or threading.current_thread() is not threading.main_thread()
    ):
      return
    for number in (signal.SIGTERM, signal.SIGINT):
      self._previous[number] = signal.signal(number, self._receive)

  def restore(self) -> None:
    """Puts the former handlers back."""
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _receive(self, number: int, frame: Any) -> None:
    del frame
    logging.info("Received signal %d; saving after this step.", number)
    self.received = True


def write_json(path: str, value: Any) -> None:
  """Writes JSON whole or not at all; NaN becomes null."""
  _write_text(path, json.dumps(_without_nan(value), indent=2) + "\n")


def _write_text(path: str, text: str) -> None:
  with open(f"{path}.tmp", "w", encoding="utf-8") as f:
    f.write(text)
  os.replace(f"{path}.tmp", path)


def _without_nan(value: Any) -> Any:
  if isinstance(value, dict):
    return {key: _without_nan(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_without_nan(item) for item in value]
  if isinstance(value, (float, np.floating)):
    return float(value) if math.isfinite(value) else None
  return value


def write_config(workdir: str, config: ml_collections.ConfigDict) -> None:
  """Writes the config of a run; `read_config` reads it."""
  _write_text(os.path.join(workdir, CONFIG_FILE), configuration.to_json(config))


def read_config(workdir: str) -> ml_collections.ConfigDict:
  """Reads the config of a run.

  Args:
    workdir: directory of the run.

  Returns:
    The config with which it was trained.

  Raises:
    FileNotFoundError: the directory holds no run.
  """
  path = os.path.join(workdir, CONFIG_FILE)
  if not os.path.exists(path):
    raise FileNotFoundError(
      f"{workdir} holds no run: there is no {CONFIG_FILE} in it; give the "
      "--workdir of a training run."
    )
  with open(path, encoding="utf-8") as f:
    return configuration.from_json(f.read())


def _log_config_changes(
  workdir: str, config: ml_collections.ConfigDict
) -> None:
  old = configuration.flatten(read_config(workdir))
  for key, value in configuration.flatten(config).items():
    if old.get(key) != value:
      logging.warning(
        "config.%s is %r; the checkpoint's run had %r.",
        key,
        value,
        old.get(key),
      )


def _duration(seconds: float) -> str:
  hours, rest = divmod(int(seconds), 3600)
  minutes, seconds = divmod(rest, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}"
