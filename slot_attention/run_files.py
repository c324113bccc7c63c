"""Files of a run besides records and checkpoints: config.json, results."""

import json
import math
import os
from typing import Any

import ml_collections
import numpy as np

from slot_attention import configuration
from slot_attention.data.records import whole_files

CONFIG_FILE = "config.json"
EVALUATION_FILE = "evaluation.json"


def write_json(path: str, value: Any) -> None:
  """Writes JSON whole or not at all; NaN becomes null."""
  _write_text(path, json.dumps(_without_nan(value), indent=2) + "\n")


def _write_text(path: str, text: str) -> None:
  with whole_files.open_whole(path) as file:
    file.write(text.encode())


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
    ValueError: its config cannot be read.
  """
  path = os.path.join(workdir, CONFIG_FILE)
  if not os.path.exists(path):
    raise FileNotFoundError(
      f"{workdir} holds no run: there is no {CONFIG_FILE} in it; give the "
      "--workdir of a training run."
    )
  try:
    with open(path, encoding="utf-8") as f:
      return configuration.from_json(f.read())
  except (json.JSONDecodeError, UnicodeDecodeError) as error:
    raise ValueError(
      f"{path} is damaged ({error}); remove it, and the next start of the run "
      "writes it again."
    ) from error


def config_changes(
  workdir: str, config: ml_collections.ConfigDict
) -> list[str]:
  """Compares a config with that of a run.

  Args:
    workdir: directory of the run, or an empty one.
    config: with which it shall go on.

  Returns:
    A phrase for each key that the run had otherwise until now.
  """
  if not os.path.exists(os.path.join(workdir, CONFIG_FILE)):
    return []
  old = configuration.flatten(read_config(workdir))
  return [
    f"config.{key} is {value!r}, the run in {workdir} had {old.get(key)!r}"
    for key, value in configuration.flatten(config).items()
    if old.get(key) != value
  ]
