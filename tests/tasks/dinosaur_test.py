"""DINOSAUR against paper C's code, and as a task of this project."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import movi_c_dinosaur
from slot_attention import losses
from slot_attention import optimizers
from slot_attention import tasks
from slot_attention.convert import conversion
from slot_attention.convert import embodied_vision
from slot_attention.modules import feature_decoder

DATA = pathlib.Path(__file__).parents[1] / "data"
ARRAYS = dict(np.load(DATA / "dinosaur_torch.npz"))
NORMALIZATIONS = {
  "weighted_mean": "mean",
  "weighted_sum": "constant",
  "layer_norm": "layer_norm",
  "batch_norm": "scalar_batch_norm_single",
}
# Their true gradients are zero, so that Adam's steps there are noise.
_NULL = ("norm_slots.bias", "mlp_decoder.6.bias")


def _case(normalization):
  case = {}
  for prefix in ("both/", f"{NORMALIZATIONS[normalization]}/"):
    case |= {
      key.removeprefix(prefix): value
      for key, value in ARRAYS.items()
      if key.startswith(prefix)
    }
  return case


def _config(normalization, remat=False):
  """The reference's sizes: 6x6 tokens of 48 features, 5 slots."""
  config = movi_c_dinosaur.get_config()
  config.normalization = normalization
  config.model.num_slots = 5
  config.model.slot_size = 16
  config.model.mlp_hidden_size = 64
  config.model.encoder_channels = (16,)
  config.model.decoder_channels = (32, 32, 32)
  config.model.vit.image_size = 48
  config.model.vit.width = 48
  config.model.remat = remat
  config.optimizer.schedule = "constant"
  conversion.adapt_config(config, "embodied_vision")
  return config


def _state_dict(case):
  return {
    key.removeprefix("param/"): value
    for key, value in case.items()
    if key.startswith("param/")
  }


def _get(variables, name):
  for part in embodied_vision.parameter_path(name).split("/"):
    variables = variables[part]
  return np.asarray(variables)


def _their_layout(name, value):
  """Our array as PyTorch has it, up to axes of length 1."""
  is_kernel = value.ndim == 2 and ".gru." not in name
  return value.T if is_kernel else value


def _assert_close(actual, expected, tolerance=5e-5):
  np.testing.assert_allclose(
    actual, expected, atol=tolerance * np.abs(expected).max(), rtol=0
  )


@pytest.fixture(
  scope="module",
  params=[*((name, False) for name in NORMALIZATIONS), ("batch_norm", True)],
  ids=str,
)
def trained(request):
  """One training pass and step on the published batch, and an evaluation."""
  case, config = _case(request.param[0]), _config(*request.param)
  task = tasks.create_task(config)
  variables = embodied_vision.to_variables(_state_dict(case))
  params = variables.pop("params")
  target = case["in/features_float16"].astype(np.float32)
  optimizer = optimizers.create_optimizer(config)

  @jax.jit
  def step(params, variables):
    def loss_fn(params):
      outputs, state = task.model.apply(
        {"params": params, **variables},
        target,
        slot_noise=case["in/noise"],
        train=True,
        mutable=[*variables],
      )
      errors = losses.mean_squared_error(outputs["reconstruction"], target)
      return jnp.mean(errors), (errors, outputs, dict(state))

    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    return loss, aux, grads, optax.apply_updates(params, updates)

  @jax.jit
  def evaluate_batch(variables, batch):
    outputs = task.predict(
      variables, batch["features"], {}, 9, None, case["in/noise_eval"]
    )
    return outputs

  loss, aux, grads, stepped = step(params, variables)
  outputs = evaluate_batch(
    {"params": params, **aux[2]}, {"features": case["in/features_float16"]}
  )
  return case, task, loss, aux, grads, stepped, outputs


def test_training_pass(trained):
  case, _, loss, (errors, outputs, state), *_ = trained
  np.testing.assert_allclose(loss, case["train/loss"], rtol=2e-5)
  np.testing.assert_allclose(errors, case["train/loss_per_image"], rtol=2e-5)
  _assert_close(outputs["slots"], case["train/slots"])
  _assert_close(outputs["attention"][:, -1], case["train/attention"])
  masks = outputs["masks"].reshape(2, 5, 36)
  _assert_close(masks, case["train/masks"])
  np.testing.assert_allclose(masks.sum(axis=1), np.ones((2, 36)), rtol=1e-5)
  _assert_close(outputs["reconstruction"][:, ::9], case["train/reconstruction"])
  if "train/running_mean" in case:
    statistics = state["batch_stats"]["slot_module"]["normalization"]
    for ours, theirs in (("mean", "mean"), ("variance", "var")):
      _assert_close(statistics[ours], case[f"train/running_{theirs}"][0])


def test_gradients_and_clipped_step(trained):
  case, _, _, _, grads, stepped, _ = trained
  norms = {
    key.removeprefix("train/gradnorm/"): value
    for key, value in case.items()
    if key.startswith("train/gradnorm/")
  }
  assert len(norms) >= 30
  for name, norm in norms.items():
    np.testing.assert_allclose(
      np.linalg.norm(_get({"params": grads}, name)),
      norm,
      rtol=2e-4,
      atol=2e-5 * max(norms.values()),
      err_msg=name,
    )
  total = case["train/grad_total_norm"]
  np.testing.assert_allclose(optax.tree.norm(grads), total, rtol=2e-4)
  start = "train/param_after_step/"
  names = [k.removeprefix(start) for k in case if k.startswith(start)]
  assert len(names) >= 4
  for name in names:
    if not name.endswith(_NULL):
      value = _their_layout(name, _get({"params": stepped}, name))
      expected = case[start + name]
      before = case[f"param/{name}"]
      np.testing.assert_allclose(
        value.reshape(expected.shape), expected, atol=1e-6, err_msg=name
      )
      assert np.abs(expected - before).max() > 1e-4


def test_evaluation_with_other_slots(trained):
  case, task, *_, outputs = trained
  _assert_close(outputs["slots"], case["eval9/slots"])
  _assert_close(outputs["masks"].reshape(2, 9, 36), case["eval9/masks"])
  _assert_close(outputs["attention"][:, -1], case["eval9/attention"])
  thinned = outputs["reconstruction"][:, ::9]
  _assert_close(thinned, case["eval9/reconstruction"])
  wrong = outputs["segments"] != case["eval9/segmentation_up8"]
  assert wrong.sum() <= 5
  attention = outputs["attention"]
  batch = {
    "segmentation": case["in/true_segmentation"].astype(np.int32),
    "valid": np.ones(2, bool),
  }
  # The scores of what was predicted: `eval_step` draws slots of its own.
  task = _Replay(task.config, outputs)
  scores = task.eval_step(
    {}, batch | {"features": case["in/features_float16"]}, {}, 9
  )
  np.testing.assert_allclose(scores["ari"], case["eval9/ari"], atol=2e-3)
  np.testing.assert_allclose(scores["ari_fg"], case["eval9/fg_ari"], atol=2e-3)
  np.testing.assert_allclose(
    scores["mse"], case["eval9/loss_per_image"], rtol=5e-5
  )
  assert attention.shape == (2, 3, 9, 36)
  wrong = task.attention_segments != case["eval9/attn_segmentation_up8"]
  assert wrong.sum() <= 5


class _Replay(tasks.dinosaur.Dinosaur):
  """Evaluates outputs that are there already."""

  def __init__(self, config, outputs):
    super().__init__(config)
    self._outputs = outputs
    maps = self.attention_maps(np.asarray(outputs["attention"])[:, -1])
    self.attention_segments = np.asarray(self._segments(maps))

  def predict(self, *args, **kwargs):
    return self._outputs


def test_slots_one_by_one_give_the_same_gradients():
  slots = jax.random.normal(jax.random.key(0), (2, 5, 8))
  weights = [
    jax.random.normal(jax.random.key(i), shape)
    for i, shape in enumerate([(2, 12, 6), (2, 5, 12)])
  ]

  def gradients(remat):
    module = feature_decoder.FeatureDecoder(12, 6, (16, 16), remat)
    variables = jax.jit(module.init)(jax.random.key(1), slots)

    def loss(variables, slots):
      outputs = module.apply(variables, slots)
      return sum(
        jnp.sum(x * y) for x, y in zip(outputs, weights, strict=True)
      ), outputs

    return jax.jit(jax.grad(loss, (0, 1), has_aux=True))(variables, slots)

  expected, actual = gradients(False), gradients(True)
  jax.tree.map(lambda x, y: _assert_close(x, y, 2e-6), actual, expected)


def test_a_state_dict_may_hold_the_transformer():
  state_dict = _state_dict(_case("weighted_mean"))
  expected = jax.tree.map(np.shape, embodied_vision.to_variables(state_dict))
  state_dict["encoder.blocks.0.norm1.weight"] = np.ones(48)
  variables = embodied_vision.to_variables(state_dict)
  assert jax.tree.map(np.shape, variables) == expected
  task = tasks.create_task(_config("weighted_mean"))
  shapes = jax.eval_shape(task.init, jax.random.key(0))
  conversion.trees.require_same_shapes(variables, shapes)


def test_weights_start_as_published():
  task = tasks.create_task(_config("weighted_mean"))
  params = jax.jit(task.init)(jax.random.key(0))["params"]
  bounds = {
    "tokens/mlp/dense_0/kernel": 48**-0.5,
    "tokens/mlp/dense_1/bias": 48**-0.5,
    "decoder/dense_0/kernel": 16**-0.5,
    "decoder/dense_3/kernel": 32**-0.5,
    "decoder/dense_3/bias": 32**-0.5,
    "initializer/mu": (6 / 32) ** 0.5,
    "initializer/log_sigma": (6 / 32) ** 0.5,
  }
  flat = conversion.trees.flatten(params)
  for path, bound in bounds.items():
    largest = np.abs(flat[path]).max()
    assert 0.7 * bound < largest <= bound, path
    assert abs(np.mean(flat[path])) < 0.3 * bound, path
  np.testing.assert_allclose(
    np.std(flat["decoder/position_embedding"]), 1.0, atol=0.1
  )


def test_the_published_number_of_parameters():
  task = tasks.create_task(movi_c_dinosaur.get_config())
  params = jax.eval_shape(task.init, jax.random.key(0))["params"]
  sizes = {
    name: sum(x.size for x in jax.tree.leaves(part))
    for name, part in params.items()
  }
  assert sizes["tokens"] == 2 * 768 + 768 * 768 + 768 + 768 * 128 + 128
  assert sizes["decoder"] == 784 * 128 + sum(
    (1 + n) * m
    for n, m in ((128, 1024), (1024, 1024), (1024, 1024), (1024, 769))
  )
  published = DATA / "vit_base_patch8_224_dino_state_dict.json"
  shapes = tasks.create_task(movi_c_dinosaur.get_config()).frozen_shapes()
  assert len(jax.tree.leaves(shapes)) == len(json.loads(published.read_text()))
