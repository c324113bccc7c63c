"""Curves over a grid of results, with the axes of the papers' figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from slot_attention import evaluator as evaluator_lib
from slot_attention import results

_AXES = {
  "num_slots": "# slots",
  "num_iterations": "# iterations",
  "num_objects": "# objects",
}
_SYMBOLS = {"num_slots": "K", "num_iterations": "T"}
_METRICS = {
  "eval/ari_fg": "F-ARI",
  "eval/ari": "ARI",
  "eval/mbo": "mBO",
  "eval/miou": "mIoU",
  "eval/mse": "mean squared error",
  "eval/fid": "FID",
  "eval/ap_inf": "AP at any distance",
  "eval/ap_1": "AP at 1",
  "eval/ap_0.5": "AP at 0.5",
  "eval/ap_0.25": "AP at 0.25",
  "eval/ap_0.125": "AP at 0.125",
}
_PANEL_INCHES = (3.6, 2.7)
_DOTS_PER_INCH = 120

# x, y, and the length of the bar at every point, or None.
Line = tuple[list[int], list[float], list[float] | None]


def draw_file(
  path: str,
  rows: Sequence[results.Row],
  spreads: Sequence[Mapping[str, float]] | None = None,
) -> str:
  """Draws every metric against everything that varies, beside a JSON file.

  A column of panels per key of `results.varying`, a row per metric: scores
  against iterations, a line per number of slots (paper A, Figure 2); against
  slots, a line per number of iterations, and against objects, a line per number
  of slots (Krimmel et al., Figures 1, 3, 12 and 13), the latter at the largest
  number of iterations.

  Args:
    path: of the JSON file; its ending becomes .png.
    rows: of a grid; metrics that a row lacks are left out.
    spreads: by metric, half the length of the bar at each row's value.

  Returns:
    The path of the figure.
  """
  # An import of half a second that only figures of grids need.
  from matplotlib import figure as figure_lib
  from matplotlib import ticker

  keys = results.varying(rows)
  metrics = [name for name in _METRICS if name in results.metrics_of(rows)]
  width, height = _PANEL_INCHES
  # Without pyplot no display is looked for: PNGs go through Agg.
  figure = figure_lib.Figure(
    (width * len(keys), height * len(metrics)), layout="constrained"
  )
  panels = figure.subplots(len(metrics), len(keys), squeeze=False)
  for metric, row in zip(metrics, panels, strict=True):
    for key, panel in zip(keys, row, strict=True):
      lines = _lines(rows, _hold(rows, key), key, metric, spreads)
      for label, (x, y, bars) in lines.items():
        panel.errorbar(x, y, bars, marker="o", capsize=2, label=label)
      panel.set(xlabel=_AXES[key], ylabel=_METRICS[metric])
      panel.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
      panel.grid(alpha=0.3)
      if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize="small")
  path = results.sibling(path, ".png")
  figure.savefig(path, dpi=_DOTS_PER_INCH)
  return path


def _hold(rows: Sequence[results.Row], key: str) -> list[int]:
  """Chooses the rows of a panel, in which `key` and one other key vary."""
  chosen = [
    i
    for i, row in enumerate(rows)
    if (row["num_objects"] != evaluator_lib.ALL) == (key == "num_objects")
  ]
  slots = {rows[i]["num_slots"] for i in chosen}
  if key != "num_objects" or len(slots) == 1:
    return chosen
  last = max(rows[i]["num_iterations"] for i in chosen)
  return [i for i in chosen if rows[i]["num_iterations"] == last]


def _lines(
  rows: Sequence[results.Row],
  chosen: Sequence[int],
  key: str,
  metric: str,
  spreads: Sequence[Mapping[str, float]] | None,
) -> dict[str, Line]:
  """Returns the lines of a panel by their label in the legend."""
  lines: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
  others = [name for name in _SYMBOLS if name != key]
  for i in chosen:
    value = rows[i].get(metric)
    if value is not None:
      bar = (spreads[i].get(metric) or 0.0) if spreads else 0.0
      name = tuple(rows[i][other] for other in others)
      lines.setdefault(name, []).append((rows[i][key], value, bar))
  labelled = {}
  for name, points in sorted(lines.items()):
    label = ", ".join(
      f"{_SYMBOLS[other]} = {value}"
      for other, value in zip(others, name, strict=True)
    )
    x, y, bars = map(list, zip(*sorted(points), strict=True))
    labelled[label] = (x, y, bars if spreads else None)
  return labelled
