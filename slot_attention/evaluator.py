"""Runs a task over a split."""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax
import numpy as np

from slot_attention import sharding
from slot_attention import train_state as train_state_lib
from slot_attention.data import pipeline
from slot_attention.metrics import fid
from slot_attention.tasks import base

# Evaluation draws its slots from a stream of its own, the same at every
# evaluation, so that scores of different steps differ by the parameters only.
_EVAL_SEED = 1_000_003

ALL = "all"  # Images of any number of objects.
_NUM_OBJECTS = "num_objects"
_KEPT = ("valid", _NUM_OBJECTS)  # Of the batch, beside what the task returns.

Setting = tuple[int | None, int | None]  # num_slots, num_iterations.
Collected = dict[str, list[np.ndarray]]


class Evaluator:
  """Evaluates variables on one split; a step is compiled once per setting.

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
    self._mesh = mesh
    self._batch_size = batch_size
    self._num_examples = num_examples
    replicated, batched = sharding.replicated(mesh), sharding.batched(mesh)
    self._encode = jax.jit(task.encode, out_shardings=batched)
    self._eval_step = jax.jit(
      self._run_step, static_argnums=(4, 5), out_shardings=(replicated, batched)
    )
    self._predict = jax.jit(
      self._run_predict, static_argnums=(2, 3, 4), out_shardings=replicated
    )

  def evaluate(
    self,
    variables: dict[str, Any],
    num_slots: int | None = None,
    num_iterations: int | None = None,
    check: Callable[[], None] | None = None,
  ) -> dict[str, float]:
    """Returns the task's scalars over the split.

    Args:
      variables: the model's variables.
      num_slots: slots, or None for the configured number.
      num_iterations: iterations, or None for the configured number.
      check: called after each batch; may raise.

    Returns:
      Scalars by name, and `num_examples`.
    """
    settings = [(num_slots, num_iterations)]
    (result,) = self.evaluate_grid(variables, settings, check=check)
    return result[ALL]

  def evaluate_grid(
    self,
    variables: dict[str, Any],
    settings: Sequence[Setting],
    num_objects: Sequence[int] = (),
    check: Callable[[], None] | None = None,
    distance: fid.FrechetInceptionDistance | None = None,
  ) -> list[dict[int | str, dict[str, float]]]:
    """Evaluates several numbers of slots and iterations in one pass.

    Images are encoded once, whatever the number of settings, and every setting
    starts from the same slots as when it is evaluated alone.

    Args:
      variables: the model's variables.
      settings: pairs of slots and iterations; None for a configured number.
      num_objects: counts of visible objects; images of each are summarized on
        their own besides.
      check: called after each batch; may raise.
      distance: without images yet, of a set for each setting; takes the split's
        images and those that the task generates of them.

    Returns:
      For every setting, scalars with `num_examples` by number of objects: "all"
      for all images, then each of `num_objects`. Where there is no image,
      `num_examples` stands alone. A distance is `fid`, of all images only.
    """
    collected: list[Collected] = [{} for _ in settings]
    for i, batch in enumerate(
      self.source.eval_batches(self._batch_size, self._num_examples)
    ):
      inputs, generated = self._encode(variables, self.task.observed(batch)), []
      for rows, setting in zip(collected, settings, strict=True):
        outputs, images = self._eval_step(
          variables, batch, inputs, np.uint32(i), *setting
        )
        outputs = sharding.to_host(outputs)
        valid = outputs.pop("valid")
        for name, values in outputs.items():
          rows.setdefault(name, []).append(values[valid])
        generated.append(images)
      if distance:
        distance.update(batch["image"], generated, valid)
      if check:
        check()
    results = [self._summarize(rows, num_objects) for rows in collected]
    if distance:
      for groups, value in zip(results, distance.results(), strict=True):
        groups[ALL]["fid"] = value
    return results

  def lower(
    self, variables: dict[str, Any], batch: pipeline.Batch
  ) -> tuple[jax.stages.Lowered, jax.stages.Lowered]:
    """Traces what `evaluate` runs on each batch, to be measured.

    Args:
      variables: the model's variables, arrays or shapes.
      batch: with `valid`, arrays or shapes.

    Returns:
      To be compiled: (variables, observed) -> inputs, and (variables, batch,
      inputs, number) -> per-example arrays and generated images, if any, of
      the configured slots and iterations.
    """
    observed, place = self.task.observed(batch), sharding.batched(self._mesh)
    inputs = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
      jax.eval_shape(self._encode, variables, observed),
    )
    step = self._eval_step.lower(
      variables, batch, inputs, np.uint32(0), None, None
    )
    return self._encode.lower(variables, observed), step

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
    return self.task.figures(
      *self.examples(variables, count, num_slots, num_iterations)
    )

  def examples(
    self,
    variables: dict[str, Any],
    count: int,
    num_slots: int | None = None,
    num_iterations: int | None = None,
  ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns `base.Task.figure_outputs` and the batch of the first examples.

    Args:
      variables: the model's variables.
      count: how many examples, at most a batch.
      num_slots: slots, or None for the configured number.
      num_iterations: iterations, or None for the configured number.

    Returns:
      Outputs and batch, arrays [count, ...] by name; the slots are those that
      `evaluate` starts from.
    """
    batch = next(self.source.eval_batches(self._batch_size, self._num_examples))
    outputs, batch = sharding.to_host(
      self._predict(variables, batch, count, num_slots, num_iterations)
    )
    valid = batch.pop("valid")
    return jax.tree.map(lambda x: x[valid], (outputs, batch))

  def _summarize(
    self, collected: Collected, num_objects: Sequence[int]
  ) -> dict[int | str, dict[str, float]]:
    outputs = {name: np.concatenate(rows) for name, rows in collected.items()}
    present = outputs.pop(_NUM_OBJECTS, None)
    if num_objects and present is None:
      raise ValueError(
        "Images cannot be grouped by their number of objects: the data has no "
        "num_objects; evaluate without --num_objects."
      )
    groups = {ALL: slice(None)} | {n: present == n for n in num_objects}
    return {name: self._scalars(outputs, rows) for name, rows in groups.items()}

  def _scalars(
    self, outputs: dict[str, np.ndarray], rows: slice | np.ndarray
  ) -> dict[str, float]:
    chosen = {name: values[rows] for name, values in outputs.items()}
    count = len(next(iter(chosen.values())))
    scalars = self.task.summarize(chosen) if count else {}
    return scalars | {"num_examples": count}

  def _run_step(
    self,
    variables: dict[str, Any],
    batch: pipeline.Batch,
    inputs: jax.Array,
    number: jax.Array,
    num_slots: int | None,
    num_iterations: int | None,
  ) -> tuple[dict[str, jax.Array], jax.Array | None]:
    """Returns what is kept for the split, and generated images, if any."""
    rngs = train_state_lib.step_rngs(_EVAL_SEED, number)
    outputs = self.task.eval_step(
      variables, batch, rngs, num_slots, num_iterations, inputs
    )
    generated = outputs.pop(base.GENERATED, None)
    for name, rows in outputs.items():
      if rows.shape[:1] != batch["valid"].shape:
        raise ValueError(
          f"eval_step returned {name!r} of shape {rows.shape}; it must hold "
          f"one entry per example, {batch['valid'].shape[0]} in all."
        )
    kept = {name: batch[name] for name in _KEPT if name in batch}
    return outputs | kept, generated

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
      variables, self.task.observed(batch), rngs, num_slots, num_iterations
    )
    first = functools.partial(jax.tree.map, lambda x: x[:count])
    return self.task.figure_outputs(variables, first(outputs)), first(batch)
