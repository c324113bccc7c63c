"""Encoder layers against the published arrays, at odd and even sizes."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import encoders
from slot_attention.modules import mlp

DATA = pathlib.Path(__file__).parents[1] / "data"
LAYERS = dict(np.load(DATA / "google_tf_layers.npz"))


@pytest.mark.parametrize(
  ("name", "stride"),
  [
    ("conv2d_k5_s2_12x12", 2),
    ("conv2d_k5_s2_9x10", 2),
    ("conv2d_k5_s1_9x10", 1),
  ],
)
def test_convolution_pads_as_the_original(name, stride):
  kernel, bias = LAYERS[f"{name}/kernel"], LAYERS[f"{name}/bias"]
  encoder = encoders.ConvEncoder((kernel.shape[-1],), (stride,))
  params = {"conv_0": {"kernel": kernel, "bias": bias}}
  y = encoder.apply({"params": params}, LAYERS[f"{name}/x"])
  np.testing.assert_allclose(y, nn.relu(LAYERS[f"{name}/y"]), atol=5e-5)


def test_layer_norm_has_the_originals_epsilon():
  case = "layer_norm_small_variance"
  params = {"scale": LAYERS[f"{case}/gamma"], "bias": LAYERS[f"{case}/beta"]}
  y = mlp.layer_norm(None).apply({"params": params}, LAYERS[f"{case}/x"])
  np.testing.assert_allclose(y, LAYERS[f"{case}/y"], atol=5e-6)


def test_any_resolution():
  tokens = encoders.ImageTokens((8, 8, 8, 8), (1, 2, 2, 1))
  variables = tokens.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
  for size, expected in (((16, 16), (4, 4)), ((35, 64), (9, 16))):
    y = tokens.apply(variables, jnp.zeros((2, *size, 3)))
    assert y.shape == (2, *expected, 8)


def test_initial_kernels_are_keras_glorot():
  variables = encoders.ConvEncoder((64, 64), (1, 1)).init(
    jax.random.key(0), jnp.zeros((1, 8, 8, 3))
  )["params"]
  for name, limit in (("conv_0", 0.0599), ("conv_1", 0.0433)):
    largest = np.abs(variables[name]["kernel"]).max()
    assert 0.95 * limit < largest < 1.01 * limit


def test_a_stride_for_every_layer():
  with pytest.raises(ValueError, match="one stride per layer"):
    encoders.ConvEncoder((8, 8), (1,)).init(
      jax.random.key(0), jnp.zeros((1, 8, 8, 3))
    )
