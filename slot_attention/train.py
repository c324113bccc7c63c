"""The one training loop, for all tasks."""

import math
import os
import time
from typing import Any

from absl import logging
import jax
import ml_collections

from slot_attention import checkpoints as checkpoints_lib
from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import evaluator as evaluator_lib
from slot_attention import fingerprints
from slot_attention import optimizers
from slot_attention import run_files
from slot_attention import sharding
from slot_attention import stop_signal
from slot_attention import tasks
from slot_attention import train_state as train_state_lib
from slot_attention import train_step as train_step_lib
from slot_attention import writers
from slot_attention.data import pipeline


class DivergedError(RuntimeError):
  """A loss or gradient is no longer finite; the message is one sentence."""


InterruptedRun = stop_signal.InterruptedRun


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
    DivergedError: loss, gradient or a parameter became NaN or infinite.
    InterruptedRun: SIGTERM or SIGINT arrived; the state was saved.
    checkpoints.CheckpointError: see there.
  """
  mesh = sharding.create_mesh()
  config_validation.validate(config, mesh.size)
  stop = stop_signal.StopSignal()
  try:
    with jax.set_mesh(mesh):
      run = _Run(config, workdir, mesh, stop)
      try:
        scalars = run.train()
      except BaseException:
        run.close_after_error()
        raise
      run.close()
      return scalars
  finally:
    stop.restore()


class _Run:
  """Everything a run holds: state, sources, writers, checkpoints."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: str,
    mesh: jax.sharding.Mesh,
    stop: stop_signal.StopSignal,
  ):
    self._stop = stop
    self._config = config
    self._workdir = workdir
    self._mesh = mesh
    self._is_main = jax.process_index() == 0
    self._source = pipeline.open_source(
      config.data, "train", mesh, config.model.vit
    )
    self._task = tasks.create_task(config)
    self._evaluator = evaluator_lib.Evaluator(
      self._task,
      pipeline.open_source(
        config.data, config.eval.split, mesh, config.model.vit
      ),
      mesh,
      config.eval.batch_size,
      config.eval.num_examples,
    )
    frozen = self._task.load_frozen()
    # Only now, so that bad data leaves no empty run behind.
    os.makedirs(workdir, exist_ok=True)
    self._checkpoints = checkpoints_lib.Checkpoints(workdir, config.checkpoint)
    self._state, self._step = self._restore_or_create(frozen)
    self._writer = None
    if self._is_main:
      run_files.write_config(workdir, config)
      self._writer = writers.Writer(workdir, self._step)
      self._writer.write_hparams(configuration.flatten(config))
    self._pending: list[tuple[int, dict[str, jax.Array]]] = []
    self._last_logged: tuple[int, float] | None = None

  def train(self) -> dict[str, float]:
    """Runs the loop; see `train_and_evaluate`."""
    config, num_steps = self._config, self._config.train.num_steps
    batches = self._source.train_batches(
      config.train.batch_size, config.seed, self._step
    )
    step_fn, scalars = None, self._make_up_for_evaluation()
    while self._step < num_steps:
      batch = next(batches)
      if step_fn is None:
        step_fn = train_step_lib.compile_train_step(
          train_step_lib.create_train_step(self._task, config),
          self._state,
          batch,
        )
        self._last_logged = (self._step, time.monotonic())
        self._stop.begin_training(self._step)
      self._state, metrics = step_fn(self._state, batch)
      self._step += 1
      self._pending.append((self._step, metrics))
      self._collect(train_step_lib.STEPS_IN_FLIGHT)
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
    self._checkpoints.close()
    if self._writer:
      self._writer.close()

  def close_after_error(self) -> None:
    """Closes what can be closed; the error that came first is to be told."""
    try:
      self.close()
    except Exception as error:
      logging.debug("While closing: %s", error)

  def _restore_or_create(
    self, frozen: dict[str, Any]
  ) -> tuple[train_state_lib.TrainState, int]:
    changes = run_files.config_changes(self._workdir, self._config)
    for change in changes:
      logging.warning("%s.", change)
    abstract = train_step_lib.abstract_state(
      self._task, self._config, self._mesh
    )
    try:
      restored = self._checkpoints.restore_newest(abstract)
    except checkpoints_lib.CheckpointError as error:
      what = f" ({'; '.join(changes)})" if changes else ""
      raise checkpoints_lib.CheckpointError(f"{error}{what}") from error
    if restored is None:
      state = train_step_lib.create_state(
        self._task, self._config, self._mesh, frozen
      )
      return state, 0
    step, state = restored
    self._require_finite_parameters(state, step)
    return train_step_lib.with_frozen(state, frozen, self._mesh), step

  def _make_up_for_evaluation(self) -> dict[str, float]:
    """Does the evaluation in which a signal stopped the run before."""
    if not os.path.exists(os.path.join(self._workdir, writers.METRICS_FILE)):
      return {}  # The checkpoint comes from elsewhere.
    due = self._step and (
      self._step % self._config.eval.every == 0
      or self._step == self._config.train.num_steps
    )
    recorded = writers.has_scalars(self._workdir, self._step, "eval/")
    if not due or sharding.all_agree(recorded):
      return {}
    self._stop.begin_training(self._step)
    scalars = self._evaluate()
    # What was saved for the signal's sake has no score.
    self._save(scalars)
    return scalars

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
    values = ", ".join(f"{name} = {value}" for name, value in bad.items())
    raise DivergedError(
      f"Training diverged at step {step} ({values}, from batch {step - 1}); "
      f"{self._last_good()}; lower config.optimizer.learning_rate or look at "
      "that batch."
    )

  def _require_finite_parameters(
    self, state: train_state_lib.TrainState, step: int
  ) -> None:
    """Stops before bad parameters are saved, or trained further."""
    if bad := fingerprints.find_not_finite(state.params):
      raise DivergedError(
        f"Parameters hold NaN or infinity at step {step}: "
        f"{fingerprints.shorten(bad)}; {self._last_good(step)}; lower "
        "config.optimizer.learning_rate, or remove the checkpoint if they were "
        "read from it."
      )

  def _last_good(self, before: int | None = None) -> str:
    """Returns which checkpoint to go back to, as a part of a sentence."""
    self._checkpoints.wait()
    step = self._checkpoints.latest_step()
    if step is None or step == before:
      return "there is no good checkpoint"
    return f"the last good checkpoint is step {step} in {self._workdir}"

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
    scalars = self._evaluator.evaluate(variables, check=self._stop_if_told)
    # At first the slots of every run do what these warnings are about.
    if self._step >= self._config.train.num_steps // 10:
      for warning in self._task.warnings(scalars):
        logging.warning("Step %d: %s", self._step, warning)
    scalars = {f"eval/{name}": value for name, value in scalars.items()}
    if not record:
      return scalars
    opt_state = optimizers.observe_evaluation(
      self._state.opt_state, scalars["eval/loss"], self._config
    )
    self._state = self._state.replace(opt_state=opt_state)
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
    self._require_finite_parameters(self._state, self._step)
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
    if not self._stop.is_told():
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
      run_files.write_json(
        os.path.join(self._workdir, run_files.EVALUATION_FILE), result
      )


def _duration(seconds: float) -> str:
  hours, rest = divmod(int(seconds), 3600)
  minutes, seconds = divmod(rest, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}"
