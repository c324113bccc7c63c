"""SLATE's dVAE, piece by piece, against the published implementation."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import dvae

PIECES = dict(
  np.load(pathlib.Path(__file__).parents[1] / "data" / "slate_torch_pieces.npz")
)
VOCAB = 7


def test_pixel_shuffle_is_pytorchs():
  np.testing.assert_array_equal(
    dvae.pixel_shuffle(PIECES["pixel_shuffle/in"], 2),
    PIECES["pixel_shuffle/out"],
  )


def test_blocks_normalise_over_the_whole_image():
  params = {
    "conv": {"kernel": jnp.eye(6)[None, None]},
    "norm": {
      "scale": PIECES["group_norm/weight"],
      "bias": PIECES["group_norm/bias"],
    },
  }
  y = dvae.ConvBlock(6).apply({"params": params}, PIECES["group_norm/in"])
  np.testing.assert_allclose(y, PIECES["group_norm/relu_out"], atol=1e-5)


@pytest.mark.parametrize("temperature", ["1.0", "0.5", "0.1"])
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_relaxed_samples(temperature, kind):
  sample = dvae.relaxed_sample(
    jax.nn.log_softmax(PIECES["gumbel/logits"]),
    PIECES["gumbel/noise"],
    float(temperature),
    straight_through=kind == "hard",
  )
  expected = PIECES[f"gumbel/{kind}_tau{temperature}"]
  np.testing.assert_allclose(sample, expected, atol=1e-5)


def test_tokens_are_those_that_relaxed_samples_are_nearest_to():
  tokens = dvae.sample_tokens(PIECES["gumbel/logits"], PIECES["gumbel/noise"])
  assert tokens.dtype == jnp.int32
  np.testing.assert_array_equal(
    tokens, PIECES["gumbel/soft_tau0.5"].argmax(axis=-1)
  )


def test_straight_through_has_the_gradient_of_the_relaxed_sample():
  logits, noise = PIECES["gumbel/logits"], PIECES["gumbel/noise"]
  weights = jax.random.normal(jax.random.key(0), logits.shape)

  def gradient(straight_through):
    return jax.grad(
      lambda x: jnp.sum(
        weights * dvae.relaxed_sample(x, noise, 0.5, straight_through)
      )
    )(logits)

  assert np.abs(gradient(False)).max() > 1e-2
  np.testing.assert_allclose(gradient(True), gradient(False), atol=1e-6)


@pytest.fixture(scope="module")
def model():
  model = dvae.DiscreteVAE(VOCAB)
  grid = jnp.zeros((1, 2, 3, VOCAB))
  return model, {
    "params": {
      "encoder": model.init(
        jax.random.key(0), jnp.zeros((1, 8, 12, 3)), method="encode"
      )["params"]["encoder"],
      "decoder": model.init(jax.random.key(1), grid, method="decode")["params"][
        "decoder"
      ],
    }
  }


def test_numbers_of_tokens_are_drawn_as_one_hots(model):
  model, variables = model
  tokens = jax.random.randint(jax.random.key(2), (2, 2, 3), 0, VOCAB)
  drawn = model.apply(variables, tokens, method="decode")
  assert drawn.shape == (2, 8, 12, 3)
  one_hots = jax.nn.one_hot(tokens, VOCAB)
  expected = model.apply(variables, one_hots, method="decode")
  assert np.abs(expected).max() > 0.1
  np.testing.assert_allclose(drawn, expected, atol=1e-5)


def test_encoder_gives_a_distribution_for_every_patch(model):
  model, variables = model
  images = jax.random.uniform(jax.random.key(3), (2, 8, 12, 3))
  log_probabilities = model.apply(variables, images, method="encode")
  assert log_probabilities.shape == (2, 2, 3, VOCAB)
  np.testing.assert_allclose(
    jnp.exp(log_probabilities).sum(axis=-1), np.ones((2, 2, 3)), rtol=1e-5
  )
