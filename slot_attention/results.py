"""Rows of results, by number of slots, iterations and objects."""

from collections.abc import Mapping, Sequence
import csv
import os
from typing import Any

import ml_collections

from slot_attention import evaluator as evaluator_lib

Row = dict[str, Any]

GRID = ("num_slots", "num_iterations", "num_objects")
NUM_EXAMPLES = "num_examples"
PREFIX = "eval/"


def make_row(
  config: ml_collections.ConfigDict,
  scalars: Mapping[str, float],
  num_slots: int | None = None,
  num_iterations: int | None = None,
  num_objects: int | str = evaluator_lib.ALL,
) -> Row:
  """Puts scalars behind what they were measured at.

  Args:
    config: of the run.
    scalars: by name, with `num_examples`.
    num_slots: None for the config's.
    num_iterations: None for the config's.
    num_objects: a number, or "all".

  Returns:
    The keys of `GRID`, `num_examples` and "eval/..." for every scalar.
  """
  model = config.model
  row = {
    "num_slots": model.num_slots if num_slots is None else num_slots,
    "num_iterations": (
      num_iterations or config.eval.num_iterations or model.num_iterations
    ),
    "num_objects": num_objects,
    NUM_EXAMPLES: scalars[NUM_EXAMPLES],
  }
  return row | {PREFIX + name: value for name, value in scalars.items()}


def setting_of(row: Row) -> tuple[Any, ...]:
  """Returns what a row was measured at, in the order of `GRID`."""
  return tuple(row[key] for key in GRID)


def varying(rows: Sequence[Row]) -> list[str]:
  """Returns which keys of `GRID` have several values; "all" is none."""
  counts = {
    key: len({row[key] for row in rows} - {evaluator_lib.ALL}) for key in GRID
  }
  return [key for key, count in counts.items() if count > 1]


def metrics_of(rows: Sequence[Row]) -> list[str]:
  """Returns the metrics of all rows together, in the order they come."""
  metrics = {key: None for row in rows for key in row if key.startswith(PREFIX)}
  metrics.pop(PREFIX + NUM_EXAMPLES, None)  # Every row has it without prefix.
  return list(metrics)


def write_csv(path: str, rows: Sequence[Row]) -> str:
  """Writes a table beside a JSON file, whole or not at all.

  Args:
    path: of the JSON file; its ending becomes .csv.
    rows: empty cells stand where a row lacks what another has.

  Returns:
    The path of the table.
  """
  path = sibling(path, ".csv")
  columns = {key: None for row in rows for key in row}
  columns.pop(PREFIX + NUM_EXAMPLES, None)
  with open(f"{path}.tmp", "w", encoding="utf-8", newline="") as f:
    writer = csv.DictWriter(f, list(columns), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
  os.replace(f"{path}.tmp", path)
  return path


def sibling(path: str, ending: str) -> str:
  """Returns the path with another ending, such as ".csv"."""
  return os.path.splitext(path)[0] + ending
