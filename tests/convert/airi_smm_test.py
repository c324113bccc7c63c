"""The published Slot Mixture Module's weights, forward and backward.

The file of weights and the arrays computed with it are too large to be stored
here: SLOT_ATTENTION_REFERENCE names the directory that holds smm_torch/ and
clevr_real_samples/.
"""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_arrays

from configs import clevr_set_prediction
import slot_attention
from slot_attention import tasks
from slot_attention.convert import airi_smm
from slot_attention.convert import conversion
from slot_attention.convert import torch_file
from slot_attention.convert import trees
from slot_attention.metrics import average_precision

NUM_STEPS = 8


@pytest.fixture(scope="module")
def reference():
  return reference_arrays.find("smm_torch").parent


@pytest.fixture(scope="module")
def state_dict(reference):
  return torch_file.load(str(reference / "smm_torch" / "e725.pth"))


def _config():
  config = clevr_set_prediction.get_config()
  conversion.adapt_config(config, "airi_smm")
  return config


def _unit(objects):
  """Coordinates from [-1, 1] to [0, 1], padding rows left at zero."""
  objects = np.array(objects)
  objects[..., :3] = (objects[..., :3] + 1) / 2
  return objects * (objects[..., 18:] != 0)


def _symmetric(predictions):
  predictions = np.array(predictions)
  predictions[..., :3] = predictions[..., :3] * 2 - 1
  return predictions


def _close(actual, expected, tolerance, message=""):
  np.testing.assert_allclose(
    actual,
    expected,
    rtol=0,
    atol=tolerance * np.abs(expected).max(),
    err_msg=message,
  )


def test_file_is_read_as_pytorch_reads_it(reference, state_dict):
  path = reference / "smm_torch" / "e725_state_dict.json"
  expected = json.loads(path.read_text())["tensors"]
  assert state_dict.keys() == expected.keys()
  for name, value in state_dict.items():
    assert list(value.shape) == expected[name]["shape"]
    digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    assert digest == expected[name]["sha256_float32_le"], name


@pytest.fixture(scope="module")
def forward(reference, state_dict):
  """Arrays of the published code; loss, outputs, inner values, gradients."""
  case = dict(np.load(reference / "smm_torch" / "checkpoint_forward.npz"))
  task = tasks.create_task(_config())
  images = case["in/image_uint8"] / np.float32(255) * 2 - 1

  def loss_fn(params):
    outputs, state = task.model.apply(
      {"params": params},
      images,
      slot_noise=case["in/noise"],
      capture_intermediates=True,
    )
    loss, _ = task.set_loss(outputs["predictions"], _unit(case["in/target"]))
    return jnp.mean(loss), (outputs, state["intermediates"])

  params = airi_smm.to_variables(state_dict)["params"]
  (loss, aux), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
    params
  )
  return case, loss, *aux, grads


def test_encoder_and_transformer(forward):
  case, _, _, intermediates, _ = forward
  tokens = intermediates["tokens"]
  for name, key in (
    ("encoder_cnn", "cnn_features"),
    ("layer_norm", "encoder_layer_norm"),
    ("mlp", "encoder_mlp"),
  ):
    (value,) = tokens[name]["__call__"]
    _close(value[:, ::4, ::4], case[f"out/{key}_stride4"], 5e-5, name)
  ((features, (mean, log_sigma)),) = intermediates["input_transformer"][
    "__call__"
  ]
  features = features.reshape(3, 32, 32, 64)[:, ::4, ::4]  # [b, h'w', c]
  _close(features, case["out/transformer_features_stride4"], 5e-5)
  _close(mean, case["out/init_mu"], 5e-5)
  _close(log_sigma, case["out/init_logsigma"], 5e-5)
  (slots,) = intermediates["initializer"]["__call__"]
  _close(slots, case["out/slots_init"], 5e-5)
  for name in "kv":
    (value,) = intermediates["slot_module"][f"project_{name}"]["__call__"]
    value = value.reshape(3, 32, 32, 64)[:, ::4, ::4]
    _close(value, case[f"out/{name}_stride4"], 5e-5)


def test_slots_and_responsibilities_of_every_step(forward):
  case, _, outputs, intermediates, _ = forward
  calls = intermediates["slot_module"]["iteration"]["__call__"]
  _close([slots for _, _, slots in calls], case["out/slots_steps"], 5e-4)
  gammas = outputs["attention"].reshape(3, NUM_STEPS, 10, 32, 32)
  np.testing.assert_allclose(
    gammas.swapaxes(0, 1)[..., ::4, ::4],
    case["out/gammas_steps_stride4"],
    atol=3e-3,
  )
  np.testing.assert_allclose(gammas[:, -1], case["out/gammas_last"], atol=3e-3)
  _close(outputs["slots"], case["out/slots_output"], 5e-4)


def test_predictions_loss_and_gradients(forward):
  case, loss, outputs, _, grads = forward
  np.testing.assert_allclose(
    _symmetric(outputs["predictions"]), case["out/prediction"], atol=1e-3
  )
  np.testing.assert_allclose(loss, case["out/loss"], rtol=2e-5)
  flat = trees.flatten(grads)
  compared = 0
  for name in airi_smm.weight_names():
    if "gru_mu" in name:
      continue
    norm = np.linalg.norm(flat[airi_smm.parameter_path(name)])
    expected = case[f"out/gradnorm/{name}"]
    np.testing.assert_allclose(
      norm, expected, rtol=5e-3, atol=1e-5, err_msg=name
    )
    compared += 1
  assert compared == 93
  gru = flat["slot_module/iteration/gru/kernel"]
  expected = case["out/gradnorm/slot_attention.gru_mu.weight_ih"]
  np.testing.assert_allclose(np.linalg.norm(gru), expected, rtol=5e-3)


def test_real_images_through_a_converted_run(reference, tmp_path):
  conversion.convert(
    "airi_smm",
    str(reference / "smm_torch" / "e725.pth"),
    clevr_set_prediction.get_config(),
    str(tmp_path),
  )
  case = np.load(reference / "clevr_real_samples" / "e725_predictions.npz")
  predictor = slot_attention.load(str(tmp_path))
  parts = [
    predictor(case["in/image_uint8"][i : i + 8], case["in/noise"][i : i + 8])
    for i in range(0, 40, 8)
  ]
  outputs = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
  np.testing.assert_allclose(
    _symmetric(outputs["predictions"]), case["out/prediction"], atol=2e-4
  )
  _close(outputs["slots"], case["out/slots_output"], 1e-3)
  sure = case["out/gamma_margin"] > 0.01
  assert sure.mean() > 0.2
  winners = outputs["attention"][:, -1].argmax(axis=1).reshape(40, 32, 32)
  np.testing.assert_array_equal(winners[sure], case["out/gamma_argmax"][sure])
  annotated = case["in/annotated"]
  precision = average_precision.average_precision(
    outputs["predictions"][annotated],
    _unit(case["in/target"][annotated]),
    [np.inf if t < 0 else t for t in case["thresholds"]],
  )
  # Many presences are 1.0, or nearly so: the order among them moves the last
  # value by up to 0.015 either way.
  np.testing.assert_allclose(
    list(precision.values()), case["out/ap"], atol=0.02
  )


def _state_dict():
  """Zeros with the published names and shapes."""
  config = _config()
  task = tasks.create_task(config)
  shapes = trees.flatten(jax.eval_shape(task.init, jax.random.key(0)))
  state = {}
  for name in airi_smm.weight_names():
    if "gru_mu" in name:
      bias = name.endswith(("bias_ih", "bias_hh"))
      state[name] = np.zeros((192,) if bias else (192, 64), np.float32)
      continue
    shape = shapes[f"params/{airi_smm.parameter_path(name)}"].shape
    axes = {2: (1, 0), 4: (3, 2, 0, 1)}.get(len(shape), range(len(shape)))
    state[name] = np.zeros([shape[i] for i in axes], np.float32)
  y, x = np.meshgrid(*[np.linspace(0, 1, 32)] * 2, indexing="ij")
  grid = np.stack([y, x, 1 - y, 1 - x], axis=-1)[None]
  return state | {"encoder_pos.grid": grid, "quantizer.w": np.zeros(3)}


def test_names_and_shapes_are_those_of_the_model():
  variables = airi_smm.to_variables(_state_dict())
  expected = jax.eval_shape(
    tasks.create_task(_config()).init, jax.random.key(0)
  )
  trees.require_same_shapes(variables, expected)


def test_gates_of_the_gru_change_places():
  weights = np.arange(6.0)[:, None] * np.ones((1, 2))  # r, r, z, z, n, n
  bias = np.arange(6.0)
  params = airi_smm.to_params(
    {
      "slot_attention.gru_mu.weight_ih": weights,
      "slot_attention.gru_mu.weight_hh": weights,
      "slot_attention.gru_mu.bias_ih": bias,
      "slot_attention.gru_mu.bias_hh": bias + 10,
    }
  )["slot_module"]["iteration"]["gru"]
  order = [2, 3, 0, 1, 4, 5]
  np.testing.assert_array_equal(params["kernel"][0], order)
  np.testing.assert_array_equal(params["bias"][1], np.add(order, 10))


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    (lambda s: s.pop("mlp.0.bias"), r"lacks mlp\.0\.bias;"),
    (
      lambda s: s.update({"decoder.weight": np.zeros(2)}),
      r"has, but should not, decoder\.weight;",
    ),
    (
      lambda s: s.update({"encoder_pos.grid": np.zeros((1, 32, 32, 4))}),
      "not the grid of positions",
    ),
  ],
)
def test_other_state_dicts_are_one_sentence(change, sentence):
  state = _state_dict()
  change(state)
  with pytest.raises(ValueError, match=sentence):
    airi_smm.to_variables(state)


def test_other_shapes_are_named():
  state = _state_dict() | {"mlp_coords.2.weight": np.zeros((4, 64))}
  with pytest.raises(
    ValueError,
    match=r"mlp_coordinates/dense_1/kernel \(64, 4\) instead of \(64, 3\)",
  ):
    trees.require_same_shapes(
      airi_smm.to_variables(state),
      jax.eval_shape(tasks.create_task(_config()).init, jax.random.key(0)),
    )
