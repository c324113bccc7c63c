"""Alignments against PyTorch's definition; the factored layer is exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import convolutions


def _torch_conv(image, kernel, stride):
  """PyTorch's Conv2d with padding = kernel size // 2, by its definition."""
  size, margin = kernel.shape[0], kernel.shape[0] // 2
  padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)))
  rows = range(0, image.shape[0], stride)
  columns = range(0, image.shape[1], stride)
  return np.array(
    [
      [
        np.einsum("ijc,ijcf->f", padded[y : y + size, x : x + size], kernel)
        for x in columns
      ]
      for y in rows
    ]
  )


def _torch_conv_transpose(image, kernel, stride):
  """ConvTranspose2d, padding = size // 2, output_padding = stride - 1."""
  size, margin = kernel.shape[0], kernel.shape[0] // 2
  h, w, _ = image.shape
  canvas = np.zeros((h * stride + size, w * stride + size, kernel.shape[2]))
  for y in range(h):
    for x in range(w):
      window = np.einsum("ijfc,c->ijf", kernel, image[y, x])
      top, left = y * stride, x * stride
      canvas[top : top + size, left : left + size] += window
  return canvas[margin:, margin:][: h * stride, : w * stride]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", convolutions.PADDINGS)
@pytest.mark.parametrize(
  ("layer", "oracle"),
  [
    (
      lambda *args: convolutions.conv(*args, name=None),
      _torch_conv,
    ),
    (convolutions.ConvTranspose, _torch_conv_transpose),
  ],
)
def test_alignment(layer, oracle, padding, stride):
  image = np.random.default_rng(0).normal(size=(8, 6, 3)).astype(np.float32)
  layer = layer(4, 5, stride, padding, jnp.float32)
  result, variables = layer.init_with_output(jax.random.key(0), image[None])
  expected = oracle(image, np.array(variables["params"]["kernel"]), stride)
  assert result.shape[1:] == expected.shape
  # Without stride the two are one; with it "same" is elsewhere.
  if stride == 1 or padding == "torch":
    np.testing.assert_allclose(result[0], expected, atol=1e-5)
  else:
    assert np.abs(result[0] - expected).max() > 0.1


@pytest.mark.parametrize("size", [(12, 7), (5, 5), (6, 3), (2, 4), (1, 9)])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_factored_layer_is_the_plain_one(size, kernel_size):
  keys = jax.random.split(jax.random.key(1), 4)
  vectors = jax.random.normal(keys[0], (3, 4))
  plane = jax.random.normal(keys[1], (*size, 4))
  factored = convolutions.BroadcastConvTranspose(6, kernel_size)
  plain = convolutions.ConvTranspose(6, kernel_size, 1)
  variables = plain.init(keys[2], plane[None])
  cotangent = jax.random.normal(keys[3], (3, *size, 6))

  def value(layer, params, vectors, plane):
    return jnp.sum(cotangent * layer({"params": params}, vectors, plane))

  def plain_layer(variables, vectors, plane):
    return plain.apply(variables, vectors[:, None, None] + plane[None])

  with jax.default_matmul_precision("highest"):
    args = (variables["params"], vectors, plane)
    expected = jax.grad(value, (1, 2, 3))(plain_layer, *args)
    actual = jax.grad(value, (1, 2, 3))(factored.apply, *args)
    np.testing.assert_allclose(
      factored.apply(variables, vectors, plane),
      plain_layer(variables, vectors, plane),
      atol=1e-5,
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), actual, expected
  )


def test_factored_layer_initialises_as_the_plain_one():
  vectors, plane = jnp.zeros((2, 4)), jnp.zeros((7, 7, 4))
  key = jax.random.key(0)
  factored = convolutions.BroadcastConvTranspose(6, 5).init(key, vectors, plane)
  layer = convolutions.ConvTranspose(6, 5, 1)
  plain = layer.init(key, plane[None])
  assert jax.tree.structure(factored) == jax.tree.structure(plain)
  np.testing.assert_array_equal(
    factored["params"]["kernel"], plain["params"]["kernel"]
  )
