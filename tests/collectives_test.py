"""What eight devices say to each other in a training step."""

import collections
import importlib
import json
import os
import re
import subprocess
import sys

import pytest

_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)


def _count(config_name: str) -> dict[str, int]:
  """Counts the collectives of a config's compiled step, over all devices."""
  import jax

  from slot_attention import sharding
  from slot_attention import tasks
  from slot_attention import train_step as train_step_lib
  from slot_attention.data import pipeline

  name, _, variants = config_name.partition(":")
  config = importlib.import_module(f"configs.{name}").get_config(variants)
  mesh = sharding.create_mesh()
  config.train.batch_size = mesh.size
  with jax.set_mesh(mesh):
    task = tasks.create_task(config)
    source = pipeline.open_source(config.data, "train", mesh, config.model.vit)
    batch = next(source.train_batches(mesh.size, 0, 0))
    step = train_step_lib.create_train_step(task, config)
    state = train_step_lib.create_state(task, config, mesh)
    program = train_step_lib.lower_train_step(step, state, batch).compile()
  pattern = rf" ({'|'.join(_COLLECTIVES)})(?:-start)?\("
  return dict(collections.Counter(re.findall(pattern, program.as_text())))


@pytest.mark.parametrize(
  "config_name",
  [
    "clevr_set_prediction:smoke",
    "movi_c_dinosaur:smoke",
    pytest.param("clevr_object_discovery:smoke", marks=pytest.mark.slow),
    pytest.param("tetrominoes_object_discovery:smoke", marks=pytest.mark.slow),
    pytest.param("clevr_mirror_slate:smoke", marks=pytest.mark.slow),
  ],
)
def test_gradients_are_reduced_once_and_nothing_else_moves(config_name):
  flags = "--xla_force_host_platform_device_count=8"
  process = subprocess.run(
    [sys.executable, __file__, config_name],
    env={
      **os.environ,
      "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}",  # The last one counts.
      "PYTHONPATH": os.getcwd(),
    },
    capture_output=True,
    text=True,
  )
  assert not process.returncode, process.stderr
  assert json.loads(process.stdout.splitlines()[-1]) == {"all-reduce": 1}


if __name__ == "__main__":
  print(json.dumps(_count(sys.argv[1])))
