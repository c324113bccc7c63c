"""Measures training steps, evaluation steps and the batches they need.

What runs is what `train` and `evaluator` run: the same functions, compiled the
same way, with the state donated.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import functools
import time
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from slot_attention import evaluator as evaluator_lib
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train_step as train_step_lib
from slot_attention.benchmarking import definitions
from slot_attention.benchmarking import machine
from slot_attention.benchmarking import measure
from slot_attention.benchmarking import work as work_lib
from slot_attention.data import pipeline
from slot_attention.tasks import base

Result = dict[str, Any]

# The first batches fill buffers, the first steps allocate.
_WARMUP = 3
# Groups of steps in flight, more where these would be larger than in training;
# products between them take a part of their time.
_GROUPS, _PRODUCTS_TIME = 6, 0.2


@dataclasses.dataclass(frozen=True)
class Setup:
  """What is measured.

  Attributes:
    config: of the run, validated.
    mesh: the devices.
    task: of the config.
    num_steps: of every measurement, after warm-up.
  """

  config: ml_collections.ConfigDict
  mesh: jax.sharding.Mesh
  task: base.Task
  num_steps: int

  @functools.cached_property
  def yardstick(self) -> machine.Yardstick:
    """What the machine multiplies best, in the model's precision."""
    return machine.Yardstick(self.mesh, self.config.model.dtype)


def create_setup(
  config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, num_steps: int
) -> Setup:
  """Returns the setup of a validated config."""
  return Setup(config, mesh, tasks.create_task(config), num_steps)


class Trainer:
  """A compiled training step and the state that it goes on with."""

  def __init__(self, setup: Setup, batch: pipeline.Batch):
    """Makes the state of step 0 and compiles, for batches such as this."""
    task, config = setup.task, setup.config
    self._state = train_step_lib.create_state(task, config, setup.mesh)
    step = train_step_lib.create_train_step(task, config)
    (self.program,), self.seconds = compile_programs(
      lambda: [train_step_lib.lower_train_step(step, self._state, batch)]
    )
    self.work = definitions.train_step_work(task, self._state, batch)

  def step(self, batch: pipeline.Batch) -> train_step_lib.Metrics:
    """Dispatches one step."""
    self._state, metrics = self.program(self._state, batch)
    return metrics

  @property
  def variables(self) -> dict[str, Any]:
    """The model's variables; the next step takes their memory."""
    return {"params": self._state.params, **self._state.model_state}


def compile_programs(
  trace: Callable[[], Sequence[jax.stages.Lowered]],
) -> tuple[list[jax.stages.Compiled], dict[str, float]]:
  """Traces and compiles.

  Args:
    trace: returns what is to be compiled.

  Returns:
    The programs, and `trace_seconds` and `compile_seconds` of all of them.
  """
  start = time.monotonic()
  lowered = trace()
  traced = time.monotonic()
  programs = [program.compile() for program in lowered]
  return programs, {
    "trace_seconds": traced - start,
    "compile_seconds": time.monotonic() - traced,
  }


def create_variables(setup: Setup) -> dict[str, Any]:
  """Returns the model's variables at step 0, without an optimizer's state."""
  state = train_step_lib.create_state(setup.task, setup.config, setup.mesh)
  return {"params": state.params, **state.model_state}


def open_batches(setup: Setup) -> Iterator[pipeline.Batch]:
  """Opens the training data that the config names; yields without end."""
  data = setup.config.data
  source = pipeline.open_source(
    data, "train", setup.mesh, setup.config.model.vit
  )
  return source.train_batches(
    setup.config.train.batch_size, setup.config.seed, 0
  )


def measure_train_step(
  setup: Setup, trainer: Trainer, batch: pipeline.Batch
) -> Result:
  """Times the training step on one batch that lies on the devices.

  Args:
    setup: what is measured.
    trainer: its step.
    batch: shown again and again.

  Returns:
    See `_times`, `_program` and `compile_programs`.
  """
  logging.info("Timing %d training steps.", 2 * setup.num_steps)
  return (
    {"batch_size": setup.config.train.batch_size}
    | _times(setup, lambda: trainer.step(batch), trainer.work)
    | _program(setup, [trainer.program], trainer.work)
    | trainer.seconds
  )


def measure_eval_step(setup: Setup, variables: dict[str, Any]) -> Result:
  """Times the evaluation of a batch: encoder, slots, and the task's scores.

  Args:
    setup: what is measured.
    variables: the model's.

  Returns:
    See `_times`, `_program` and `compile_programs`.
  """
  config, size = setup.config, setup.config.eval.batch_size
  source = pipeline.open_source(
    config.data, config.eval.split, setup.mesh, config.model.vit
  )
  evaluator = evaluator_lib.Evaluator(
    setup.task, source, setup.mesh, size, size
  )
  batch = next(source.eval_batches(size, size))
  programs, seconds = compile_programs(
    lambda: evaluator.lower(variables, batch)
  )
  encode, step = programs
  observed = setup.task.observed(batch)

  def run() -> Any:
    return step(variables, batch, encode(variables, observed), np.uint32(0))

  logging.info("Timing %d evaluation steps.", 2 * setup.num_steps)
  work = definitions.eval_step_work(setup.task, variables, batch)
  return (
    {"batch_size": size}
    | _times(setup, run, work)
    | _program(setup, programs, work)
    | seconds
  )


def measure_input(setup: Setup, batches: Iterator[pipeline.Batch]) -> Result:
  """Times the training batches alone.

  Args:
    setup: what is measured.
    batches: from `open_batches`.

  Returns:
    `seconds` of a batch, see `measure.summarize`, and `batches_per_second` and
    `images_per_second` over all of them.
  """
  logging.info("Timing %d batches of training data.", setup.num_steps)
  seconds = measure.each(lambda: next(batches), setup.num_steps, _WARMUP)
  rate = len(seconds) / sum(seconds)
  size = setup.config.train.batch_size
  return {
    "source": setup.config.data.source,
    "batch_size": size,
    "seconds": measure.summarize(seconds),
    "batches_per_second": rate,
    "images_per_second": rate * size,
  }


def measure_together(
  setup: Setup, trainer: Trainer, batches: Iterator[pipeline.Batch]
) -> float:
  """Trains as the training loop does, a new batch for every step.

  Args:
    setup: what is measured.
    trainer: its step.
    batches: from `open_batches`.

  Returns:
    Seconds per step.
  """
  logging.info("Timing %d training steps with their data.", setup.num_steps)
  for _ in range(_WARMUP):
    jax.block_until_ready(trainer.step(next(batches)))
  pending = []
  start = time.monotonic()
  for _ in range(setup.num_steps):
    pending.append(trainer.step(next(batches)))
    if len(pending) > train_step_lib.STEPS_IN_FLIGHT:
      sharding.to_host(pending.pop(0))
  jax.block_until_ready(pending)
  return (time.monotonic() - start) / setup.num_steps


def _times(setup: Setup, call: measure.Call, work: work_lib.Work) -> Result:
  """Times a step in both ways, and the machine between groups of steps.

  Args:
    setup: what is measured.
    call: dispatches a step.
    work: of a step, by the model's definition.

  Returns:
    `seconds` per step where several are in flight, as in training;
    `seconds_one_by_one` where each is waited for; `memory_used` by the process
    so far, the first time before any matrices were multiplied; `matrix_rate` in
    FLOP/s, the median between the groups in flight; `share_of_matrix_rate`, the
    median over the groups, each by the rate right after it.
  """
  count = setup.num_steps
  one_by_one = measure.each(call, count, _WARMUP)
  used = machine.used_memory(setup.mesh)
  yardstick = setup.yardstick
  size = min(train_step_lib.STEPS_IN_FLIGHT, -(-count // _GROUPS))
  group_seconds = size * float(np.median(one_by_one))
  products = yardstick.fill(_PRODUCTS_TIME * group_seconds)
  in_flight, between = measure.alternately(
    [(call, size), (yardstick.multiply, products)], count // size
  )
  rates = yardstick.flops / np.asarray(between)
  shares = work.flops / np.asarray(in_flight) / rates
  return {
    "seconds": measure.summarize(in_flight),
    "seconds_one_by_one": measure.summarize(one_by_one),
    "memory_used": used,
    "matrix_rate": float(np.median(rates)),
    "share_of_matrix_rate": float(np.median(shares)),
  }


def _program(
  setup: Setup, programs: Sequence[jax.stages.Compiled], work: work_lib.Work
) -> Result:
  """Says what the programs of a step cost.

  Args:
    setup: what is measured.
    programs: compiled.
    work: by the model's definition.

  Returns:
    `flops` and `num_bytes` of the definition and `xla_flops`, of all devices;
    `memory` as planned, of the program that needs most.
  """
  plans = [train_step_lib.memory_bytes(program) for program in programs]
  xla = sum(train_step_lib.xla_flops(program) for program in programs)
  known = [plan for plan in plans if plan is not None]
  return {
    "flops": work.flops,
    "num_bytes": work.num_bytes,
    "xla_flops": xla * setup.mesh.size,
    "memory": max(known, key=lambda plan: plan["total"], default=None),
  }
