"""The vision transformer and its features against timm and PyTorch."""

import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import reference_arrays

from slot_attention import configuration
from slot_attention import features
from slot_attention.convert import timm
from slot_attention.modules import feature_resizing
from slot_attention.modules import mlp
from slot_attention.modules import vit

DATA = pathlib.Path(__file__).parents[1] / "data"
ARRAYS = dict(np.load(DATA / "dinosaur_torch_vit.npz"))


def _config(**kwargs):
  """The reference's transformer, cut off after its first block."""
  config = configuration.get_default().model.vit
  values = {"image_size": 32, "width": 48, "depth": 1, "num_heads": 3}
  config.update(values | {"final_norm": False} | kwargs)
  return config


def _state_dict(scale=1.0, arrays=ARRAYS):
  state_dict = {
    key.removeprefix("param/"): value
    for key, value in arrays.items()
    if key.startswith("param/")
  }
  for name, value in state_dict.items():
    if name.startswith(("cls_token", "pos_embed", "patch_embed")):
      state_dict[name] = value * np.float32(scale)
  return state_dict


def _variables(scale=1.0):
  return timm.to_variables(_state_dict(scale), features.vit_shapes(_config()))


# Inputs scaled by 0.003 show the epsilon of LayerNorm and the kind of GELU.
@pytest.mark.parametrize(("scale", "prefix"), [(1.0, ""), (0.003, "small/")])
def test_tokens(scale, prefix):
  images = features.preprocess(ARRAYS["in/image_uint8"], 32)
  tokens, state = features.create_vit(_config()).apply(
    _variables(scale), images, capture_intermediates=True
  )
  expected = ARRAYS[f"{prefix}block0"]
  assert tokens.dtype == jnp.float32
  np.testing.assert_allclose(
    tokens, expected, atol=5e-5 * np.abs(expected).max()
  )
  (norm,) = state["intermediates"]["norm"]["__call__"]
  (block,) = state["intermediates"]["block_0"]["__call__"]
  np.testing.assert_array_equal(tokens, block)
  full = features.create_vit(_config(final_norm=True))
  np.testing.assert_array_equal(full.apply(_variables(scale), images), norm)


@pytest.mark.parametrize(("scale", "prefix"), [(1.0, ""), (0.003, "small/")])
def test_what_the_first_block_takes(scale, prefix):
  images = features.preprocess(ARRAYS["in/image_uint8"], 32)
  tokens = features.create_vit(_config(depth=0)).apply(
    _variables(scale), images
  )
  expected = ARRAYS[f"{prefix}tokens_in"]
  np.testing.assert_allclose(
    tokens, expected, atol=2e-5 * np.abs(expected).max()
  )


def test_a_transformer_of_three_blocks():
  arrays = reference_arrays.load("dinosaur_torch/vit_tiny.npz")
  state_dict = _state_dict(arrays=arrays)
  images = features.preprocess(arrays["in/image_uint8"], 32)
  np.testing.assert_allclose(images, arrays["image_normalised"], atol=1e-6)
  for final_norm, name in ((True, "features"), (False, "block2")):
    config = _config(depth=3, final_norm=final_norm)
    variables = timm.to_variables(state_dict, features.vit_shapes(config))
    tokens = features.create_vit(config).apply(variables, images)
    expected = arrays[name]
    np.testing.assert_allclose(
      tokens, expected, atol=5e-5 * np.abs(expected).max()
    )
  config = _config(depth=3, final_norm=True)
  result = features.extract_features(
    variables, arrays["in/image_uint8"], config
  )
  np.testing.assert_array_max_ulp(
    np.asarray(result), arrays["patch_features_float16"], 1
  )


def test_final_norm():
  params = _variables()["params"]["norm"]
  norm = mlp.layer_norm("norm", vit.EPSILON)
  actual = norm.apply({"params": params}, ARRAYS["block2"])
  np.testing.assert_allclose(actual, ARRAYS["features"], atol=1e-5)


def test_features_are_rounded_patches_without_gradient():
  images = ARRAYS["in/image_uint8"]
  extract = jax.jit(
    lambda x: features.extract_features(_variables(), x, _config())
  )
  result = extract(images)
  assert result.dtype == jnp.float16
  expected = ARRAYS["block0"][:, 1:].astype(np.float16)
  np.testing.assert_array_max_ulp(np.asarray(result), expected, 1)
  floats = images / np.float32(127.5) - 1
  np.testing.assert_array_max_ulp(np.asarray(extract(floats)), expected, 1)
  gradient = jax.grad(lambda x: extract(x).astype(jnp.float32).sum())(floats)
  assert not np.any(gradient)


def test_bfloat16_stays_near():
  images = ARRAYS["in/image_uint8"]
  config = _config(dtype="bfloat16")
  result = features.extract_features(_variables(), images, config)
  expected = ARRAYS["block0"][:, 1:]
  error = np.abs(result.astype(np.float32) - expected).mean()
  assert 0 < error < 0.02 * np.abs(expected).mean()


@pytest.mark.parametrize(
  ("name", "crop", "clamp"),
  [
    ("normalised_bicubic_56", 64, False),
    ("normalised_bicubic_crop32_to_56", 32, False),
    ("oclf_clamped_then_normalised_56", 64, True),
  ],
)
def test_preprocessing(name, crop, clamp):
  images = ARRAYS["resize/image_uint8"][:, :crop, :crop]
  actual = features.preprocess(images, 56, clamp)
  np.testing.assert_allclose(
    actual[:, ::3, ::3], ARRAYS[f"resize/{name}"], atol=2e-5
  )


def test_an_image_of_the_right_size_is_left_alone():
  x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype(np.float32)
  np.testing.assert_allclose(
    feature_resizing.resize_bicubic(x, (8, 8)), x, atol=1e-6
  )


@pytest.mark.parametrize("old", [128, 256])
def test_rows_of_segmentations(old):
  rows = ARRAYS[f"segmentation_resize/index_{old}_to_224"]
  np.testing.assert_array_equal(feature_resizing.nearest_rows(old, 224), rows)
  labels = np.arange(old * old).reshape(1, old, old)
  actual = feature_resizing.resize_labels(jnp.asarray(labels), (224, 224))
  np.testing.assert_array_equal(actual[0], labels[0][rows[:, None], rows])
  # Beyond twice the size the rule would leave the image.
  assert feature_resizing.nearest_rows(4, 32).max() == 3


def test_masks_are_enlarged_as_published():
  masks = feature_resizing.upscale_masks(
    ARRAYS["mask_upscale/masks_28"][None], (224, 224)
  )[0]
  np.testing.assert_allclose(
    masks[:, ::7, ::7], ARRAYS["mask_upscale/masks_224_stride7"], atol=1e-6
  )
  wrong = masks.argmax(axis=0) != ARRAYS["mask_upscale/segmentation_224"]
  assert wrong.sum() <= 5


def test_images_of_another_size_are_an_error():
  with pytest.raises(ValueError, match=r"\[batch, 32, 32, 3\]"):
    features.create_vit(_config()).apply(
      _variables(), jnp.zeros((1, 16, 16, 3))
    )


@pytest.mark.parametrize("size", [(16, 8, 2, 4), (24, 4, 6, 12)])
def test_other_sizes(size):
  image_size, patch_size, num_heads, width = size
  config = ml_collections.ConfigDict(_config(init="random", seed=3))
  config.update(
    {
      "image_size": image_size,
      "patch_size": patch_size,
      "num_heads": num_heads,
      "width": width,
    }
  )
  variables = features.load_vit(config)
  frames = np.zeros((2, 20, 20, 3), np.uint8)
  result = features.extract_features(variables, frames, config)
  assert result.shape == (2, (image_size // patch_size) ** 2, width)
