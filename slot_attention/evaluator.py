"""Runs a task over a split."""

import functools
from typing import Any

import jax
import numpy as np

from slot_attention import sharding
from slot_attention import train_state as train_state_lib
from slot_attention.data import pipeline
from slot_attention.tasks import base

# Evaluation draws its slots from a stream of its own, the same at every
# evaluation, so that scores of different steps differ by the parameters only.
_EVAL_SEED = 1_000_003


class Evaluator:
  """Evaluates variables on one split; steps are compiled once per (K, T).

  Attributes:
    task: the task.
    source: the split.
  """

  def __init__(
    self,
    task: base.Task,
    source: pipeline.Source,
    mesh: jax.sharding.Mesh,
    batch_size: int,
    num_examples: int,
  ):
    """Binds a task to a split.

    Args:
      task: the task.
      source: the split.
      mesh: all devices.
      batch_size: rows of a global batch.
      num_examples: how many of the first examples; 0 for the whole split.

    Raises:
      ValueError: the split has fewer examples.
    """
    available = source.num_examples
    if available is not None and num_examples > available:
      raise ValueError(
        f"config.eval.num_examples is {num_examples}, but the split has only "
        f"{available} examples; use fewer, or 0 for all."
      )
    self.task = task
    self.source = source
    self._batch_size = batch_size
    self._num_examples = num_examples
    replicated = sharding.replicated(mesh)
    self._eval_step = jax.jit(
      self._run_step, static_argnums=(3, 4), out_shardings=replicated
    )
    self._predict = jax.jit(
      self._run_predict, static_argnums=(2, 3, 4), out_shardings=replicated
    )

  def evaluate(
    self,
    variables: dict[str, Any],
    num_slots: int | None = None,
    num_iterations: int | None = None,
  ) -> dict[str, float]:
    """Returns the task's scalars over the split.

    Args:
      variables: the model's variables.
      num_slots: slots, or None for the configured number.
      num_iterations: iterations, or None for the configured number.

    Returns:
      Scalars by name, and `num_examples`.
    """
    collected: dict[str, list[np.ndarray]] = {}
    for i, batch in enumerate(
      self.source.eval_batches(self._batch_size, self._num_examples)
    ):
      outputs = sharding.to_host(
        self._eval_step(
          variables, batch, np.uint32(i), num_slots, num_iterations
        )
      )
      valid = outputs.pop("valid")
      for name, rows in outputs.items():
        collected.setdefault(name, []).append(rows[valid])
    outputs = {name: np.concatenate(rows) for name, rows in collected.items()}
    count = len(next(iter(outputs.values())))
    return self.task.summarize(outputs) | {"num_examples": count}

  def figures(
    self,
    variables: dict[str, Any],
    count: int,
    num_slots: int | None = None,
    num_iterations: int | None = None,
  ) -> dict[str, list[np.ndarray]]:
    """Draws the split's first `count` examples; see `base.Task.figures`."""
    if not count:
      return {}
    batch = next(self.source.eval_batches(self._batch_size, self._num_examples))
    outputs, batch = sharding.to_host(
      self._predict(variables, batch, count, num_slots, num_iterations)
    )
    valid = batch.pop("valid")
    outputs, batch = jax.tree.map(lambda x: x[valid], (outputs, batch))
    return self.task.figures(outputs, batch)

  def _run_step(
    self,
    variables: dict[str, Any],
    batch: pipeline.Batch,
    number: jax.Array,
    num_slots: int | None,
    num_iterations: int | None,
  ) -> dict[str, jax.Array]:
    rngs = train_state_lib.step_rngs(_EVAL_SEED, number)
    outputs = self.task.eval_step(
      variables, batch, rngs, num_slots, num_iterations
    )
    for name, rows in outputs.items():
      if rows.shape[:1] != batch["valid"].shape:
        raise ValueError(
          f"eval_step returned {name!r} of shape {rows.shape}; it must hold "
          f"one entry per example, {batch['valid'].shape[0]} in all."
        )
    return outputs | {"valid": batch["valid"]}

  def _run_predict(
    self,
    variables: dict[str, Any],
    batch: pipeline.Batch,
    count: int,
    num_slots: int | None,
    num_iterations: int | None,
  ) -> tuple[dict[str, jax.Array], pipeline.Batch]:
    rngs = train_state_lib.step_rngs(_EVAL_SEED, np.uint32(0))
    outputs = self.task.predict(
      variables, batch["image"], rngs, num_slots, num_iterations
    )
    first = functools.partial(jax.tree.map, lambda x: x[:count])
    return first(outputs), first(batch)
