"""The configs that a benchmark compares: batch sizes, precisions, any key."""

from collections.abc import Sequence
import contextlib
import itertools
from typing import Any

import jax
import ml_collections

from slot_attention import configuration

BATCH_SIZE, PRECISION = "batch_size", "precision"
_BATCH_KEY = "train.batch_size"
# config.model.dtype, and jax' precision of products of float32. By default many
# accelerators multiply float32 with fewer bits (NVIDIA's TF32), as training
# does; "highest" never.
PRECISIONS = {
  "float32": ("float32", None),
  "float32_highest": ("float32", "highest"),
  "bfloat16": ("bfloat16", None),
}

Variant = dict[str, Any]  # Values by flag, or by key of the config.


def parse(
  config: ml_collections.ConfigDict,
  batch_sizes: Sequence[str],
  precisions: Sequence[str],
  varied: Sequence[str],
) -> list[Variant]:
  """Returns all combinations of what the flags list.

  Args:
    config: gives the types of values.
    batch_sizes: numbers, over all devices.
    precisions: keys of `PRECISIONS`.
    varied: such as "model.num_slots=7,11".

  Returns:
    Variants; one without values where nothing is listed.

  Raises:
    ValueError: a key, or a value of one, cannot be.
  """
  lists: dict[str, list[Any]] = {}
  if batch_sizes:
    size = config.train.batch_size
    lists[BATCH_SIZE] = [_read(_BATCH_KEY, size, text) for text in batch_sizes]
  if precisions:
    lists[PRECISION] = [_known_precision(name) for name in precisions]
  for text in varied:
    key, _, values = text.partition("=")
    default = _default(config, key)
    lists[key] = [_read(key, default, value) for value in values.split(",")]
  return [
    dict(zip(lists, values, strict=True))
    for values in itertools.product(*lists.values())
  ]


def apply(
  config: ml_collections.ConfigDict, variant: Variant
) -> ml_collections.ConfigDict:
  """Returns a copy of the config with a variant's values.

  Args:
    config: stays as it is.
    variant: from `parse`; its batch size is that of training and evaluation.

  Returns:
    The config, not validated yet.
  """
  config = config.copy_and_resolve_references()
  for key, value in variant.items():
    if key == BATCH_SIZE:
      config.train.batch_size = config.eval.batch_size = value
    elif key == PRECISION:
      config.model.dtype = PRECISIONS[value][0]
    else:
      config.update_from_flattened_dict({key: value})
  return config


def use_precision(variant: Variant) -> contextlib.AbstractContextManager[None]:
  """Returns a context in which jax multiplies as precisely as it shall."""
  precision = PRECISIONS[variant.get(PRECISION, "float32")][1]
  if precision is None:  # Leaves what the user has set.
    return contextlib.nullcontext()
  return jax.default_matmul_precision(precision)


def _known_precision(name: str) -> str:
  if name not in PRECISIONS:
    raise ValueError(
      f"--precision={name} is not known; choose from {', '.join(PRECISIONS)}."
    )
  return name


def _default(config: ml_collections.ConfigDict, key: str) -> Any:
  """Returns the config's value of a key, which must be one that can vary."""
  flat = configuration.flatten(config)
  value = flat.get(key)
  if not isinstance(value, (bool, int, float, str)):
    raise ValueError(
      f"--vary={key}=... names no key of the config with a single value; write "
      "such as --vary=model.num_slots=7,11."
    )
  return value


def _read(key: str, default: Any, text: str) -> Any:
  """Reads a value of the default's type."""
  kind = type(default)
  try:
    if kind is bool:
      return {"True": True, "False": False}[text]
    return kind(text)
  except (ValueError, KeyError):
    raise ValueError(
      f"{text!r} is no value of config.{key}, which is {default!r} and takes "
      f"a {kind.__name__}."
    ) from None
