"""Puts seeds together: `python -m slot_attention.aggregate --workdirs=A,B,C`.

Reads each run's evaluation.json, or the last evaluation in its metrics.jsonl,
and gives, for every row and metric, the statistics that papers report: mean and
standard deviation (paper A), median and maximum deviation from it (Krimmel et
al., TMLR 2024).
"""

from collections.abc import Mapping, Sequence
import dataclasses
import glob
import json
import os
from typing import Any

from absl import flags
import ml_collections
import numpy as np

from slot_attention import cli
from slot_attention import configuration
from slot_attention import moved_files
from slot_attention import results
from slot_attention import run_files
from slot_attention import writers
from slot_attention.figures import curves

# What may differ between seeds of one experiment: seed and paths.
_FREE_KEYS = ("seed", *moved_files.KEYS.values())

# What the figure shows of a metric: the point and the bar.
CENTERS = {"mean": "std", "median": "max_deviation"}


@dataclasses.dataclass(frozen=True)
class Run:
  """An evaluated run.

  Attributes:
    workdir: its directory.
    config: with which it was trained.
    source: the file that its rows are from.
    step: of the checkpoint.
    split: on which it was evaluated.
    rows: see `results.make_row`.
  """

  workdir: str
  config: ml_collections.ConfigDict
  source: str
  step: int
  split: str
  rows: Sequence[results.Row]


def aggregate(
  workdirs: Sequence[str],
  metric: str = "eval/ari_fg",
  threshold: float | None = None,
) -> dict[str, Any]:
  """Computes statistics over runs that differ in their seeds only.

  Args:
    workdirs: directories of runs, or patterns such as "runs/tetrominoes_*".
    metric: by which a run is said to bind.
    threshold: a run whose metric is below has not bound; None does not count.

  Returns:
    {"split", "metric", "threshold", "runs": [{"workdir", "seed", "step",
    "source"}], "results": [...]}. A result has the keys of `results.GRID`,
    num_examples, with a threshold `num_failed`, and per metric a dict of
    `statistics`.

  Raises:
    ValueError: the runs are not seeds of one experiment, evaluated alike.
  """
  runs = [read_run(workdir) for workdir in find_runs(workdirs)]
  _check_alike(runs)
  seeds = [str(run.config.seed) for run in runs]
  rows = []
  for same in zip(*(run.rows for run in runs), strict=True):
    row = {key: same[0][key] for key in (*results.GRID, results.NUM_EXAMPLES)}
    if threshold is not None:
      row["num_failed"] = _count_failed(runs, same, metric, threshold)
    for name in results.metrics_of(same):
      values = [one.get(name) for one in same]
      row[name] = statistics(dict(zip(seeds, values, strict=True)))
    rows.append(row)
  return {
    "split": runs[0].split,
    "metric": metric,
    "threshold": threshold,
    "runs": [
      {
        "workdir": run.workdir,
        "seed": run.config.seed,
        "step": run.step,
        "source": run.source,
      }
      for run in runs
    ],
    "results": rows,
  }


def statistics(values: Mapping[str, float | None]) -> dict[str, Any]:
  """Returns statistics of one number per seed.

  Args:
    values: by seed; None where the number is not defined.

  Returns:
    `num_runs` with a number, `mean`, `std` (of the sample: divided by
    num_runs - 1), `median`, `max_deviation` (the largest distance from the
    median), `min`, `max` and `values`; None where there are too few.
  """
  defined = np.array([v for v in values.values() if v is not None], np.float64)
  names = ("mean", "std", "median", "max_deviation", "min", "max")
  numbers: tuple[Any, ...] = (None,) * len(names)
  if defined.size:
    median = np.median(defined)
    numbers = (
      float(defined.mean()),
      float(defined.std(ddof=1)) if defined.size > 1 else None,
      float(median),
      float(np.abs(defined - median).max()),
      float(defined.min()),
      float(defined.max()),
    )
  return {
    "num_runs": int(defined.size),
    **dict(zip(names, numbers, strict=True)),
    "values": dict(values),
  }


def find_runs(patterns: Sequence[str]) -> list[str]:
  """Returns directories, each once, in the order of the patterns.

  Raises:
    FileNotFoundError: a pattern matches nothing.
  """
  found: dict[str, None] = {}
  for pattern in patterns:
    matches = sorted(glob.glob(pattern))
    if not matches:
      raise FileNotFoundError(
        f"No run matches {pattern!r}; give directories of runs, or a quoted "
        "pattern such as --workdirs='runs/seed_*'."
      )
    found |= dict.fromkeys(path.rstrip(os.sep) for path in matches)
  return list(found)


def read_run(workdir: str) -> Run:
  """Reads what a run was evaluated to.

  Args:
    workdir: of the run; evaluation.json, or metrics.jsonl where there is none.

  Returns:
    The run.

  Raises:
    FileNotFoundError: it holds no run, or one that was never evaluated.
  """
  config = run_files.read_config(workdir)
  path = os.path.join(workdir, run_files.EVALUATION_FILE)
  if os.path.exists(path):
    with open(path, encoding="utf-8") as f:
      evaluation = json.load(f)
  else:
    path = os.path.join(workdir, writers.METRICS_FILE)
    evaluation = _last_evaluation(path, config.eval.split)
  rows = [_complete(config, row) for row in evaluation["results"]]
  return Run(
    workdir, config, path, evaluation["step"], evaluation["split"], rows
  )


def main(argv: list[str]) -> None:
  """Prints a table and writes JSON, CSV and, for a grid, a figure."""
  cli.reject_arguments(argv)
  values = flags.FLAGS
  result = aggregate(values.workdirs, values.metric, values.threshold)
  for run in result["runs"]:
    print(f"seed {run['seed']}: step {run['step']}, from {run['source']}")
  table = _table(result["results"])
  for line in table:
    print("  ".join(f"{key} {_short(value)}" for key, value in line.items()))
  run_files.write_json(values.output, result)
  written = [values.output, results.write_csv(values.output, table)]
  rows = result["results"]
  if results.varying(rows):
    written.append(_draw(values.output, rows, values.center))
  print(f"Wrote {', '.join(written)}.")


def _last_evaluation(path: str, split: str) -> dict[str, Any]:
  """Returns the last evaluation in metrics.jsonl as evaluation.json has it."""
  lines: list[dict[str, Any]] = []
  if os.path.exists(path):
    with open(path, encoding="utf-8") as f:
      lines = [json.loads(line) for line in f if line.endswith("\n")]
  evaluations = [
    line for line in lines if any(k.startswith(results.PREFIX) for k in line)
  ]
  if not evaluations:
    raise FileNotFoundError(
      f"{os.path.dirname(path)} holds no evaluation; evaluate it with python "
      "-m slot_attention.evaluate --workdir=... first."
    )
  last = dict(evaluations[-1])
  return {"step": last.pop("step"), "split": split, "results": [last]}


def _complete(
  config: ml_collections.ConfigDict, row: results.Row
) -> results.Row:
  """Adds the setting to the rows of training, which evaluates at its own."""
  if set(results.GRID) <= row.keys():
    return row
  prefix = results.PREFIX
  scalars = {
    key.removeprefix(prefix): value
    for key, value in row.items()
    if key.startswith(prefix)
  }
  return results.make_row(config, scalars)


def _check_alike(runs: Sequence[Run]) -> None:
  """Raises unless the runs are different seeds of one experiment."""
  first = runs[0]
  seen: dict[int, str] = {}
  for run in runs:
    for what, expected, found in _differences(first, run):
      raise ValueError(
        f"{first.workdir} and {run.workdir} are not seeds of one experiment "
        f"evaluated alike: {what} is {expected!r} in the first and {found!r} "
        "in the second; aggregate them apart, or evaluate them alike."
      )
    seed = run.config.seed
    if seed in seen:
      raise ValueError(
        f"{seen[seed]} and {run.workdir} have the same seed {seed}; leave one "
        "of them out."
      )
    seen[seed] = run.workdir


def _differences(first: Run, other: Run) -> list[tuple[str, Any, Any]]:
  """Returns what differs between two runs and must not: name and values."""
  a, b = _described(first), _described(other)
  return [(name, a[name], b[name]) for name in a if a[name] != b[name]]


def _described(run: Run) -> dict[str, Any]:
  config = configuration.flatten(run.config)
  described = {f"config.{key}": value for key, value in config.items()}
  for key in _FREE_KEYS:
    del described[f"config.{key}"]
  examples = [row[results.NUM_EXAMPLES] for row in run.rows]
  return described | {
    "the split": run.split,
    f"the grid of {', '.join(results.GRID)}": [
      results.setting_of(row) for row in run.rows
    ],
    results.NUM_EXAMPLES: examples,
  }


def _count_failed(
  runs: Sequence[Run],
  rows: Sequence[results.Row],
  metric: str,
  threshold: float,
) -> int | None:
  """Returns how many are below; None where a group has no image at all."""
  if not rows[0][results.NUM_EXAMPLES]:
    return None
  failed = 0
  for run, row in zip(runs, rows, strict=True):
    if metric not in row:
      raise ValueError(
        f"{run.workdir} has no {metric}, by which --threshold judges; it has "
        f"{', '.join(results.metrics_of([row]))}."
      )
    # What is not a number is no success.
    failed += row[metric] is None or row[metric] < threshold
  return failed


def _table(rows: Sequence[results.Row]) -> list[results.Row]:
  """Returns a flat row per result and metric."""
  return [
    {key: value for key, value in row.items() if not isinstance(value, dict)}
    | {"metric": name}
    | {key: value for key, value in row[name].items() if key != "values"}
    | {f"seed {seed}": value for seed, value in row[name]["values"].items()}
    for row in rows
    for name in results.metrics_of([row])
  ]


def _draw(path: str, rows: Sequence[results.Row], center: str) -> str:
  """Draws centers with bars; see `CENTERS`."""
  split = [
    [
      {
        key: value[name] if isinstance(value, dict) else value
        for key, value in row.items()
      }
      for row in rows
    ]
    for name in (center, CENTERS[center])
  ]
  return curves.draw_file(path, *split)


def _short(value: Any) -> str:
  return f"{value:.4g}" if isinstance(value, float) else str(value)


def _define_flags() -> None:
  flags.DEFINE_list(
    "workdirs", None, "Directories of runs, or quoted patterns."
  )
  flags.DEFINE_string("output", "aggregate.json", "JSON; .csv, .png beside it.")
  flags.DEFINE_string("metric", "eval/ari_fg", "By which a run binds or not.")
  flags.DEFINE_float("threshold", None, "Below it a run has failed to bind.")
  flags.DEFINE_enum(
    "center", "mean", list(CENTERS), "Of the figure: mean and std, or median."
  )
  flags.mark_flag_as_required("workdirs")


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
