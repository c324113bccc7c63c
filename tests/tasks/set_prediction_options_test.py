"""Ranges of coordinates and kinds of heads, against paper B's code."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention import configuration
from slot_attention import losses
from slot_attention import tasks
from slot_attention.metrics import average_precision

DATA = pathlib.Path(__file__).parents[1] / "data"
ARRAYS = dict(np.load(DATA / "smm_torch_loss_and_ap.npz"))
CASES = ("random", "near", "clean")


def _task(**model):
  config = configuration.get_default()
  config.data.resolution = (16, 16)
  config.model.encoder_channels = (8, 8)
  config.model.encoder_strides = (2, 2)
  config.model.slot_size = 8
  config.model.num_slots = 4
  config.model.update(model)
  return tasks.create_task(config)


def _unit(objects):
  """Coordinates from [-1, 1] to our batches' [0, 1]."""
  return np.concatenate([(objects[..., :3] + 1) / 2, objects[..., 3:]], axis=-1)


def _target(name):
  target = _unit(ARRAYS[f"{name}/target"])
  return target * (target[..., 18:] != 0)  # Padding rows are zero.


@pytest.mark.parametrize("matching", ["optax", "scipy"])
@pytest.mark.parametrize("name", CASES)
def test_symmetric_loss_and_gradient_equal_paper_bs_code(name, matching):
  task = _task(coordinate_range="symmetric", matching=matching)

  def loss_fn(predictions):
    per_image, matched = task.set_loss(predictions, _target(name))
    return jnp.mean(per_image), (per_image, matched)

  (loss, (per_image, (rows, columns))), grads = jax.value_and_grad(
    loss_fn, has_aux=True
  )(jnp.asarray(_unit(ARRAYS[f"{name}/pred"])))
  np.testing.assert_allclose(loss, ARRAYS[f"{name}/loss"], rtol=1e-5)
  np.testing.assert_allclose(
    per_image, ARRAYS[f"{name}/loss_per_image"], rtol=1e-5
  )
  real = _target(name)[..., 18] != 0
  columns = np.take_along_axis(columns, np.argsort(rows, axis=1), axis=1)
  np.testing.assert_array_equal(columns[real], ARRAYS[f"{name}/match"][real])
  # Half the range: twice the derivative. Ties among padding rows may differ.
  expected = ARRAYS[f"{name}/grad_pred"] * np.r_[[2.0] * 3, [1.0] * 16]
  for image, is_real in enumerate(real):
    matched = columns[image, is_real]
    np.testing.assert_allclose(
      grads[image, matched], expected[image, matched], atol=2e-6
    )


@pytest.mark.parametrize("name", [*CASES, "more_slots"])
def test_average_precision_is_in_the_units_of_the_scene(name):
  thresholds = [np.inf if t < 0 else t for t in ARRAYS["thresholds"]]
  precision = average_precision.average_precision(
    _unit(ARRAYS[f"{name}/pred"]), _target(name), thresholds
  )
  np.testing.assert_allclose(
    list(precision.values()), ARRAYS[f"{name}/ap"], atol=1e-5
  )


def test_unit_range_is_the_plain_loss_and_scale_weighs_coordinates():
  rng = np.random.default_rng(0)
  predictions = rng.random((2, 4, 19), np.float32)
  target = rng.random((2, 3, 19), np.float32)
  target[0, 2] = 0
  plain, _ = losses.set_loss(predictions, target)
  unit, _ = _task().set_loss(predictions, target)
  np.testing.assert_array_equal(unit, plain)
  scaled, _ = _task(coordinate_scale=5.0).set_loss(predictions, target)
  factors = np.r_[[5.0] * 3, [1.0] * 16].astype(np.float32)
  expected, _ = losses.set_loss(predictions * factors, target * factors)
  np.testing.assert_allclose(scaled, expected, rtol=1e-6)
  # The origin of the symmetric range is the middle: padding lies there.
  symmetric, _ = _task(coordinate_range="symmetric").set_loss(
    np.full((1, 1, 19), 0.5, np.float32), np.zeros((1, 1, 19), np.float32)
  )
  np.testing.assert_allclose(symmetric, [16 * 0.125 / 19], rtol=1e-6)


def test_split_head_has_classes_that_sum_to_one():
  task = _task(head="split")
  variables = jax.jit(task.init)(jax.random.key(0))
  params = variables["params"]
  assert params["mlp_coordinates"]["dense_1"]["kernel"].shape == (64, 3)
  assert params["mlp_properties"]["dense_1"]["kernel"].shape == (64, 16)
  images = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))
  rngs = {"slots": jax.random.key(2)}
  outputs = jax.jit(task.predict)(variables, images, rngs)
  predictions = outputs["predictions"]
  assert predictions.shape == (2, 4, 19)
  assert 0 < predictions.min() < predictions.max() < 1
  for classes in average_precision.ATTRIBUTES.values():
    np.testing.assert_allclose(
      predictions[..., classes].sum(-1), np.ones((2, 4)), rtol=1e-5
    )
  assert np.abs(predictions[..., 3:18].sum(-1) - 4).max() < 1e-5


@pytest.mark.parametrize("module", ["slot_mixture", "gmm", "kmeans"])
def test_noise_of_mixtures_is_twice_as_wide(module):
  config = configuration.get_default()
  config.slot_module = module
  config.data.resolution = (16, 16)
  config.model.encoder_channels = (8, 8)
  config.model.encoder_strides = (2, 2)
  config.model.slot_size = 8
  task = tasks.create_task(config)
  variables = jax.jit(task.init)(jax.random.key(0))
  images = jnp.zeros((1, 16, 16, 3))
  width = 8 if module == "kmeans" else 16
  noise = np.random.default_rng(0).normal(size=(1, 6, width))
  predict = jax.jit(task.predict, static_argnums=(3, 4))
  outputs = predict(variables, images, {}, 6, 2, noise)
  assert outputs["slots"].shape == (1, 6, 8)
  assert outputs["attention"].shape == (1, 2, 6, 16)
  with pytest.raises(ValueError, match=rf"\(1, 6, {width}\)"):
    predict(variables, images, {}, 6, 2, noise[..., :-1])
