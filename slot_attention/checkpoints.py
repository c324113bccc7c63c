"""Checkpoints of a run: Orbax, latest ones and the best one."""

from collections.abc import Callable, Iterator
import contextlib
import math
import pathlib
from typing import Any

from absl import logging
import jax
import ml_collections
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from slot_attention import checkpoint_files
from slot_attention import fingerprints
from slot_attention import sharding
from slot_attention import train_state as train_state_lib

# Where a run keeps them.
DIRECTORY = "checkpoints"
CheckpointError = checkpoint_files.CheckpointError
DamagedCheckpointError = checkpoint_files.DamagedCheckpointError


class Checkpoints:
  """Saves and restores `TrainState` under `workdir/checkpoints`.

  The position in the data is the step itself, so nothing else needs saving.
  """

  def __init__(
    self,
    workdir: str,
    config: ml_collections.ConfigDict,
    read_only: bool = False,
  ):
    """Opens the directory.

    Args:
      workdir: directory of the run.
      config: `config.checkpoint` of the run.
      read_only: touch nothing, such as the unfinished save of a live run.
    """
    self._metric = config.best_metric
    sign = 1.0 if config.best_mode == "max" else -1.0
    self._directory = pathlib.Path(workdir).absolute() / DIRECTORY
    self._score = lambda metrics: sign * metrics["best"]
    self._keep, self._read_only = config.keep, read_only
    self._saving: int | None = None
    if self._is_writer():
      checkpoint_files.finish_replacing(self._directory)
    if not read_only:
      sharding.all_agree(True)  # Nobody looks before.
    checkpoint_files.check_scores(self._directory, remove=not read_only)
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    # best_fn alone would keep the N best and delete the latest; but without it
    # Orbax does not write the metrics to disk.
    policy = checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(self._keep),
        checkpoint_managers.BestN(
          get_metric_fn=self._score,
          n=1,
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    return ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        best_fn=self._score,
        preservation_policy=policy,
        read_only=self._read_only,
        # What a killed process was writing.
        cleanup_tmp_directories=not self._read_only,
      ),
    )

  def latest_step(self) -> int | None:
    """Returns the step of the newest checkpoint, or None without any."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """Returns the step of the best checkpoint, or None if none was scored."""
    return self._manager.best_step()

  def find_step(self, step: int | str) -> int:
    """Returns the step that "latest", "best" or a number means.

    Raises:
      FileNotFoundError: there is no such checkpoint.
    """
    steps = list(self._manager.all_steps())
    if step == "latest":
      found = self.latest_step()
    elif step == "best":
      found = self.best_step()
    else:
      found = int(step) if str(step).isdigit() else None
    if found not in steps:
      raise FileNotFoundError(
        f"{self._directory} has no checkpoint {step!r}; it has steps {steps}."
      )
    return found

  def save(
    self,
    step: int,
    state: train_state_lib.TrainState,
    scalars: dict[str, float] | None = None,
  ) -> None:
    """Saves in the background.

    Args:
      step: updates done.
      state: of that step.
      scalars: this step's evaluation, if there was one; decides which
        checkpoint is the best.
    """
    if scalars and self._metric not in scalars:
      logging.warning(
        "No best checkpoint is kept: config.checkpoint.best_metric is %r, but "
        "this run reports %s.",
        self._metric,
        ", ".join(sorted(scalars)),
      )
    value = (scalars or {}).get(self._metric, math.nan)
    self.wait()
    self._secure()
    state = _without_frozen(state)
    fingerprint = fingerprints.seal(fingerprints.describe(state))
    with self._explained(step):
      self._replace(step)
      self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          **{checkpoint_files.FINGERPRINT: ocp.args.JsonSave(fingerprint)},
        ),
        metrics=None if math.isnan(value) else {"best": value},
        force=True,
      )
    self._saving = step

  def restore_newest(
    self, abstract: train_state_lib.TrainState
  ) -> tuple[int, train_state_lib.TrainState] | None:
    """Restores the newest checkpoint that is as it was saved.

    Damaged ones that are newer are named and moved to DAMAGED_DIRECTORY.

    Args:
      abstract: ShapeDtypeStructs with the shardings to restore to.

    Returns:
      Step and state without what is frozen, or None if nothing was saved.

    Raises:
      CheckpointError: the newest one is of another model, or all are damaged.
    """
    return self._newest(lambda step: self.restore(step, abstract))

  def restore_newest_variables(
    self, place: jax.sharding.Sharding
  ) -> tuple[int, dict[str, Any]] | None:
    """Restores the model's variables only, as `restore_newest` does."""
    return self._newest(lambda step: self.restore_variables(step, place))

  def restore(
    self, step: int, abstract: train_state_lib.TrainState
  ) -> train_state_lib.TrainState:
    """Restores a step.

    Args:
      step: one of the saved steps.
      abstract: ShapeDtypeStructs with the shardings to restore to.

    Returns:
      The state, without what is frozen.

    Raises:
      DamagedCheckpointError: it is not what was saved.
      CheckpointError: it is of another model.
    """
    abstract = _without_frozen(abstract)
    logging.info("Restoring step %d from %s.", step, self._directory)
    saved = checkpoint_files.read_fingerprint(self._directory, step)
    misfits = fingerprints.find_misfits(saved, abstract) if saved else []
    if misfits:
      raise CheckpointError(
        f"The checkpoint of step {step} in {self._directory} does not fit this "
        f"config: {fingerprints.shorten(misfits)}; use the config it was "
        "trained with, or another --workdir."
      )
    return self._read(step, saved, ocp.args.StandardRestore(abstract))

  def restore_variables(
    self, step: int, place: jax.sharding.Sharding
  ) -> dict[str, Any]:
    """Restores the model's variables only, for evaluation.

    Args:
      step: one of the saved steps.
      place: sharding of every array.

    Returns:
      {"params": ..., and other collections}.

    Raises:
      DamagedCheckpointError: it is not what was saved.
    """
    saved = checkpoint_files.read_fingerprint(self._directory, step)
    restored = self._read(step, saved, ocp.args.StandardRestore())
    variables = {
      "params": restored["params"],
      **(restored["model_state"] or {}),
    }
    return jax.device_put(variables, place)

  def wait(self) -> None:
    """Waits until what was saved is on disk.

    Raises:
      CheckpointError: it could not be written.
    """
    with self._explained(self._saving):
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and closes."""
    with self._explained(self._saving):
      self._manager.close()
    if self._is_writer():
      checkpoint_files.finish_replacing(self._directory)

  def _newest(self, restore: Callable[[int], Any]) -> tuple[int, Any] | None:
    """Returns the newest step that can be restored, and what was."""
    damaged: list[int] = []
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        restored = restore(step)
      except DamagedCheckpointError as error:
        logging.error("%s", error)
        restored = None
      # All processes go on from the same one.
      if sharding.all_agree(restored is not None):
        if damaged and not self._read_only:
          self._set_aside(damaged)
        return step, restored
      damaged.append(step)
    if damaged:
      raise CheckpointError(
        f"All checkpoints in {self._directory}, of steps {damaged}, are "
        "damaged; put copies in their place, or train in another --workdir."
      )
    return None

  def _read(
    self,
    step: int,
    saved: fingerprints.Fingerprint | None,
    what: ocp.args.StandardRestore,
  ) -> Any:
    """Restores a step and compares it with its fingerprint."""
    try:
      restored = self._manager.restore(
        step, args=ocp.args.Composite(state=what)
      )["state"]
    # Damage shows as anything that tensorstore, json and Orbax can raise.
    except Exception as error:
      reason = checkpoint_files.reason_of(error)
      raise DamagedCheckpointError(self._directory, step, reason) from error
    changed = fingerprints.find_damage(saved, restored) if saved else []
    if changed:
      reason = f"{fingerprints.shorten(changed)} changed"
      raise DamagedCheckpointError(self._directory, step, reason)
    return restored

  def _is_writer(self) -> bool:
    return not self._read_only and jax.process_index() == 0

  def _secure(self) -> None:
    """Brings the newest checkpoint to disk before older ones are deleted.

    So a power failure can only damage the one that is being written.
    """
    step = self.latest_step()
    if step is not None and self._is_writer():
      checkpoint_files.finish_replacing(self._directory)
      checkpoint_files.sync(self._directory / str(step))

  def _replace(self, step: int) -> None:
    """Makes room for a step that was saved before, without its score."""
    if step not in self._manager.all_steps():
      return
    if self._is_writer():
      checkpoint_files.begin_replacing(self._directory, step)
    sharding.all_agree(True)
    self._manager.reload()

  def _set_aside(self, steps: list[int]) -> None:
    if self._is_writer():
      checkpoint_files.set_aside(self._directory, steps)
    sharding.all_agree(True)  # Nobody looks before they are gone.
    self._manager.close()
    self._manager = self._open()

  @contextlib.contextmanager
  def _explained(self, step: int | None) -> Iterator[None]:
    """Turns whatever saving raises into a sentence, and removes its rest."""
    try:
      yield
    except Exception as error:
      full = checkpoint_files.is_out_of_room(error)
      checkpoint_files.remove_unfinished(self._directory)
      good = [x for x in self._manager.all_steps(read=True) if x != step]
      newest = (
        f"the newest good one is of step {max(good)}"
        if good
        else ("there is none yet")
      )
      what, advice = "cannot be written to", "run"
      if full:
        what, advice = "finds no room in", "make room and run"
      raise CheckpointError(
        f"The checkpoint of step {step} {what} {self._directory} "
        f"({checkpoint_files.reason_of(error)}); {newest}; {advice} the same "
        "command again."
      ) from error


def _without_frozen(
  state: train_state_lib.TrainState,
) -> train_state_lib.TrainState:
  """Leaves out what comes from a file of its own, such as a large network."""
  model_state = dict(state.model_state)
  if model_state.pop(train_state_lib.FROZEN, None) is None:
    return state
  return state.replace(model_state=model_state)


def load_variables(
  workdir: str,
  step: int | str,
  config: ml_collections.ConfigDict,
  place: jax.sharding.Sharding,
) -> tuple[int, dict[str, Any]]:
  """Loads the model's variables of a finished or running run.

  Args:
    workdir: directory of the run.
    step: "latest", "best", or the step of a checkpoint.
    config: `config.checkpoint` of the run.
    place: sharding of every array.

  Returns:
    The step, and {"params": ..., other collections}.

  Raises:
    FileNotFoundError: the run has no such checkpoint.
  """
  manager = Checkpoints(workdir, config, read_only=True)
  try:
    found = manager.find_step(step)
    if step != "latest":
      return found, manager.restore_variables(found, place)
    return manager.restore_newest_variables(place)
  finally:
    manager.close()
