"""SLATE as a task: blocked gradients, schedules, evaluation, runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import coco_slate
import slot_attention
from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import tasks
from slot_attention import train
from slot_attention.tasks import base


@pytest.fixture(scope="module")
def small():
  """A small task, its variables and a batch."""
  config = coco_slate.get_config("smoke")
  config.model.gradient = "all"
  task = tasks.create_task(config)
  variables = jax.jit(task.init)(jax.random.key(0))
  rng = np.random.default_rng(0)
  batch = {
    "image": rng.uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32),
    "segmentation": rng.integers(0, 4, (4, 16, 16)).astype(np.int32),
    "valid": np.ones(4, bool),
  }
  return config, task, variables, batch


@pytest.fixture(scope="module")
def loss(small):
  """The task's loss, compiled."""
  _, task, *_ = small
  return jax.jit(task.loss)


@pytest.fixture(scope="module")
def evaluate(small):
  """The task's evaluation, compiled."""
  _, task, *_ = small
  return jax.jit(task.eval_step)


def _rngs(seed=1):
  names = ("slots", "gumbel", "dropout")
  keys = jax.random.split(jax.random.key(seed), len(names))
  return dict(zip(names, keys, strict=True))


def test_no_gradient_passes_between_the_dvae_and_the_rest(small):
  _, task, variables, batch = small

  @jax.jit
  def gradients(params):
    def losses(params):
      _, (scalars, _) = task.loss(
        variables | {"params": params}, batch, _rngs()
      )
      return scalars["dvae_mse"], scalars["cross_entropy"]

    return jax.jacrev(losses)(params)

  of_error, of_tokens = gradients(variables["params"])
  for name in variables["params"]:
    from_error, from_tokens = (
      [np.abs(x).max() for x in jax.tree.leaves(tree[name])]
      for tree in (of_error, of_tokens)
    )
    reached, other = from_error, from_tokens
    if name != "dvae":
      reached, other = other, reached
    assert max(reached) > 1e-4, name
    assert max(other) == 0, name


def test_temperature_follows_the_images_seen(small, loss):
  config, _, variables, batch = small

  def train_on(progress):
    _, (scalars, state) = loss(
      variables | {"progress": progress}, batch, _rngs()
    )
    return float(scalars["temperature"]), state["progress"]

  assert config.train.batch_size == 2 * len(batch["image"])
  temperatures, progress = [], {}
  for step in (0, 40_000, 15_000):
    progress = {"images": jnp.array(8 * step, jnp.int32)}
    temperature, progress = train_on(progress)
    temperatures.append(temperature)
  np.testing.assert_allclose(temperatures, [1.0, 0.1, 0.55], atol=1e-6)
  # The second half of a divided batch, and then the next batch.
  half, progress = train_on(progress)
  following, _ = train_on(progress)
  assert half == temperatures[-1]
  np.testing.assert_allclose(following, 0.549953, atol=2e-7)


def test_evaluation_is_random_where_it_should_be(small, evaluate):
  _, task, variables, batch = small
  first, second = (evaluate(variables, batch, _rngs(seed)) for seed in (1, 2))
  for name in ("dvae_mse", "cross_entropy", "cross_entropy_argmax", "mse"):
    assert first[name].shape == (4,)
    assert np.abs(first[name] - second[name]).max() > 1e-3, name
  fixed_slots = _rngs(1) | {"gumbel": jax.random.key(7)}
  third = evaluate(variables, batch, fixed_slots)
  np.testing.assert_allclose(
    first["cross_entropy_argmax"], third["cross_entropy_argmax"], rtol=1e-5
  )
  assert np.abs(first["cross_entropy"] - third["cross_entropy"]).max() > 1e-3
  inputs = jax.jit(task.encode)(variables, batch["image"])
  again = evaluate(variables, batch, _rngs(1), None, None, inputs)
  for name, values in first.items():
    np.testing.assert_allclose(
      again[name], values, rtol=1e-5, atol=1e-5, err_msg=name
    )


def test_generated_images_are_those_of_the_error(small, evaluate):
  _, _, variables, batch = small
  outputs = evaluate(variables, batch, _rngs())
  generated = np.asarray(outputs[base.GENERATED], np.float64)
  assert generated.shape == batch["image"].shape
  assert np.abs(generated).max() <= 1
  errors = np.sum((generated - batch["image"]) ** 2 / 4, axis=(1, 2, 3))
  np.testing.assert_allclose(outputs["mse"], errors, rtol=1e-4)


def test_images_are_generated_only_if_wanted(small):
  config, task, variables, batch = small
  assert task.generates_images()
  config = config.copy_and_resolve_references()
  config.eval.autoregressive = False
  task = tasks.create_task(config)
  assert not task.generates_images()
  outputs = jax.eval_shape(task.eval_step, variables, batch, _rngs())
  assert not {"mse", base.GENERATED} & outputs.keys()


def test_scalars_of_a_split(small, evaluate):
  _, task, variables, batch = small
  outputs = jax.device_get(evaluate(variables, batch, _rngs()))
  del outputs[base.GENERATED]
  scalars = task.summarize(outputs)
  np.testing.assert_allclose(
    scalars["loss"],
    outputs["dvae_mse"].mean() + outputs["cross_entropy"].mean(),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    scalars["cross_entropy_per_token"] * 16, scalars["cross_entropy"], rtol=1e-6
  )
  # An untrained decoder knows nothing of its tokens.
  np.testing.assert_allclose(
    scalars["cross_entropy_per_token"], np.log(16), rtol=0.3
  )
  assert -1 <= scalars["ari_fg"] <= 1
  batch = batch | {"segmentation": batch["segmentation"] + 8}
  outputs = jax.device_get(evaluate(variables, batch, _rngs()))
  del outputs[base.GENERATED]
  with pytest.raises(ValueError, match="hold ids above 10"):
    task.summarize(outputs)


@pytest.mark.parametrize(
  "slot_module",
  ["slot_attention", pytest.param("slot_mixture", marks=pytest.mark.slow)],
)
def test_smoke_run(tmp_path, slot_module):
  variant = "smoke" if slot_module == "slot_attention" else "slot_mixture,smoke"
  config = coco_slate.get_config(variant)
  assert config.slot_module == slot_module
  config.optimizer.plateau_patience = 1
  scalars = train.train_and_evaluate(config, str(tmp_path))
  assert scalars["eval/num_examples"] == 12
  assert scalars["eval/mse"] > 0
  predictor = slot_attention.load(str(tmp_path))
  assert predictor.variables["progress"]["images"] == 4 * 8
  images = np.zeros((2, 16, 16, 3))
  outputs = predictor(images, num_slots=5)
  assert outputs["reconstruction"].shape == (2, 16, 16, 3)
  assert outputs["attention"].shape == (2, 2, 5, 16)
  assert outputs["slots"].shape == (2, 5, 8)
  assert "slot_reconstruction" not in outputs
  detailed = predictor(images, num_slots=5, detailed=True)
  assert detailed["slot_reconstruction"].shape == (2, 16, 16, 3)
  assert detailed["generated_tokens"].shape == (2, 16)
  np.testing.assert_array_equal(detailed["slots"], outputs["slots"])


def test_figures(small):
  _, task, variables, batch = small
  outputs = jax.jit(task.predict)(variables, batch["image"], _rngs())
  outputs = jax.device_get(jax.jit(task.figure_outputs)(variables, outputs))
  figures = task.figures(outputs, batch)
  assert figures.keys() == {"reconstructions", "attention"}
  for pictures in figures.values():
    assert len(pictures) == 4
    for picture in pictures:
      assert picture.dtype == np.uint8
      assert picture.ndim == 3
  scene = task.scenes(outputs, batch)[0]
  assert scene.num_iterations == 2
  assert len(scene.slots) == 4


@pytest.mark.parametrize(
  "slot_module", ["slot_mixture", "slot_mlp", "kmeans", "gmm"]
)
def test_other_slot_modules_fit_in(slot_module):
  config = coco_slate.get_config("smoke")
  config.slot_module = slot_module
  config.model.slot_mlp_resolution = (4, 4)
  if slot_module == "slot_mlp":
    config.model.num_iterations = 1
  config_validation.validate(config)
  task = tasks.create_task(config)
  variables = jax.eval_shape(task.init, jax.random.key(0))
  batch = {
    "image": jnp.zeros((4, 16, 16, 3)),
    "valid": jnp.ones(4, bool),
  }
  loss, _ = jax.eval_shape(task.loss, variables, batch, _rngs())
  assert loss.shape == ()
  outputs = jax.eval_shape(task.eval_step, variables, batch, _rngs())
  assert outputs["mse"].shape == (4,)


@pytest.mark.parametrize(
  ("key", "value", "sentence"),
  [
    ("model.encoder_strides", (2,), "strides of 4 in all"),
    ("data.resolution", (18, 16), "divisible by 4"),
    ("model.slate.num_heads", 3, "divisor of 8"),
    ("model.slate.dropout", 1.0, "less than 1"),
    ("model.stepwise_loss", True, "False with task = slate"),
  ],
)
def test_configs_that_cannot_work(key, value, sentence):
  config = coco_slate.get_config("smoke")
  config.update_from_flattened_dict({key: value})
  with pytest.raises(configuration.ConfigError, match=sentence):
    config_validation.validate(config)
