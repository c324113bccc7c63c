"""Sets measurements against floors, and lays them out as tables."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

_GIB = 2**30
_UNKNOWN = "-"


def compare(result: Mapping[str, Any], copy_rate: float) -> dict[str, Any]:
  """Sets a step against what the machine can do.

  Args:
    result: of `steps.measure_train_step` or `measure_eval_step`.
    copy_rate: of `machine.copy_rate`.

  Returns:
    `images_per_second`; `flops_per_second`; `floor_seconds`, in which the
    machine could do the definition's products or move their operands and
    results, whichever takes longer; `floor_by`, which of both; `over_floor`,
    the measured time divided by the floor.
  """
  seconds = result["seconds"]["median"]
  floors = {
    "products": result["share_of_matrix_rate"] * seconds,
    "copies": result["num_bytes"] / copy_rate,
  }
  largest = max(floors, key=floors.get)
  return {
    "images_per_second": result["batch_size"] / seconds,
    "flops_per_second": result["flops"] / seconds,
    "floor_seconds": floors[largest],
    "floor_by": largest,
    "over_floor": seconds / floors[largest],
  }


def compare_input(
  result: Mapping[str, Any],
  train_step: Mapping[str, Any],
  seconds_together: float,
) -> dict[str, Any]:
  """Sets batches against the training steps that take them.

  Args:
    result: of `steps.measure_input`.
    train_step: of `steps.measure_train_step`.
    seconds_together: per step, of `steps.measure_together`.

  Returns:
    `steps_per_second` of the step without its data, `keeps_up`, whether batches
    come at least as fast, `seconds_together` and `together_over_step`, which is
    more than 1 where making batches takes time from the step, even if it keeps
    up.
  """
  seconds = train_step["seconds"]["median"]
  return {
    "steps_per_second": 1 / seconds,
    "keeps_up": result["batches_per_second"] * seconds >= 1,
    "seconds_together": seconds_together,
    "together_over_step": seconds_together / seconds,
  }


def tables(result: Mapping[str, Any]) -> list[str]:
  """Returns what was measured as paragraphs: a table, and of the input."""
  names = {"train_step": "train step", "eval_step": "eval step"}
  timed = {text: result[key] for key, text in names.items() if key in result}
  paragraphs = [steps_table(timed)] if timed else []
  if "input" in result:
    paragraphs.append(describe_input(result["input"]))
  return paragraphs


def steps_table(steps: Mapping[str, Mapping[str, Any]]) -> str:
  """Lays out steps side by side.

  Args:
    steps: by name, results with `compare`'s values.

  Returns:
    A table in Markdown, a column for each step.
  """
  columns = [_describe_step(step) for step in steps.values()]
  names = list(columns[0])
  return markdown(
    ["", *steps], [[name, *(c[name] for c in columns)] for name in names]
  )


def memory_table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Lays out rows of `memory.plan`, with what was varied under "variant".

  Args:
    rows: all with the same variant keys.

  Returns:
    A table in Markdown.
  """
  return markdown(
    [
      *(key.removeprefix("model.") for key in rows[0]["variant"]),
      "temporary GiB",
      "total GiB",
      "GFLOP",
      "XLA's GFLOP",
      "compiled in",
    ],
    [
      [
        *map(str, row["variant"].values()),
        *_gibibytes(row["memory"]),
        f"{row['flops'] / 1e9:.4g}",
        f"{row['xla_flops'] / 1e9:.4g}",
        f"{row['compile_seconds']:.1f} s",
      ]
      for row in rows
    ],
  )


def describe_input(result: Mapping[str, Any]) -> str:
  """Says in a sentence or two how fast batches come, and if that is enough."""
  text = (
    f"Input ({result['source']}, batch {result['batch_size']}): "
    f"{result['batches_per_second']:.4g} batches/s, "
    f"{result['images_per_second']:.4g} images/s alone."
  )
  if "keeps_up" not in result:
    return text
  return (
    f"{text} The training step takes {result['steps_per_second']:.4g} batches/s"
    f": keeps up: {'yes' if result['keeps_up'] else 'no'}. Together, a step "
    f"takes {_milliseconds(result['seconds_together'])} ms, "
    f"{result['together_over_step']:.3g} times as long as without its data."
  )


def describe_machine(result: Mapping[str, Any]) -> str:
  """Names the machine and its measured rates."""
  text = (
    "Machine: {num_devices} x {device_kind} ({platform}), {processor}, "
    "{num_cores} cores, load {load:.2f}, jax {jax}."
  ).format(**result)
  if "matrix_rate" not in result:
    return text
  rate = result["matrix_rate"]
  return (
    f"{text} Measured: {rate['flops_per_second'] / 1e12:.4g} TFLOP/s "
    f"multiplying {rate['dtype']} matrices of side {rate['size']}, "
    f"{result['copy_rate'] / 1e9:.4g} GB/s read and written."
  )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table whose columns are as wide as their widest cell."""
  widths = [max(map(len, cells)) for cells in zip(header, *rows, strict=True)]
  lines = [header, ["-" * width for width in widths], *rows]
  return "\n".join(
    "| "
    + " | ".join(
      cell.ljust(width) for cell, width in zip(line, widths, strict=True)
    )
    + " |"
    for line in lines
  )


def _describe_step(step: Mapping[str, Any]) -> dict[str, str]:
  temporary, total = _gibibytes(step["memory"])
  used = step["memory_used"]
  size = step["batch_size"]
  return {
    "batch": str(size),
    "ms per step, median": _milliseconds(step["seconds"]["median"]),
    "quartiles": _spread(step["seconds"]),
    "one by one, median": _milliseconds(step["seconds_one_by_one"]["median"]),
    "quartiles, one by one": _spread(step["seconds_one_by_one"]),
    "images/s": f"{step['images_per_second']:.4g}",
    "GFLOP per image": f"{step['flops'] / size / 1e9:.4g}",
    "GFLOP per image, XLA's count": f"{step['xla_flops'] / size / 1e9:.4g}",
    "TFLOP/s": f"{step['flops_per_second'] / 1e12:.4g}",
    "TFLOP/s of matrices between": f"{step['matrix_rate'] / 1e12:.4g}",
    "share of matrix rate": f"{step['share_of_matrix_rate']:.1%}",
    "time / floor": f"{step['over_floor']:.3g} ({step['floor_by']})",
    "compiled in": f"{step['compile_seconds']:.1f} s",
    "GiB planned, total": total,
    "GiB planned, temporary": temporary,
    "GiB used, device": _gibibyte(used["device_peak"]),
    "GiB used, process": _gibibyte(used["process_peak"]),
  }


def _gibibytes(plan: Mapping[str, int] | None) -> tuple[str, str]:
  """Returns what is temporary, and all of it."""
  plan = plan or {}
  return _gibibyte(plan.get("temporary")), _gibibyte(plan.get("total"))


def _gibibyte(num_bytes: int | None) -> str:
  return _UNKNOWN if num_bytes is None else f"{num_bytes / _GIB:.3g}"


def _milliseconds(seconds: float) -> str:
  """Keeps four digits, or all before the point."""
  value = 1e3 * seconds
  digits = max(0, 3 - math.floor(math.log10(max(value, 1e-3))))
  return f"{value:.{digits}f}"


def _spread(seconds: Mapping[str, float]) -> str:
  ends = seconds["first_quartile"], seconds["third_quartile"]
  return " to ".join(map(_milliseconds, ends))
