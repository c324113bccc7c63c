"""Of which images, and by which transformer, stored features are."""

from collections.abc import Mapping
import hashlib
import os
from typing import Any

from absl import logging
import ml_collections

# Keys of config.data that decide what is seen.
DATA_KEYS = (
  "source",
  "dataset",
  "variant",
  "tfds_config",
  "resolution",
  "crop",
  "center_crop",
  "interpolation",
)
# The numbers of objects may be narrower than those of the features.
LIMITS = ("min_num_objects", "max_num_objects")


def describe_data(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns what of `config.data` decides which images there are."""
  values = {key: config[key] for key in (*DATA_KEYS, *LIMITS)}
  # As JSON gives them back.
  return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def describe_vit(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns what decides the features of an image.

  Args:
    config: `config.model.vit` of a run.

  Returns:
    Its settings, and as `weights` the file's name and SHA-256, or the seed;
    None where no file is named.

  Raises:
    FileNotFoundError: the file of weights does not exist.
  """
  settings = {
    key: value
    for key, value in config.items()
    if key not in ("weights", "init", "seed")
  }
  weights: dict[str, Any] | None = None
  if config.init == "random":
    weights = {"seed": config.seed}
  elif config.weights:
    weights = {
      "file": os.path.basename(config.weights),
      "sha256": _hash_file(config.weights),
    }
  return settings | {"weights": weights}


def _hash_file(path: str) -> str:
  if not os.path.isfile(path):
    raise FileNotFoundError(
      f"config.model.vit.weights is {path!r}, which does not exist."
    )
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def check_data(
  stored: Mapping[str, Any], config: ml_collections.ConfigDict, directory: Any
) -> None:
  """Raises ValueError if features are of other images than a run's.

  Args:
    stored: what `describe_data` returned when they were written.
    config: `config.data` of the run.
    directory: is named in the error.
  """
  wanted = describe_data(config)
  for key in DATA_KEYS:
    if stored[key] != wanted[key]:
      raise ValueError(
        f"{directory} holds features of images with {key}={stored[key]}, "
        f"but config.data.{key} is {wanted[key]}; change it, or write the "
        "features again."
      )
  low, high = (stored[key] for key in LIMITS)
  if wanted[LIMITS[0]] < low or wanted[LIMITS[1]] > high:
    raise ValueError(
      f"{directory} holds features of images with {low} to {high} objects, but "
      f"{wanted[LIMITS[0]]} to {wanted[LIMITS[1]]} are asked for; change "
      "config.data.min_num_objects and config.data.max_num_objects, or write "
      "the features again."
    )


def check_vit(
  stored: Mapping[str, Any], config: ml_collections.ConfigDict, directory: Any
) -> None:
  """Raises ValueError if features are of another transformer than a run's.

  Args:
    stored: what `describe_vit` returned when they were written.
    config: `config.model.vit` of the run; without a file of weights only the
      settings are compared.
    directory: is named in the error.
  """
  stored, wanted = dict(stored), describe_vit(config)
  weights, wanted_weights = stored.pop("weights"), wanted.pop("weights")
  for key in sorted(stored.keys() | wanted.keys()):
    if stored.get(key) != wanted.get(key):
      raise ValueError(
        f"{directory} holds features of a transformer with "
        f"{key}={stored.get(key)}, but config.model.vit.{key} is "
        f"{wanted.get(key)}; change it, or write the features again."
      )
  if wanted_weights is None:
    logging.info(
      "The features in %s are of the weights %s.", directory, weights
    )
  elif _identity(weights) != _identity(wanted_weights):
    raise ValueError(
      f"{directory} holds features of the weights {weights}, but "
      f"config.model.vit names {wanted_weights}; change it, or write the "
      "features again."
    )


def _identity(weights: Mapping[str, Any]) -> Any:
  """Returns what two copies of a file have in common, or the seed."""
  return weights.get("sha256", ("seed", weights.get("seed")))
