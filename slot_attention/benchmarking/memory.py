"""Memory of training steps as the compiler plans it; nothing is executed."""

from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import ml_collections

from slot_attention import features
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train_step as train_step_lib
from slot_attention.benchmarking import definitions
from slot_attention.benchmarking import steps
from slot_attention.data import pipeline

Row = dict[str, Any]


def plan(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> Row:
  """Compiles the training step of a config, for shapes instead of arrays.

  Args:
    config: of a run; no data and no weights are read.
    mesh: the devices.

  Returns:
    `memory` per device, see `train_step.memory_bytes`, `trace_seconds` and
    `compile_seconds`, and FLOPs of all devices: `flops`, those of the model's
    definition, and `xla_flops`, in which a loop counts once.
  """
  task = tasks.create_task(config)
  state = train_step_lib.abstract_state(task, config, mesh)
  batch = abstract_batch(config, mesh)
  step = train_step_lib.create_train_step(task, config)
  (compiled,), seconds = steps.compile_programs(
    lambda: [train_step_lib.lower_train_step(step, state, batch)]
  )
  logging.info("Compiled in %.1f s.", seconds["compile_seconds"])
  return {
    "memory": train_step_lib.memory_bytes(compiled),
    **seconds,
    "flops": definitions.train_step_work(task, state, batch).flops,
    "xla_flops": train_step_lib.xla_flops(compiled) * mesh.size,
  }


def abstract_batch(
  config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> pipeline.Batch:
  """Returns shapes of a training batch with all that the contract names.

  Args:
    config: of the run.
    mesh: the devices over which rows are divided.

  Returns:
    Shapes and types by name; what a step does not use costs it nothing.
  """
  b, data = config.train.batch_size, config.data
  place = sharding.batched(mesh)
  shapes = {
    "image": ((b, *data.resolution, 3), jnp.float32),
    "segmentation": ((b, *data.resolution), jnp.int32),
    "target": ((b, data.num_targets, 19), jnp.float32),
    "num_objects": ((b,), jnp.int32),
  }
  if data.features == "precomputed":
    height, width = features.grid(config.model.vit)
    shape = (b, height * width, config.model.vit.width)
    shapes = {"features": (shape, jnp.float16)}
  return {
    name: jax.ShapeDtypeStruct(shape, dtype, sharding=place)
    for name, (shape, dtype) in shapes.items()
  }
