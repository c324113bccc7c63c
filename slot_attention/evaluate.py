"""Evaluates a run: `python -m slot_attention.evaluate --workdir=RUN`."""

from collections.abc import Iterator, Sequence
import contextlib
import itertools
import os
from typing import Any, NamedTuple

from absl import flags
import jax
import ml_collections

from slot_attention import checkpoints
from slot_attention import cli
from slot_attention import config_validation
from slot_attention import evaluator as evaluator_lib
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train
from slot_attention.data import pipeline


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
) -> Iterator[Run]:
  """Opens a run for evaluation, on all devices.

  Args:
    workdir: directory of the run.
    step: "latest", "best", or the step of a checkpoint.
    split: "train_eval" or "validation"; None for the run's own.
    num_examples: first examples of the split; 0 for all; None as in the run.
    data_dir: overrides the run's config.data.data_dir.

  Yields:
    The run; its mesh is set until the context ends.
  """
  config = train.read_config(workdir)
  if split:
    config.eval.split = split
  if data_dir:
    config.data.data_dir = data_dir
  if num_examples is not None:
    config.eval.num_examples = num_examples
  mesh = sharding.create_mesh()
  config_validation.validate(config, mesh.size)
  with jax.set_mesh(mesh):
    step, variables = checkpoints.load_variables(
      workdir, step, config.checkpoint, sharding.replicated(mesh)
    )
    evaluator = evaluator_lib.Evaluator(
      tasks.create_task(config),
      pipeline.open_source(config.data, config.eval.split, mesh),
      mesh,
      config.eval.batch_size,
      config.eval.num_examples,
    )
    yield Run(config, step, variables, evaluator)


def evaluate(
  workdir: str,
  num_slots: Sequence[int] = (),
  num_iterations: Sequence[int] = (),
  **kwargs: Any,
) -> dict[str, Any]:
  """Evaluates a checkpoint over a grid of slots and iterations.

  Args:
    workdir: directory of the run.
    num_slots: numbers of slots; empty for the one trained with.
    num_iterations: numbers of iterations; empty for the one trained with.
    **kwargs: see `open_run`.

  Returns:
    {"step", "split", "results": [{"num_slots", "num_iterations", "eval/..."}]}.
  """
  with open_run(workdir, **kwargs) as run:
    results = []
    for slots, iterations in itertools.product(
      num_slots or [run.config.model.num_slots],
      num_iterations or [run.config.model.num_iterations],
    ):
      scalars = run.evaluator.evaluate(run.variables, slots, iterations)
      results.append(
        {"num_slots": slots, "num_iterations": iterations}
        | {f"eval/{name}": value for name, value in scalars.items()}
      )
    split = run.config.eval.split
    return {"step": run.step, "split": split, "results": results}


def main(argv: list[str]) -> None:
  """Prints a table and writes JSON."""
  cli.reject_arguments(argv)
  values = flags.FLAGS
  result = evaluate(
    values.workdir,
    [int(k) for k in values.num_slots],
    [int(t) for t in values.num_iterations],
    step=values.step,
    split=values.split,
    num_examples=values.num_examples,
    data_dir=values.data_dir,
  )
  for row in result["results"]:
    print("  ".join(_cell(*item) for item in row.items()))
  path = values.output or os.path.join(values.workdir, train.EVALUATION_FILE)
  train.write_json(path, result)
  print(f"Wrote {path}.")


def _cell(name: str, value: float) -> str:
  return (
    f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
  )


def _define_flags() -> None:
  flags.DEFINE_string("workdir", None, "Directory of the run.")
  flags.DEFINE_string("step", "latest", "latest, best, or a step.")
  flags.DEFINE_string("split", None, "Default: the run's eval.split.")
  flags.DEFINE_list("num_slots", [], "Such as 7,11,21.")
  flags.DEFINE_list("num_iterations", [], "Such as 3,5.")
  flags.DEFINE_integer(
    "num_examples", None, "Default: the run's eval.num_examples; 0: all."
  )
  flags.DEFINE_string("data_dir", None, "Where the data lies now.")
  flags.DEFINE_string("output", None, "Default: evaluation.json of the run.")
  flags.mark_flag_as_required("workdir")


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
