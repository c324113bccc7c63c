"""Comparing and nesting parameters by name."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax
import numpy as np

_MOST = 4  # Names in one sentence.


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Turns {"a/b": x} into {"a": {"b": x}}."""
  tree: dict[str, Any] = {}
  for path, value in flat.items():
    *parents, leaf = path.split("/")
    node = tree
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = value
  return tree


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
  """Turns {"a": {"b": x}} into {"a/b": x}."""
  return {
    "/".join(key.key for key in path): value
    for path, value in jax.tree.leaves_with_path(tree)
  }


def require_same_names(
  what: str, found: Collection[str], expected: Collection[str]
) -> None:
  """Checks names.

  Args:
    what: begins the sentence.
    found: names there are.
    expected: names there should be.

  Raises:
    ValueError: they differ; the sentence names the first ones of either kind.
  """
  complaints = [
    f"{verb} {_some(names)}"
    for verb, names in (
      ("lacks", set(expected) - set(found)),
      ("has, but should not,", set(found) - set(expected)),
    )
    if names
  ]
  if complaints:
    raise ValueError(
      f"{what} {' and '.join(complaints)}; check that it is the file of this "
      "source and task."
    )


def require_same_shapes(
  found: Mapping[str, Any], expected: Mapping[str, Any]
) -> None:
  """Checks that foreign variables fit a model.

  Args:
    found: nested arrays.
    expected: nested arrays or shapes of the model that the config describes.

  Raises:
    ValueError: names or shapes differ.
  """
  found, expected = flatten(found), flatten(expected)
  require_same_names("The checkpoint", found, expected)
  wrong = [
    f"{name} {np.shape(found[name])} instead of {expected[name].shape}"
    for name in found
    if np.shape(found[name]) != tuple(expected[name].shape)
  ]
  if wrong:
    raise ValueError(
      "The checkpoint has other shapes than the model of the config: "
      f"{_some(wrong)}."
    )


def _some(names: Iterable[str]) -> str:
  names = sorted(names)
  rest = len(names) - _MOST
  listed = ", ".join(names[:_MOST])
  return f"{listed} and {rest} more" if rest > 0 else listed
