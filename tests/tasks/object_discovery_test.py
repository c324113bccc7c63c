"""Object discovery against the published implementation."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import clevr_object_discovery
import slot_attention
from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import losses
from slot_attention import tasks
from slot_attention.convert import google_tf

DATA = pathlib.Path(__file__).parents[1] / "data"
WEIGHTS = dict(np.load(DATA / "google_tf_object_discovery_weights.npz"))
FORWARD = dict(np.load(DATA / "google_tf_object_discovery_forward.npz"))
PARAMS = google_tf.to_params(WEIGHTS)

# Their true gradient is zero: they shift the logits of all slots alike.
NULL_DIRECTIONS = ("norm_slots/beta", "decoder_cnn/layer_with_weights-5/bias")


def _images():
  scaled = FORWARD["image_uint8"] / np.float32(255.0) - np.float32(0.5)
  return scaled * np.float32(2.0)


@pytest.fixture(scope="module")
def forward():
  """Outputs, intermediates, loss and gradients on the published batch."""
  task = tasks.create_task(clevr_object_discovery.get_config())
  images = _images()

  def loss_fn(params):
    outputs, state = task.model.apply(
      {"params": params},
      images,
      slot_noise=FORWARD["noise"],
      capture_intermediates=True,
    )
    errors = losses.mean_squared_error(outputs["reconstruction"], images)
    return jnp.mean(errors), (outputs, state["intermediates"])

  (loss, aux), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
    PARAMS
  )
  return loss, grads, *aux


def test_parameters_are_those_of_the_original():
  task = tasks.create_task(clevr_object_discovery.get_config())
  params = jax.eval_shape(task.init, jax.random.key(0))["params"]
  assert jax.tree.map(lambda x: x.shape, params) == jax.tree.map(
    np.shape, PARAMS
  )
  assert sum(x.size for x in jax.tree.leaves(params)) == 890_308


def test_slots_and_attention(forward):
  _, _, outputs, _ = forward
  attention = outputs["attention"].reshape(2, 3, 7, 128, 128)
  rows = FORWARD["attn_grid_idx"][::4]
  attention = attention[..., rows, :][..., rows].transpose(1, 0, 3, 4, 2)
  np.testing.assert_allclose(attention, FORWARD["sub/attn_per_iter"], atol=1e-5)
  np.testing.assert_allclose(outputs["slots"], FORWARD["slots"], atol=1e-4)


@pytest.mark.parametrize("layer", range(6))
def test_decoder_layer(forward, layer):
  _, _, _, intermediates = forward
  (y,) = intermediates["decoder"][f"conv_transpose_{layer}"]["__call__"]
  y = y.reshape(2, 7, *y.shape[1:])[:1, :2]
  y = y if layer == 5 else jax.nn.relu(y)
  rows = FORWARD[f"decoder_cnn_{layer}_idx"]
  np.testing.assert_allclose(
    y[:, :, rows][:, :, :, rows],
    FORWARD[f"sub/decoder_cnn_{layer}"],
    atol=1e-4,
  )


def test_reconstruction_masks_and_loss(forward):
  loss, _, outputs, _ = forward
  rows = FORWARD["image_idx"]
  np.testing.assert_allclose(
    outputs["reconstruction"][:, ::4, ::4],
    FORWARD["recon_combined_stride4"],
    atol=2e-5,
  )
  np.testing.assert_allclose(
    outputs["masks"][:, :, rows][:, :, :, rows],
    FORWARD["sub/masks"][..., 0],
    atol=1e-5,
  )
  np.testing.assert_allclose(
    outputs["slot_reconstructions"][:, :, rows][:, :, :, rows],
    FORWARD["sub/recons"],
    atol=1e-4,
  )
  np.testing.assert_allclose(
    outputs["masks"].sum(axis=1), np.ones((2, 128, 128)), rtol=1e-5
  )
  np.testing.assert_allclose(loss, FORWARD["loss"], rtol=2e-6)


def test_gradients(forward):
  _, grads, _, _ = forward
  np.testing.assert_allclose(
    optax.tree.norm(grads), FORWARD["grad_global_norm"], rtol=2e-5
  )
  for i, key in enumerate(FORWARD["var_names"]):
    if any(part in key for part in NULL_DIRECTIONS):
      continue
    grad = grads
    for part in google_tf.parameter_path(str(key)).split("/"):
      grad = grad[part]
    np.testing.assert_allclose(
      np.linalg.norm(grad), FORWARD["grad_norms"][i], rtol=2e-4, err_msg=key
    )


def test_smoke_run(object_discovery_run):
  scalars = object_discovery_run.scalars
  assert scalars["eval/num_examples"] == 12
  assert scalars["eval/loss"] == scalars["eval/mse"] > 0
  assert -1 <= scalars["eval/ari_fg"] <= 1
  assert -1 <= scalars["eval/ari"] <= 1
  assert 0 <= scalars["eval/miou"] <= scalars["eval/mbo"] <= 1
  outputs = slot_attention.load(str(object_discovery_run.workdir))(
    np.zeros((2, 16, 16, 3)), None, 6
  )
  assert outputs["reconstruction"].shape == (2, 16, 16, 3)
  assert outputs["slot_reconstructions"].shape == (2, 6, 16, 16, 3)
  assert outputs["masks"].shape == (2, 6, 16, 16)
  np.testing.assert_allclose(outputs["masks"].sum(axis=1), 1.0, rtol=1e-5)
  assert outputs["slots_per_iteration"].shape == (2, 3, 6, 8)


@pytest.fixture(scope="module")
def small():
  """A small task, variables, and the outputs of two images."""
  task = tasks.create_task(clevr_object_discovery.get_config("smoke"))
  variables = jax.jit(task.init)(jax.random.key(0))
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (2, 16, 16, 3)).astype(np.float32)
  rngs = {"slots": jax.random.key(1)}
  outputs = jax.jit(task.predict, static_argnums=(3, 4))(
    variables, images, rngs, 5, 3
  )
  return task, variables, images, outputs


def test_every_iteration_is_decoded(small):
  task, variables, _, outputs = small
  detailed = jax.jit(task.figure_outputs)(variables, outputs)
  for name in ("reconstruction", "slot_reconstructions", "masks"):
    frames = detailed[f"{name}_per_iteration"]
    assert frames.shape == (2, 3, *outputs[name].shape[1:])
    np.testing.assert_allclose(frames[:, -1], outputs[name], atol=1e-5)
    assert np.abs(frames[:, 0] - frames[:, 1]).max() > 1e-5
  slots = outputs["slots_per_iteration"][:, 1]
  middle = task.model.apply(variables, slots, method="decode")
  np.testing.assert_allclose(
    detailed["masks_per_iteration"][:, 1], middle["masks"], atol=1e-5
  )


def test_scores_of_ids_above_the_number_of_objects(small):
  task, variables, images, outputs = small
  # What the model itself predicts, in ids as a source may have them: 6 to 10.
  labels = np.asarray(outputs["masks"]).argmax(axis=1)  # [b, h, w]
  batch = {
    "image": images,
    "segmentation": (labels + 6).astype(np.int32),
    "valid": np.ones(2, bool),
  }
  rngs = {"slots": jax.random.key(1)}
  step = jax.jit(task.eval_step, static_argnums=(3, 4))
  scores = step(variables, batch, rngs, 5, 3)
  for name in ("ari", "ari_fg", "mbo", "miou"):
    np.testing.assert_allclose(scores[name], [1.0, 1.0], atol=1e-6)
  batch["segmentation"][1, 0, 0] = 11
  scores = jax.device_get(step(variables, batch, rngs, 5, 3))
  with pytest.raises(ValueError, match="1 images hold ids above 10"):
    task.summarize(scores)


def test_images_without_objects_are_counted_not_averaged(small):
  task, *_ = small
  rows = {
    "mse": np.array([1.0, 3.0]),
    "ari": np.array([0.5, 1.0]),
    "mbo": np.array([0.25, np.nan]),
    "miou": np.array([np.nan, np.nan]),
  }
  assert task.summarize(rows) == {
    "loss": 2.0,
    "mse": 2.0,
    "ari": 0.75,
    "mbo": 0.25,
    "mbo_undefined": 1,
    "miou_undefined": 2,
  }
  # A loss that is not a number must be seen.
  assert np.isnan(task.summarize({"mse": np.array([1.0, np.nan])})["loss"])


def test_resolution_must_be_what_the_decoder_draws():
  config = clevr_object_discovery.get_config()
  config.data.resolution = (64, 64)
  with pytest.raises(configuration.ConfigError, match=r"\(128, 128\)"):
    config_validation.validate(config)
