r"""Measures a config: `python -m slot_attention.benchmark --config=CONFIG`.

Times of the training step, of the evaluation of a batch and of the input alone,
beside FLOPs, memory, and what the machine multiplies and copies at best in the
same run. `--what=memory` executes nothing: it compiles the training step for
each combination of what is listed, and says what memory the compiler plans.

    python -m slot_attention.benchmark \
      --config=configs/clevr_object_discovery.py --batch_size=4 \
      --config.data.source=procedural --output=clevr6.json
    python -m slot_attention.benchmark \
      --config=configs/clevr_object_discovery.py --what=memory \
      --batch_size=32,64 --precision=float32,bfloat16 \
      --vary=model.num_slots=7,11 --vary=model.remat=False,True
"""

from collections.abc import Sequence
import sys
from typing import Any

from absl import flags
from absl import logging
import jax
import ml_collections
from ml_collections import config_flags

from slot_attention import cli
from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import cpu
from slot_attention import run_files
from slot_attention import sharding
from slot_attention.benchmarking import machine
from slot_attention.benchmarking import memory
from slot_attention.benchmarking import report
from slot_attention.benchmarking import steps
from slot_attention.benchmarking import variants

TRAIN_STEP, EVAL_STEP, INPUT = _TIMED = ("train_step", "eval_step", "input")
MEMORY, ALL = "memory", "all"


def measure(
  config: ml_collections.ConfigDict,
  what: Sequence[str] = _TIMED,
  num_steps: int = 20,
  mesh: jax.sharding.Mesh | None = None,
) -> dict[str, Any]:
  """Times a config.

  Args:
    config: of a run. Its data source is read; no run is written.
    what: of "train_step", "eval_step" and "input". Whether the input keeps up
      is told where the first one is measured too.
    num_steps: of every measurement, after warm-up.
    mesh: the devices; None for all.

  Returns:
    "machine", and results by name of what was measured; see `steps` and
    `report.compare`. The memory a training step used was read before anything
    else ran.
  """
  mesh = mesh or sharding.create_mesh()
  config_validation.validate(config, mesh.size)
  result: dict[str, Any] = {"machine": machine.describe(mesh)}
  with jax.set_mesh(mesh):
    setup = steps.create_setup(config, mesh, num_steps)
    measured = _measure_parts(setup, what)
    timed = [measured[name] for name in (TRAIN_STEP, EVAL_STEP) if name in what]
    if timed:
      copy_rate = machine.copy_rate(mesh)
      result["machine"] |= {
        "matrix_rate": setup.yardstick.rate,
        "copy_rate": copy_rate,
      }
      for step in timed:
        step |= report.compare(step, copy_rate)
  return result | measured


def _measure_parts(setup: steps.Setup, what: Sequence[str]) -> dict[str, Any]:
  """Returns results by name, without the machine's rates."""
  result: dict[str, Any] = {}
  if TRAIN_STEP in what or INPUT in what:
    batches = steps.open_batches(setup)
  if TRAIN_STEP in what:
    batch = next(batches)
    trainer = steps.Trainer(setup, batch)
    result[TRAIN_STEP] = steps.measure_train_step(setup, trainer, batch)
  if INPUT in what:
    result[INPUT] = steps.measure_input(setup, batches)
  if INPUT in what and TRAIN_STEP in what:
    together = steps.measure_together(setup, trainer, batches)
    result[INPUT] |= report.compare_input(
      result[INPUT], result[TRAIN_STEP], together
    )
  if EVAL_STEP in what:
    variables = (
      trainer.variables if TRAIN_STEP in what else steps.create_variables(setup)
    )
    result[EVAL_STEP] = steps.measure_eval_step(setup, variables)
  return result


def plan_memory(
  config: ml_collections.ConfigDict,
  compared: Sequence[variants.Variant] = ({},),
  mesh: jax.sharding.Mesh | None = None,
) -> list[memory.Row]:
  """Compiles the training step of every variant, and executes none.

  Args:
    config: of a run; neither its data nor weights are read.
    compared: from `variants.parse`.
    mesh: the devices; None for all.

  Returns:
    For each, what `memory.plan` returns, and "variant": batch size, slots,
    precision, remat, and what else it varies.
  """
  mesh = mesh or sharding.create_mesh()
  configs = [variants.apply(config, variant) for variant in compared]
  for changed in configs:
    config_validation.validate(changed, mesh.size)
  rows = []
  for variant, changed in zip(compared, configs, strict=True):
    named = {
      variants.BATCH_SIZE: changed.train.batch_size,
      "model.num_slots": changed.model.num_slots,
      variants.PRECISION: changed.model.dtype,
      "model.remat": changed.model.remat,
    } | variant
    logging.info("Compiling the training step of %s.", named)
    with jax.set_mesh(mesh), variants.use_precision(variant):
      rows.append({"variant": named} | memory.plan(changed, mesh))
  return rows


def main(argv: list[str]) -> None:
  """Prints tables, and writes JSON if asked to."""
  cli.reject_arguments(argv)
  values = flags.FLAGS
  config, what = values.config, _parse_what(values.what)
  compared = variants.parse(
    config, values.batch_size, values.precision, values.vary
  )
  configs = [variants.apply(config, variant) for variant in compared]
  for changed in configs:
    config_validation.validate(changed)
  cpu.prepare(*configs)
  mesh = sharding.create_mesh(values.devices)
  if MEMORY in what:
    rows = plan_memory(config, compared, mesh)
    result = {"machine": machine.describe(mesh), MEMORY: rows}
    tables = [report.memory_table(rows)]
  else:
    (variant,) = _require_one(compared)
    config = variants.apply(config, variant)
    with variants.use_precision(variant):
      result = measure(config, what, values.num_steps, mesh)
    tables = report.tables(result)
  cache = jax.config.jax_compilation_cache_dir
  if cache:
    tables.append(f"Programs may have been read from {cache}, not compiled.")
  result |= {
    "command": sys.argv,
    "config": configuration.flatten(config),
    "compilation_cache": cache,
  }
  print("\n\n".join([*tables, report.describe_machine(result["machine"])]))
  if values.output:
    run_files.write_json(values.output, result)
    print(f"Wrote {values.output}.")


def _parse_what(names: Sequence[str]) -> Sequence[str]:
  if list(names) == [ALL]:
    return _TIMED
  if list(names) == [MEMORY]:
    return [MEMORY]
  if not names or set(names) - set(_TIMED):
    raise ValueError(
      f"--what={','.join(names)} cannot be measured; give one or more of "
      f"{', '.join(_TIMED)}, or {ALL} for all of them, or {MEMORY}."
    )
  return names


def _require_one(
  compared: Sequence[variants.Variant],
) -> Sequence[variants.Variant]:
  if len(compared) > 1:
    raise ValueError(
      f"The flags list {len(compared)} combinations; times are of one at a "
      "time, and only --what=memory compares several."
    )
  return compared


def _define_flags() -> None:
  config_flags.DEFINE_config_file("config", None, "Config file, as for main.")
  flags.DEFINE_list(
    "what",
    [ALL],
    f"Of {', '.join(_TIMED)}; or {ALL} for these; or {MEMORY}, as planned.",
  )
  flags.DEFINE_list("batch_size", [], "Over all devices; of both steps.")
  flags.DEFINE_list(
    "precision", [], f"Of {', '.join(variants.PRECISIONS)}: config.model.dtype."
  )
  flags.DEFINE_multi_string(
    "vary", [], "Values of another key, such as model.num_slots=7,11."
  )
  flags.DEFINE_integer("devices", None, "The first N only; default: all.")
  flags.DEFINE_integer(
    "num_steps", 20, "Of each measurement, after warm-up.", lower_bound=1
  )
  flags.DEFINE_string("output", None, "JSON file with everything.")
  flags.mark_flag_as_required("config")


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
