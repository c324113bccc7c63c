"""Paper C's models with their published weights' names and layouts."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_pickles

from configs import clevr_object_discovery
from configs import clevr_set_prediction
from slot_attention import losses
from slot_attention import predictor
from slot_attention import tasks
from slot_attention.convert import conversion
from slot_attention.convert import embodied_vision

DATA = pathlib.Path(__file__).parents[1] / "data"
AUTOENCODER = dict(np.load(DATA / "normalization_torch_autoencoder.npz"))
PREDICTOR = dict(np.load(DATA / "normalization_torch_property_predictor.npz"))
VARIANTS = {"weighted_mean": "mean", "weighted_sum": "constant"}


def _case(arrays, normalization):
  case = {}
  for prefix in ("both/", f"{VARIANTS[normalization]}/"):
    case |= {
      key.removeprefix(prefix): value
      for key, value in arrays.items()
      if key.startswith(prefix)
    }
  return case


def _state_dict(case):
  return {
    key.removeprefix("param/"): value
    for key, value in case.items()
    if key.startswith("param/")
  }


def _images(case):
  return case["in/image_uint8"] / np.float32(255.0) * 2 - 1


def _configure(config, normalization, num_slots):
  config.normalization = normalization
  config.model.slot_size = 16
  config.model.num_slots = num_slots
  config.model.encoder_channels = (16, 16, 16, 16)
  config.model.decoder_channels = (16, 16, 16, 16, 16)
  return config


def _task(config, normalization, num_slots):
  config = _configure(config, normalization, num_slots)
  conversion.adapt_config(config, "embodied_vision")
  return tasks.create_task(config)


def _assert_close(actual, expected, tolerance=5e-5):
  np.testing.assert_allclose(
    actual, expected, atol=tolerance * np.abs(expected).max(), rtol=0
  )


def _assert_gradient_norms(grads, case):
  norms = {
    key.removeprefix("train/gradnorm/"): value
    for key, value in case.items()
    if key.startswith("train/gradnorm/")
  }
  assert len(norms) >= 36
  for name, norm in norms.items():
    grad = {"params": grads}
    for part in embodied_vision.parameter_path(name).split("/"):
      grad = grad[part]
    np.testing.assert_allclose(
      np.linalg.norm(grad),
      norm,
      rtol=2e-4,
      atol=2e-5 * max(norms.values()),
      err_msg=name,
    )


@pytest.mark.parametrize("normalization", VARIANTS)
def test_autoencoder(normalization):
  case = _case(AUTOENCODER, normalization)
  task = _task(clevr_object_discovery.get_config(), normalization, 4)
  variables = embodied_vision.to_variables(_state_dict(case))
  images = _images(case)

  def loss_fn(params):
    outputs = task.model.apply(
      {"params": params}, images, slot_noise=case["in/noise"], train=True
    )
    errors = losses.mean_squared_error(outputs["reconstruction"], images)
    return jnp.mean(errors), (errors, outputs)

  (loss, (errors, outputs)), grads = jax.jit(
    jax.value_and_grad(loss_fn, has_aux=True)
  )(variables["params"])
  np.testing.assert_allclose(loss, case["train/loss"], rtol=2e-5)
  np.testing.assert_allclose(errors, case["train/loss_per_image"], rtol=2e-5)
  _assert_close(outputs["slots"], case["train/slots"])
  _assert_close(
    outputs["reconstruction"][:, ::4, ::4],
    case["train/reconstruction_stride4"],
  )
  _assert_close(
    outputs["slot_reconstructions"][:, :, ::8, ::8],
    case["train/slot_recons_stride8"],
  )
  _assert_close(outputs["masks"][:, :, ::8, ::8], case["train/masks_stride8"])
  attention = outputs["attention"][:, -1].reshape(2, 4, 128, 128)
  _assert_close(attention[:, :, ::4, ::4], case["train/attn_stride4"])
  _assert_gradient_norms(grads, case)


@pytest.mark.parametrize("normalization", VARIANTS)
def test_autoencoder_with_other_slots_and_iterations(normalization):
  case = _case(AUTOENCODER, normalization)
  task = _task(clevr_object_discovery.get_config(), normalization, 4)
  variables = embodied_vision.to_variables(_state_dict(case))
  outputs = task.predict(
    variables, _images(case), {}, 6, 5, case["in/noise_eval"]
  )
  _assert_close(outputs["slots"], case["eval6_5iter/slots"])
  _assert_close(
    outputs["reconstruction"][:, ::4, ::4],
    case["eval6_5iter/reconstruction_stride4"],
  )
  differing = outputs["masks"].argmax(1) != case["eval6_5iter/mask_argmax"]
  assert differing.sum() <= 5


@pytest.mark.parametrize("normalization", VARIANTS)
def test_property_predictor(normalization):
  case = _case(PREDICTOR, normalization)
  task = _task(clevr_set_prediction.get_config(), normalization, 10)
  variables = embodied_vision.to_variables(_state_dict(case))
  order = embodied_vision.PROPERTY_ORDER
  assert sorted(order) == list(range(19))

  def loss_fn(params):
    outputs = task.model.apply(
      {"params": params},
      _images(case),
      slot_noise=case["in/noise"],
      train=True,
    )
    per_image, matching = losses.set_loss(
      outputs["predictions"], case["in/target"][..., order]
    )
    # Theirs is the mean over the matched pairs, ours the sum over 10 of them.
    return jnp.mean(per_image) / 10, (outputs, matching)

  (loss, (outputs, _)), grads = jax.jit(
    jax.value_and_grad(loss_fn, has_aux=True)
  )(variables["params"])
  np.testing.assert_allclose(loss, case["train/loss"], rtol=2e-5)
  _assert_close(outputs["slots"], case["train/slots"])
  _assert_close(outputs["predictions"], case["train/predictions"][..., order])
  _assert_gradient_norms(grads, case)
  outputs = task.predict(
    variables, _images(case), {}, 13, None, case["in/noise_eval"]
  )
  _assert_close(outputs["slots"], case["eval13/slots"])
  _assert_close(outputs["predictions"], case["eval13/predictions"][..., order])


def test_all_parameters_are_covered():
  for arrays, config, slots in (
    (AUTOENCODER, clevr_object_discovery.get_config(), 4),
    (PREDICTOR, clevr_set_prediction.get_config(), 10),
  ):
    task = _task(config, "weighted_mean", slots)
    shapes = jax.eval_shape(task.init, jax.random.key(0))["params"]
    state_dict = _state_dict(_case(arrays, "weighted_mean"))
    params = embodied_vision.to_variables(state_dict)["params"]
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)


def test_foreign_names_are_named():
  with pytest.raises(ValueError, match=r"transformer\.weight"):
    embodied_vision.to_variables({"transformer.weight": np.zeros((2, 2))})


def test_a_file_becomes_a_run_that_predicts_the_same(tmp_path):
  case = _case(AUTOENCODER, "weighted_mean")
  state_dict = {
    f"model.{name}": value for name, value in _state_dict(case).items()
  }
  file = torch_pickles.write_state_dict(
    tmp_path / "checkpoint.pth", state_dict | {"optimizer.lr": np.ones(1)}
  )
  config = _configure(clevr_object_discovery.get_config(), "weighted_mean", 4)
  workdir = str(tmp_path / "run")
  conversion.convert("embodied_vision", file, config, workdir)
  outputs = predictor.load(workdir)(
    case["in/image_uint8"], slot_noise=case["in/noise"]
  )
  _assert_close(outputs["slots"], case["train/slots"])
  _assert_close(
    outputs["reconstruction"][:, ::4, ::4],
    case["train/reconstruction_stride4"],
  )


def test_a_file_without_the_model_is_refused(tmp_path):
  file = torch_pickles.write_state_dict(
    tmp_path / "other.pth", {"weight": np.ones(3)}
  )
  with pytest.raises(ValueError, match=r"holds 0 arrays called"):
    embodied_vision.read(file)
