"""Set prediction against the published implementation, stage by stage."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slot_attention import configuration
from slot_attention import losses
from slot_attention import optimizers
from slot_attention import tasks
from slot_attention import train_step as train_step_lib
from slot_attention.convert import google_tf

DATA = pathlib.Path(__file__).parents[1] / "data"
WEIGHTS = dict(np.load(DATA / "google_tf_set_prediction_weights.npz"))
FORWARD = dict(np.load(DATA / "google_tf_set_prediction_forward.npz"))
TRAIN = dict(np.load(DATA / "google_tf_set_prediction_train.npz"))
PARAMS = google_tf.to_params(WEIGHTS)

# Adds the same number to all slots' logits, so its true gradient is zero and
# Adam only follows rounding noise.
NULL_DIRECTION = "norm_slots/beta"


def _scaled(image_uint8):
  return (image_uint8 / np.float32(255.0) - np.float32(0.5)) * np.float32(2.0)


def _task(**model):
  config = configuration.get_default()
  config.model.update(model)
  return tasks.create_task(config)


def _leaf(tree, key):
  for part in google_tf.parameter_path(key).split("/"):
    tree = tree[part]
  return np.asarray(tree)


def _samples(array):
  flat = array.reshape(-1)
  return flat[np.linspace(0, flat.size - 1, 64).astype(np.int64)]


@pytest.fixture(scope="module")
def forward():
  """Outputs, intermediates, loss and gradients on the published batch."""
  task = _task()
  images = _scaled(FORWARD["image_uint8"])

  def loss_fn(params):
    outputs, state = task.model.apply(
      {"params": params},
      images,
      slot_noise=FORWARD["noise"],
      capture_intermediates=True,
    )
    per_example, matched = losses.set_loss(
      outputs["predictions"], FORWARD["target"]
    )
    return jnp.mean(per_example), (outputs, state["intermediates"], matched)

  (loss, aux), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
    PARAMS
  )
  return loss, grads, *aux


def test_parameters_are_those_of_the_original():
  variables = jax.eval_shape(_task().init, jax.random.key(0))
  assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(
    np.shape, PARAMS
  )
  assert sum(x.size for x in jax.tree.leaves(variables["params"])) == 380_755


def test_foreign_weights_with_another_name_are_refused():
  with pytest.raises(KeyError, match="encoder_rnn"):
    google_tf.to_params({"network/layer_with_weights-0/encoder_rnn/kernel": 0})


@pytest.mark.parametrize("stage", ["cnn", "pos", "layer_norm", "mlp"])
def test_encoder_stage(forward, stage):
  _, _, _, intermediates, _ = forward
  name = {"cnn": "encoder_cnn", "pos": "encoder_pos"}.get(stage, stage)
  (value,) = intermediates["tokens"][name]["__call__"]
  grid = FORWARD["grid_idx"]
  np.testing.assert_allclose(
    value[:, grid][:, :, grid], FORWARD[f"sub/encoder_{stage}"], atol=2e-5
  )


@pytest.mark.parametrize(
  ("name", "key"),
  [
    ("norm_inputs", "sub/sa_norm_inputs"),
    ("project_k", "sub/sa_k"),
    ("project_v", "sub/sa_v"),
  ],
)
def test_slot_attention_inputs(forward, name, key):
  _, _, _, intermediates, _ = forward
  (value,) = intermediates["slot_module"][name]["__call__"]
  grid = FORWARD["grid_idx"][::2]
  if name != "norm_inputs":
    value = value.inputs @ value.kernel
  value = value.reshape(2, 32, 32, 64)[:, grid][:, :, grid]
  np.testing.assert_allclose(value, FORWARD[key], atol=2e-5)


def test_attention_updates_and_slots_of_every_iteration(forward):
  _, _, outputs, intermediates, _ = forward
  attention = outputs["attention"].reshape(2, 3, 10, 32, 32)
  np.testing.assert_allclose(
    attention.transpose(1, 0, 3, 4, 2), FORWARD["sub/attn_per_iter"], atol=1e-5
  )
  slot_module = intermediates["slot_module"]
  iteration = slot_module["iteration"]
  updates = [updates for updates, _ in slot_module["normalization"]["__call__"]]
  np.testing.assert_allclose(updates, FORWARD["updates_per_iter"], atol=1e-4)
  np.testing.assert_allclose(
    iteration["gru"]["__call__"], FORWARD["gru_out_per_iter"], atol=1e-4
  )
  slots = [slots for slots, *_ in iteration["__call__"]]
  np.testing.assert_allclose(slots, FORWARD["slots_per_iter"][1:], atol=1e-4)
  np.testing.assert_allclose(outputs["slots"], FORWARD["slots"], atol=1e-4)


def test_predictions_loss_and_matching(forward):
  loss, _, outputs, _, (rows, columns) = forward
  np.testing.assert_allclose(
    outputs["predictions"], FORWARD["predictions"], atol=1e-5
  )
  np.testing.assert_allclose(loss, FORWARD["loss"], rtol=2e-6)
  real = FORWARD["target"][..., 18] == 1  # Padded rows are exact ties.
  assert real.sum() > 0
  np.testing.assert_array_equal(rows, FORWARD["match_indices"][:, 0])
  np.testing.assert_array_equal(
    np.asarray(columns)[real], FORWARD["match_indices"][:, 1][real]
  )


def test_gradients(forward):
  _, grads, _, _, _ = forward
  np.testing.assert_allclose(
    optax.tree.norm(grads), FORWARD["grad_global_norm"], rtol=2e-5
  )
  for i, key in enumerate(FORWARD["var_names"]):
    if NULL_DIRECTION in key:
      continue
    grad = _leaf(grads, str(key))
    np.testing.assert_allclose(
      np.linalg.norm(grad), FORWARD["grad_norms"][i], rtol=2e-4, err_msg=key
    )
    expected = FORWARD["grad_samples"][i]
    np.testing.assert_allclose(
      _samples(grad), expected, atol=1e-3 * np.abs(expected).max(), err_msg=key
    )


class _WithNoise:
  """The task, with each batch's own slot noise."""

  def __init__(self, task):
    self._task = task

  def loss(self, variables, batch, rngs):
    outputs = self._task.predict(
      variables, batch["image"], rngs, slot_noise=batch["noise"]
    )
    per_example, _ = losses.set_loss(outputs["predictions"], batch["target"])
    return jnp.mean(per_example), ({}, {})


def test_five_training_steps():
  config = configuration.get_default()
  config.optimizer.learning_rate = float(TRAIN["base_learning_rate"])
  for name in ("warmup_steps", "decay_rate", "decay_steps"):
    config.optimizer[name] = TRAIN[name].item()
  step = jax.jit(train_step_lib.create_train_step(_WithNoise(_task()), config))
  optimizer = optimizers.create_optimizer(config)
  state = train_step_lib.train_state_lib.TrainState(
    jnp.int32(0), PARAMS, {}, optimizer.init(PARAMS)
  )
  for i in range(5):
    batch = {
      "image": _scaled(TRAIN["image_uint8"][i]),
      "noise": TRAIN["noise"][i],
      "target": TRAIN["target"][i],
    }
    state, metrics = step(state, batch)
    for ours, theirs, tolerance in (
      ("loss", "loss", {"atol": 4e-6}),
      ("learning_rate", "lr", {"rtol": 1e-6}),
      ("grad_norm", "grad_global_norm", {"rtol": 2e-5}),
    ):
      np.testing.assert_allclose(
        metrics[ours], TRAIN[f"fresh/{theirs}"][i], **tolerance
      )
  for i, key in enumerate(TRAIN["var_names"]):
    if NULL_DIRECTION not in key:
      weights = _leaf(state.params, str(key))
      np.testing.assert_allclose(
        _samples(weights),
        TRAIN["fresh/final_weight_samples"][i],
        atol=2e-5,
        err_msg=key,
      )
