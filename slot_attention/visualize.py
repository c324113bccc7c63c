"""Draws a run: `python -m slot_attention.visualize --workdir=RUN --output=DIR`.

The pictures are those that TensorBoard shows.
"""

import os

from absl import flags
from PIL import Image

from slot_attention import cli
from slot_attention import evaluate


def main(argv: list[str]) -> None:
  """Writes one PNG per figure and example."""
  cli.reject_arguments(argv)
  values = flags.FLAGS
  with evaluate.open_run(values.workdir, values.step, values.split) as run:
    figures = run.evaluator.figures(
      run.variables,
      values.num_figures or run.config.eval.num_figures,
      values.num_slots,
      values.num_iterations,
    )
  os.makedirs(values.output, exist_ok=True)
  for name, pictures in figures.items():
    for i, picture in enumerate(pictures):
      path = os.path.join(values.output, f"{name}_{i}.png")
      Image.fromarray(picture).save(path)
      print(path)


def _define_flags() -> None:
  flags.DEFINE_string("workdir", None, "Directory of the run.")
  flags.DEFINE_string("output", None, "Directory for the pictures.")
  flags.DEFINE_string("step", "latest", "latest, best, or a step.")
  flags.DEFINE_string("split", None, "Default: the run's eval.split.")
  flags.DEFINE_integer("num_figures", None, "Default: the run's.")
  flags.DEFINE_integer("num_slots", None, "Default: the run's.")
  flags.DEFINE_integer("num_iterations", None, "Default: the run's.")
  flags.mark_flags_as_required(["workdir", "output"])


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
