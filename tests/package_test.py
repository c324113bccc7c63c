"""The shape of the package: who imports whom, and that all of it ships."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "slot_attention"
FILES = sorted(PACKAGE.rglob("*.py"))
_NETWORKS = ("modules", "losses", "matching", "metrics")
_ENTRY_POINTS = (
  "main",
  "benchmark",
  "aggregate",
  "evaluate",
  "visualize",
  "predictor",
  "convert",
)
# Readers of files, which know of nothing else, stand below all layers.
_FORMATS = ("slot_attention.convert.timm",)


def _imports(path, top_level_only=False):
  """Modules that a file imports, as "slot_attention.modules.gru"."""
  tree = ast.parse(path.read_text())
  nodes = tree.body if top_level_only else ast.walk(tree)
  names = set()
  for node in nodes:
    if isinstance(node, ast.Import):
      names |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names |= {f"{node.module}.{alias.name}" for alias in node.names}
  return names


def _part(path):
  """The first component below the package: "modules", "train", ..."""
  return path.relative_to(PACKAGE).with_suffix("").parts[0]


def _ours(path):
  return {
    name.split(".")[1]
    for name in _imports(path)
    if name.startswith("slot_attention.") and name not in _FORMATS
  }


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_file_ships_and_keeps_to_its_layer(path):
  assert (path.parent / "__init__.py").exists(), "setup.py would skip it."
  assert len(path.read_text().splitlines()) <= 400
  part = _part(path)
  if part in _NETWORKS:
    assert _ours(path) <= set(_NETWORKS)
    outside = {name.split(".")[0] for name in _imports(path)}
    assert not outside & {"absl", "ml_collections", "tensorflow", "orbax"}
  if part == "data":
    assert not _ours(path) & {"tasks", "train", "modules", "evaluator"}
  if part == "tasks":
    assert not _ours(path) & {"train", "data", "checkpoints", "writers"}
  if part not in _ENTRY_POINTS:
    assert not _ours(path) & {"train", *_ENTRY_POINTS}
  tensorflow = {
    name
    for name in _imports(path, top_level_only=True)
    if name.split(".")[0] in ("tensorflow", "tensorflow_datasets")
  }
  assert not tensorflow
