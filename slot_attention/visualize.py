"""Draws a run: `python -m slot_attention.visualize --workdir=RUN --output=DIR`.

Writes the pictures that TensorBoard shows, an animation over the iterations of
each example, and index.html, a page of its own to browse them.
"""

import os

from absl import flags
from PIL import Image

from slot_attention import cli
from slot_attention import evaluate
from slot_attention import moved_files
from slot_attention.figures import html_page
from slot_attention.figures import scene_views

PAGE_FILE = "index.html"


def draw_run(
  run: evaluate.Run,
  title: str,
  output: str,
  count: int,
  num_slots: int | None = None,
  num_iterations: int | None = None,
) -> list[str]:
  """Draws the first examples of a split.

  Args:
    run: from `evaluate.open_run`.
    title: of the page.
    output: directory, made if it is missing.
    count: how many examples, at most an evaluation batch.
    num_slots: slots, or None for the run's.
    num_iterations: iterations, or None for the run's.

  Returns:
    Paths of the files: a PNG per figure and example, a GIF per example and the
    page.
  """
  task = run.evaluator.task
  outputs, batch = run.evaluator.examples(
    run.variables, count, num_slots, num_iterations
  )
  os.makedirs(output, exist_ok=True)
  paths = []
  for name, pictures in task.figures(outputs, batch).items():
    for i, picture in enumerate(pictures):
      paths.append(os.path.join(output, f"{name}_{i}.png"))
      Image.fromarray(picture).save(paths[-1])
  scenes = task.scenes(outputs, batch)
  for i, scene in enumerate(scenes):
    paths.append(os.path.join(output, f"scene_{i}.gif"))
    scene_views.save_animation(scene, paths[-1])
  paths.append(os.path.join(output, PAGE_FILE))
  with open(paths[-1], "w", encoding="utf-8") as f:
    f.write(html_page.render(title, scenes))
  return paths


def main(argv: list[str]) -> None:
  """Draws a run and prints what was written."""
  cli.reject_arguments(argv)
  values = flags.FLAGS
  with evaluate.open_run(
    values.workdir,
    values.step,
    values.split,
    batch_size=values.batch_size,
    **moved_files.from_flags(),
  ) as run:
    run_name = os.path.basename(os.path.abspath(values.workdir))
    paths = draw_run(
      run,
      f"{run_name}, step {run.step}, {run.config.eval.split}",
      values.output,
      values.num_figures or run.config.eval.num_figures,
      values.num_slots,
      values.num_iterations,
    )
  print("\n".join(paths))


def _define_flags() -> None:
  flags.DEFINE_string("workdir", None, "Directory of the run.")
  flags.DEFINE_string("output", None, "Directory for the pictures.")
  flags.DEFINE_string("step", "latest", "latest, best, or a step.")
  flags.DEFINE_string("split", None, "Default: the run's eval.split.")
  flags.DEFINE_integer("batch_size", None, "Default: the run's.")
  flags.DEFINE_integer("num_figures", None, "Default: the run's.")
  flags.DEFINE_integer("num_slots", None, "Default: the run's.")
  flags.DEFINE_integer("num_iterations", None, "Default: the run's.")
  moved_files.define_flags()
  flags.mark_flags_as_required(["workdir", "output"])


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
