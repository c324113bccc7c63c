"""Evaluates a run: `python -m slot_attention.evaluate --workdir=RUN`."""

import itertools
import os
import sys

from absl import app
from absl import flags
from absl import logging
import jax

from slot_attention import checkpoints
from slot_attention import configuration
from slot_attention import evaluator as evaluator_lib
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train
from slot_attention.data import pipeline

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
_STEP = flags.DEFINE_string("step", "latest", "latest, best, or a step.")
_SPLIT = flags.DEFINE_string("split", None, "Default: the run's eval.split.")
_NUM_SLOTS = flags.DEFINE_list("num_slots", [], "Such as 7,11,21.")
_NUM_ITERATIONS = flags.DEFINE_list("num_iterations", [], "Such as 3,5.")
_NUM_EXAMPLES = flags.DEFINE_integer(
  "num_examples", None, "Default: the run's eval.num_examples; 0: the split."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where the data lies now.")
_OUTPUT = flags.DEFINE_string("output", None, "Default: RUN/evaluation.json.")


def evaluate(
  workdir: str,
  step: int | str = "latest",
  split: str | None = None,
  num_slots: list[int] | None = None,
  num_iterations: list[int] | None = None,
  num_examples: int | None = None,
  data_dir: str | None = None,
) -> dict[str, object]:
  """Evaluates a run's checkpoint over a grid of slots and iterations.

  Args:
    workdir: directory of the run.
    step: "latest", "best", or the step of a checkpoint.
    split: "train_eval" or "validation"; None for the run's own.
    num_slots: numbers of slots; None for the one trained with.
    num_iterations: numbers of iterations; None for the one trained with.
    num_examples: first examples of the split; 0 for all; None as in the run.
    data_dir: overrides the run's config.data.data_dir.

  Returns:
    {"step", "split", "results": [{"num_slots", "num_iterations", "eval/..."}]}.
  """
  config = train.read_config(workdir)
  if split:
    config.eval.split = split
  if data_dir:
    config.data.data_dir = data_dir
  if num_examples is not None:
    config.eval.num_examples = num_examples
  mesh = sharding.create_mesh()
  configuration.validate(config, mesh.size)
  with jax.set_mesh(mesh):
    manager = checkpoints.Checkpoints(workdir, config.checkpoint)
    step = manager.find_step(step)
    variables = manager.restore_variables(step, sharding.replicated(mesh))
    manager.close()
    evaluator = evaluator_lib.Evaluator(
      tasks.create_task(config),
      pipeline.open_source(config.data, config.eval.split, mesh),
      mesh,
      config.eval.batch_size,
      config.eval.num_examples,
    )
    results = []
    for slots, iterations in itertools.product(
      num_slots or [config.model.num_slots],
      num_iterations or [config.model.num_iterations],
    ):
      scalars = evaluator.evaluate(variables, slots, iterations)
      results.append(
        {"num_slots": slots, "num_iterations": iterations}
        | {f"eval/{name}": value for name, value in scalars.items()}
      )
  return {"step": step, "split": config.eval.split, "results": results}


def main(argv: list[str]) -> None:
  """Prints a table and writes JSON."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}.")
  try:
    result = evaluate(
      _WORKDIR.value,
      int(_STEP.value) if _STEP.value.isdigit() else _STEP.value,
      _SPLIT.value,
      [int(k) for k in _NUM_SLOTS.value],
      [int(t) for t in _NUM_ITERATIONS.value],
      _NUM_EXAMPLES.value,
      _DATA_DIR.value,
    )
  except (ValueError, OSError) as error:
    logging.error("%s", error)
    sys.exit(1)
  for row in result["results"]:
    print(
      "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in row.items()
      )
    )
  path = _OUTPUT.value or os.path.join(_WORKDIR.value, train.EVALUATION_FILE)
  train.write_json(path, result)
  print(f"Wrote {path}.")


def run() -> None:
  """Runs `main` with absl's flags and logging on standard error."""
  logging.set_verbosity(logging.INFO)
  flags.mark_flag_as_required("workdir")
  app.run(main)


if __name__ == "__main__":
  run()
