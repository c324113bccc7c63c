"""Every config, at its own size, as far as shapes go."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import pytest

from slot_attention import config_validation
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train_step as train_step_lib

ROOT = pathlib.Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
# Their variants are those of clevr_mirror_slate.
_ALIKE = ("clevrtex_slate", "coco_slate", "shapestacks_slate")
VARIANTS = [
  pytest.param(
    name,
    variant,
    marks=[pytest.mark.slow] if variant and name in _ALIKE else [],
  )
  for name in NAMES
  for variant in (None, *importlib.import_module(f"configs.{name}").VARIANTS)
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_train_step_has_the_shapes_of_its_state(name, variant):
  module = importlib.import_module(f"configs.{name}")
  config = module.get_config(variant)
  mesh = sharding.create_mesh()
  config_validation.validate(config, num_devices=2)  # SLATE's batch is 50.
  task = tasks.create_task(config)
  state = train_step_lib.abstract_state(task, config, mesh)
  b, o = config.train.batch_size, config.data.num_targets
  batch = {
    "image": jax.ShapeDtypeStruct((b, *config.data.resolution, 3), jnp.float32),
    "target": jax.ShapeDtypeStruct((b, o, 19), jnp.float32),
  }
  step = train_step_lib.create_train_step(task, config)
  new_state, metrics = jax.eval_shape(step, state, batch)
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), new_state) == shapes
  assert metrics["loss"].shape == ()


@pytest.mark.parametrize("name", NAMES)
def test_header_tells_how_to_run_it(name):
  text = (ROOT / "configs" / f"{name}.py").read_text()
  assert f"--config=configs/{name}.py" in text.split('"""')[1]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_state_and_loss_stay_float32(dtype):
  from configs import clevr_set_prediction

  config = clevr_set_prediction.get_config("smoke")
  config.model.dtype = dtype
  task = tasks.create_task(config)
  state = train_step_lib.abstract_state(task, config, sharding.create_mesh())
  types = {x.dtype for x in jax.tree.leaves((state.params, state.opt_state))}
  assert types == {jnp.dtype("float32"), jnp.dtype("int32")}
