"""Files that a run reads, and that may lie elsewhere since it was trained."""

import os

from absl import flags
import ml_collections

from slot_attention import configuration

# Keys of the config by the options that override them.
KEYS = {
  "data_dir": "data.data_dir",
  "features_dir": "data.features_dir",
  "vit_weights": "model.vit.weights",
}
_HELP = {
  "data_dir": "Where the data lies now.",
  "features_dir": "Where the features of `prepare features` lie now.",
  "vit_weights": "Where the vision transformer's file lies now.",
}


def apply(config: ml_collections.ConfigDict, **places: str | None) -> None:
  """Puts new places of files into the config of a run.

  Args:
    config: of the run; is changed.
    **places: paths by the names of `KEYS`; None and "" leave the run's own.

  Raises:
    FileNotFoundError: there is nothing at a new place. A data_dir, which need
      not be of this machine, is looked for by what reads it.
    ValueError: the run reads no such file.
  """
  for name, path in places.items():
    if not path:
      continue
    key = KEYS[name]
    if not _is_read(config, name):
      raise ValueError(
        f"--{name} is {path!r}, but this run reads none, and needs no "
        f"config.{key}; leave it out."
      )
    if name != "data_dir" and not os.path.exists(os.path.expanduser(path)):
      raise FileNotFoundError(
        f"--{name} is {path!r}, which does not exist; it must be what the run "
        f"was trained with, config.{key} = {configuration.get(config, key)!r}."
      )
    config.update_from_flattened_dict({key: path})


def define_flags() -> None:
  """Defines a flag for each of `KEYS`."""
  for name, text in _HELP.items():
    flags.DEFINE_string(name, None, text)


def from_flags() -> dict[str, str | None]:
  """Returns what the flags say, for `apply`."""
  return {name: flags.FLAGS[name].value for name in KEYS}


def _is_read(config: ml_collections.ConfigDict, name: str) -> bool:
  if name == "features_dir":
    return config.data.features == "precomputed"
  if name == "vit_weights":
    return config.task == "dinosaur" and config.model.vit.init == "weights"
  return True
