"""Checks a vision transformer's weights and writes them as safetensors."""

import os

import ml_collections

from slot_attention import configuration
from slot_attention import features
from slot_attention.convert import timm

SOURCE = "timm"
FILE = "vit.safetensors"


def rewrite(
  checkpoint: str, config: ml_collections.ConfigDict, directory: str
) -> str:
  """Writes the weights that `config.model.vit` describes, and nothing else.

  Args:
    checkpoint: timm's or DINO's file, see `timm.read`.
    config: of the task dinosaur.
    directory: where to write; made if it is missing.

  Returns:
    The path of the file, float32 with timm's names.

  Raises:
    ConfigError: the config is of another task.
    ValueError: the file does not hold this transformer.
    OSError: a file cannot be read or written.
  """
  configuration.require(
    config.task == "dinosaur",
    "task",
    config.task,
    "dinosaur, whose vision transformer these weights are of",
  )
  shapes = features.vit_shapes(config.model.vit)
  variables = timm.to_variables(timm.read(checkpoint), shapes)
  os.makedirs(directory, exist_ok=True)
  path = os.path.join(directory, FILE)
  timm.write_safetensors(path, timm.to_state_dict(variables))
  return path
