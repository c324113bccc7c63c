"""Evaluates a run: `python -m slot_attention.evaluate --workdir=RUN`.

Several numbers of slots, iterations and objects make a grid, as in Figure 2 of
paper A and Figures 1, 3, 12 and 13 of Krimmel et al. (TMLR 2024).
"""

from collections.abc import Iterator, Sequence
import contextlib
import itertools
import os
from typing import Any, NamedTuple

from absl import flags
from absl import logging
import jax
import ml_collections

from slot_attention import checkpoints
from slot_attention import cli
from slot_attention import config_validation
from slot_attention import cpu
from slot_attention import evaluator as evaluator_lib
from slot_attention import moved_files
from slot_attention import results
from slot_attention import run_files
from slot_attention import sharding
from slot_attention import tasks
from slot_attention.convert import inception
from slot_attention.data import pipeline
from slot_attention.figures import curves
from slot_attention.metrics import fid


class Run(NamedTuple):
  """A checkpoint of a run, ready to be evaluated."""

  config: ml_collections.ConfigDict
  step: int
  variables: dict[str, Any]
  evaluator: evaluator_lib.Evaluator


@contextlib.contextmanager
def open_run(
  workdir: str,
  step: int | str = "latest",
  split: str | None = None,
  num_examples: int | None = None,
  data_dir: str | None = None,
  num_objects: Sequence[int] = (),
  dataset: str | None = None,
  batch_size: int | None = None,
  features_dir: str | None = None,
  vit_weights: str | None = None,
  generate: bool = False,
) -> Iterator[Run]:
  """Opens a run for evaluation, on all devices.

  Args:
    workdir: directory of the run.
    step: "latest", "best", or the step of a checkpoint.
    split: "train_eval", "validation" or "test"; None for the run's own.
    num_examples: first examples of the split; 0 for all; None as in the run.
    data_dir: overrides the run's config.data.data_dir; see `moved_files`.
    num_objects: the split's images have from the least to the most of these;
      empty for what the run was trained on.
    dataset: another one of the run's config.data.source, in images of any
      number of objects up to config.data.num_targets unless num_objects says
      otherwise.
    batch_size: over all devices; None for the run's config.eval.batch_size.
    features_dir: overrides the run's config.data.features_dir.
    vit_weights: overrides the run's config.model.vit.weights.
    generate: sets config.eval.autoregressive, so that a task which can generate
      images does.

  Yields:
    The run; its mesh is set until the context ends.
  """
  config = run_files.read_config(workdir)
  if split:
    config.eval.split = split
  moved_files.apply(
    config,
    data_dir=data_dir,
    features_dir=features_dir,
    vit_weights=vit_weights,
  )
  if generate:
    config.eval.autoregressive = True
  if num_examples is not None:
    config.eval.num_examples = num_examples
  if batch_size is not None:
    config.eval.batch_size = batch_size
  if dataset:
    config.data.dataset = dataset
    config.data.min_num_objects = 0
    config.data.max_num_objects = config.data.num_targets
  if num_objects:
    config.data.min_num_objects = min(num_objects)
    config.data.max_num_objects = max(num_objects)
    config.data.num_targets = max(config.data.num_targets, *num_objects)
  mesh = sharding.create_mesh()
  config_validation.validate(config, mesh.size)
  with jax.set_mesh(mesh):
    place = sharding.replicated(mesh)
    task = tasks.create_task(config)
    frozen = jax.device_put(task.load_frozen(), place)
    step, variables = checkpoints.load_variables(
      workdir, step, config.checkpoint, place
    )
    evaluator = evaluator_lib.Evaluator(
      task,
      pipeline.open_source(
        config.data, config.eval.split, mesh, config.model.vit
      ),
      mesh,
      config.eval.batch_size,
      config.eval.num_examples,
    )
    yield Run(config, step, variables | frozen, evaluator)


def evaluate(
  workdir: str,
  num_slots: Sequence[int] = (),
  num_iterations: Sequence[int] = (),
  num_objects: Sequence[int] = (),
  inception_weights: str | None = None,
  **kwargs: Any,
) -> dict[str, Any]:
  """Evaluates a checkpoint over a grid of slots, iterations and objects.

  Args:
    workdir: directory of the run.
    num_slots: numbers of slots; empty for the one trained with.
    num_iterations: numbers of iterations; empty for the one trained with.
    num_objects: numbers of visible objects; see `open_run`.
    inception_weights: file of the network with which the images that the task
      generates are compared with the true ones, as `eval/fid`; see
      `convert.inception`.
    **kwargs: see `open_run`.

  Returns:
    {"step", "split", "results": [{"num_slots", "num_iterations", "num_objects",
    "num_examples", "eval/..."}]}; num_objects is "all" or a number.

  Raises:
    ValueError: there are weights, and the task generates no images.
  """
  generate = bool(inception_weights)
  with open_run(
    workdir, num_objects=num_objects, generate=generate, **kwargs
  ) as run:
    settings = list(
      itertools.product(num_slots or [None], num_iterations or [None])
    )
    distance = _create_distance(run, inception_weights, len(settings))
    groups = run.evaluator.evaluate_grid(
      run.variables, settings, num_objects, distance=distance
    )
    for sentence in distance.warnings() if distance else []:
      logging.warning("%s", sentence)
    rows = [
      results.make_row(run.config, scalars, *setting, objects)
      for setting, group in zip(settings, groups, strict=True)
      for objects, scalars in group.items()
    ]
    split = run.config.eval.split
    return {"step": run.step, "split": split, "results": rows}


def _create_distance(
  run: Run, inception_weights: str | None, num_sets: int
) -> fid.FrechetInceptionDistance | None:
  """Returns what compares images with generated ones; None without weights."""
  generates = run.evaluator.task.generates_images()
  if not inception_weights:
    if generates:
      logging.info("%s", inception.WITHOUT_WEIGHTS)
    return None
  if not generates:
    raise ValueError(
      f"--inception_weights is {inception_weights!r}, but a run with "
      f"config.task = {run.config.task} generates no images, of which the FID "
      "is; leave it out."
    )
  place = sharding.replicated(sharding.create_mesh())
  features = inception.load(inception_weights, place)
  return fid.FrechetInceptionDistance(features, num_sets)


def main(argv: list[str]) -> None:
  """Prints a table and writes JSON, CSV and, for a grid, a figure."""
  cli.reject_arguments(argv)
  values = flags.FLAGS
  config = run_files.read_config(values.workdir)
  config.eval.batch_size = values.batch_size or config.eval.batch_size
  cpu.prepare(config)
  result = evaluate(
    values.workdir,
    parse_numbers("num_slots", values.num_slots),
    parse_numbers("num_iterations", values.num_iterations),
    parse_numbers("num_objects", values.num_objects, minimum=0),
    step=values.step,
    split=values.split,
    num_examples=values.num_examples,
    dataset=values.dataset,
    batch_size=values.batch_size,
    inception_weights=values.inception_weights,
    **moved_files.from_flags(),
  )
  rows = result["results"]
  for row in rows:
    print("  ".join(_cell(*item) for item in row.items()))
  default = os.path.join(values.workdir, run_files.EVALUATION_FILE)
  path = values.output or default
  run_files.write_json(path, result)
  written = [path, results.write_csv(path, rows)]
  if results.varying(rows):
    written.append(curves.draw_file(path, rows))
  print(f"Wrote {', '.join(written)}.")


def parse_numbers(
  name: str, texts: Sequence[str], minimum: int = 1
) -> list[int]:
  """Reads numbers such as 5,7,...,21 (steps of 2) or 3,...,10 (steps of 1).

  Args:
    name: of the flag.
    texts: what stands between its commas.
    minimum: of every number.

  Returns:
    The numbers; none if there are no texts.

  Raises:
    ValueError: a text is no number, a number is too small or stands there
      twice, or the dots do not stand between two numbers.
  """
  numbers: list[int] = []
  texts = [text.strip() for text in texts]
  try:
    for i, text in enumerate(texts):
      if text != "...":
        numbers.append(int(text))
        continue
      last = int(texts[i + 1])
      step = numbers[-1] - numbers[-2] if i > 1 else 1
      numbers.extend(range(numbers[-1] + step, last, step))
  except (ValueError, IndexError):
    numbers = [minimum - 1]
  unique = len(set(numbers)) == len(numbers)
  if min(numbers, default=minimum) < minimum or not unique:
    raise ValueError(
      f"--{name}={','.join(texts)} is no list of different numbers from "
      f"{minimum} on; write such as 5,7,11 or 5,7,...,21 or 3,...,10."
    )
  return numbers


def _cell(name: str, value: float | str) -> str:
  return (
    f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
  )


def _define_flags() -> None:
  flags.DEFINE_string("workdir", None, "Directory of the run.")
  flags.DEFINE_string("step", "latest", "latest, best, or a step.")
  flags.DEFINE_string("split", None, "Default: the run's eval.split.")
  flags.DEFINE_list("num_slots", [], "Such as 7,11,21 or 5,7,...,21.")
  flags.DEFINE_list("num_iterations", [], "Such as 3,5 or 1,...,7.")
  flags.DEFINE_list(
    "num_objects", [], "Images with so many visible objects, such as 3,...,10."
  )
  flags.DEFINE_integer(
    "num_examples", None, "Default: the run's eval.num_examples; 0: all."
  )
  flags.DEFINE_integer("batch_size", None, "Default: the run's.")
  flags.DEFINE_string("dataset", None, "Another one, such as movi_d.")
  flags.DEFINE_string(
    "inception_weights",
    None,
    "pytorch-fid's file, for the FID of generated images (SLATE).",
  )
  moved_files.define_flags()
  flags.DEFINE_string("output", None, "Default: evaluation.json of the run.")
  flags.mark_flag_as_required("workdir")


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
