"""From a foreign checkpoint to the directory of a run.

A source is a module that `SOURCES` lists. It has SLOT_MODULE, TASKS, SETTINGS
(config keys that the weights imply), NOTE, `read(path) -> (step, weights)`, and
`to_variables(weights) -> {"params": ...}`.
"""

import os
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import checkpoints
from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import optimizers
from slot_attention import run_files
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train_state as train_state_lib
from slot_attention.convert import airi_smm
from slot_attention.convert import embodied_vision
from slot_attention.convert import google_tf
from slot_attention.convert import slate
from slot_attention.convert import trees

SOURCES: dict[str, Any] = {
  "airi_smm": airi_smm,
  "embodied_vision": embodied_vision,
  "google_tf": google_tf,
  "slate": slate,
}


def convert(
  source: str,
  checkpoint: str,
  config: ml_collections.ConfigDict,
  workdir: str,
) -> int:
  """Writes a run with foreign weights.

  Args:
    source: key of `SOURCES`.
    checkpoint: path of the foreign checkpoint.
    config: task, data and evaluation; changed in place to what the weights
      imply, and every change is logged.
    workdir: directory of the run; must not hold one.

  Returns:
    The step of the checkpoint. Moments of the optimizer start at zero.

  Raises:
    ValueError: the config or the checkpoint does not fit the source, or the
      workdir holds a run.
    OSError: a file cannot be read or written.
  """
  if os.path.exists(os.path.join(workdir, run_files.CONFIG_FILE)):
    raise ValueError(f"{workdir} already holds a run; give another --workdir.")
  adapt_config(config, source)
  mesh = sharding.create_mesh()
  config_validation.validate(config, mesh.size)
  step, weights = SOURCES[source].read(checkpoint)
  variables = SOURCES[source].to_variables(weights)
  expected = jax.eval_shape(tasks.create_task(config).init, jax.random.key(0))
  trees.require_same_shapes(variables, expected)
  _save(step, variables, config, workdir, sharding.replicated(mesh))
  if SOURCES[source].NOTE:
    logging.warning("%s", SOURCES[source].NOTE)
  return step


def adapt_config(config: ml_collections.ConfigDict, source: str) -> None:
  """Sets what a source's weights imply.

  Args:
    config: changed in place.
    source: key of `SOURCES`.

  Raises:
    ConfigError: the task, or a slot module that was asked for, is not the
      source's.
  """
  module = SOURCES[source]
  default = configuration.get_default().slot_module
  if config.task not in module.TASKS:
    raise configuration.ConfigError(
      f"config.task is {config.task!r}, but {source} has weights of "
      f"{', '.join(module.TASKS)} only; give such a --config."
    )
  if config.slot_module not in (default, module.SLOT_MODULE):
    raise configuration.ConfigError(
      f"config.slot_module is {config.slot_module!r}, but weights of {source} "
      f"are of {module.SLOT_MODULE!r}; leave the key out, or set it so."
    )
  settings = {
    "slot_module": module.SLOT_MODULE,
    "eval.num_iterations": 0,
    **module.SETTINGS,
  }
  old = configuration.flatten(config)
  for key, value in settings.items():
    if old[key] != value:
      logging.info("config.%s becomes %r (was %r).", key, value, old[key])
  config.update_from_flattened_dict(settings)


def _in_float32(value: np.ndarray) -> jax.Array:
  """Returns floats of any width as float32; counts stay integers."""
  is_float = jnp.issubdtype(value.dtype, jnp.floating)
  return jnp.asarray(value, jnp.float32 if is_float else value.dtype)


def _save(
  step: int,
  variables: dict[str, Any],
  config: ml_collections.ConfigDict,
  workdir: str,
  place: jax.sharding.Sharding,
) -> None:
  """Writes config and checkpoint as a training run would."""
  variables = jax.tree.map(_in_float32, variables)
  params = variables.pop("params")
  state = train_state_lib.TrainState(
    step=jnp.asarray(step, jnp.int32),
    params=params,
    model_state=variables,
    opt_state=optimizers.create_optimizer(config).init(params),
  )
  os.makedirs(workdir, exist_ok=True)
  manager = checkpoints.Checkpoints(workdir, config.checkpoint)
  try:
    manager.save(step, jax.device_put(state, place))
  finally:
    manager.close()
  run_files.write_config(workdir, config)
