"""What a saved tree of arrays holds, so that damage and misfits are found.

Orbax stores no checksums of its arrays: a flipped bit would be trained on. So
every checkpoint carries its arrays' names, shapes, types and CRC-32C.
"""

from collections.abc import Mapping
import json
from typing import Any

import google_crc32c
import jax
import numpy as np

from slot_attention import sharding

# Name of an array -> [shape, type, checksum].
Fingerprint = dict[str, list[Any]]
_NUM_SHOWN = 3


def describe(tree: Any) -> Fingerprint:
  """Returns the fingerprint of a tree of replicated arrays.

  Args:
    tree: of arrays; dataclasses, tuples and dicts of the same names are the
      same, for Orbax restores all of them as dicts and lists.

  Returns:
    [shape, type, checksum] by the array's name, such as "params/decoder/bias".
  """
  arrays = {name: _to_host(leaf) for name, leaf in _named_leaves(tree)}
  return {
    name: [*_shape_and_type(array), google_crc32c.value(array.tobytes())]
    for name, array in arrays.items()
  }


def seal(fingerprint: Fingerprint) -> dict[str, Any]:
  """Adds a checksum to a fingerprint, for JSON; `unseal` verifies it."""
  return {"arrays": fingerprint, "checksum": _checksum(fingerprint)}


def unseal(sealed: Mapping[str, Any]) -> Fingerprint:
  """Returns the fingerprint that was sealed.

  Args:
    sealed: what `seal` returned.

  Returns:
    The fingerprint.

  Raises:
    ValueError: it is another one.
  """
  fingerprint = sealed.get("arrays")
  if sealed.get("checksum") != _checksum(fingerprint):
    raise ValueError("the checksum of its fingerprint is wrong")
  return fingerprint


def find_misfits(saved: Mapping[str, Any], abstract: Any) -> list[str]:
  """Says which arrays are not those that a model needs.

  Args:
    saved: the fingerprint of what was saved.
    abstract: tree of anything with shape and dtype.

  Returns:
    One phrase for each array.
  """
  wanted = {name: _shape_and_type(x) for name, x in _named_leaves(abstract)}
  misfits = []
  for name in sorted(saved.keys() | wanted.keys()):
    if name not in saved:
      misfits.append(f"it has no {name}")
    elif name not in wanted:
      misfits.append(f"its {name} belongs to another model")
    elif list(saved[name][:2]) != wanted[name]:
      shape, dtype = wanted[name]
      misfits.append(
        f"its {name} is {saved[name][1]} {saved[name][0]}, not {dtype} {shape}"
      )
  return misfits


def find_damage(saved: Mapping[str, Any], tree: Any) -> list[str]:
  """Returns the names of arrays that are not what was saved."""
  restored = describe(tree)
  names = sorted(saved.keys() | restored.keys())
  return [name for name in names if saved.get(name) != restored.get(name)]


def find_not_finite(tree: Any) -> list[str]:
  """Returns the names of arrays that hold NaN or infinity."""
  return [
    name
    for name, leaf in _named_leaves(tree)
    if not np.all(np.isfinite(_to_host(leaf).astype(np.float32)))
  ]


def shorten(phrases: list[str]) -> str:
  """Joins the first few phrases and says how many there are besides."""
  text = ", ".join(phrases[:_NUM_SHOWN])
  more = len(phrases) - _NUM_SHOWN
  return text + (f" and {more} more" if more > 0 else "")


def _checksum(fingerprint: Any) -> int:
  return google_crc32c.value(json.dumps(fingerprint, sort_keys=True).encode())


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
  return [
    (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  ]


def _shape_and_type(array: Any) -> list[Any]:
  return [list(array.shape), str(array.dtype)]


def _to_host(leaf: Any) -> np.ndarray:
  if isinstance(leaf, jax.Array):
    return sharding.to_host(leaf)
  return np.asarray(leaf)
