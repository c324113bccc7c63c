"""Checkpoints of a run: Orbax, latest ones and the best one."""

import math
import os
from typing import Any

from absl import logging
import jax
import ml_collections
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from slot_attention import train_state as train_state_lib


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
    self._directory = os.path.join(os.path.abspath(workdir), "checkpoints")
    self._score = lambda metrics: sign * metrics["best"]
    # best_fn alone would keep the N best and delete the latest; but without it
    # Orbax does not write the metrics to disk.
    policy = checkpoint_managers.AnyPreservationPolicy(
      [
        checkpoint_managers.LatestN(config.keep),
        checkpoint_managers.BestN(
          get_metric_fn=self._score,
          n=1,
          keep_checkpoints_without_metrics=False,
        ),
      ]
    )
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        best_fn=self._score, preservation_policy=policy, read_only=read_only
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
    self._manager.save(
      step,
      args=ocp.args.Composite(state=ocp.args.StandardSave(state)),
      metrics=None if math.isnan(value) else {"best": value},
      force=True,
    )

  def restore(
    self, step: int, abstract: train_state_lib.TrainState
  ) -> train_state_lib.TrainState:
    """Restores a step.

    Args:
      step: one of the saved steps.
      abstract: ShapeDtypeStructs with the shardings to restore to.

    Returns:
      The state.
    """
    logging.info("Restoring step %d from %s.", step, self._directory)
    restored = self._manager.restore(
      step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
    )
    return restored["state"]

  def restore_variables(
    self, step: int, place: jax.sharding.Sharding
  ) -> dict[str, Any]:
    """Restores the model's variables only, for evaluation.

    Args:
      step: one of the saved steps.
      place: sharding of every array.

    Returns:
      {"params": ..., and other collections}.
    """
    restored = self._manager.restore(
      step, args=ocp.args.Composite(state=ocp.args.StandardRestore())
    )["state"]
    variables = {
      "params": restored["params"],
      **(restored["model_state"] or {}),
    }
    return jax.device_put(variables, place)

  def reached_preemption(self, step: int) -> bool:
    """Tells whether the hosts agreed to stop at this step."""
    return jax.process_count() > 1 and self._manager.reached_preemption(step)

  def wait(self) -> None:
    """Waits until what was saved is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and closes."""
    self._manager.close()


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
    step = manager.find_step(step)
    return step, manager.restore_variables(step, place)
  finally:
    manager.close()
