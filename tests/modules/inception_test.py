"""The network of the FID, against Keras' of the same architecture."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import inception

# torchvision's inception_v3 without its classifiers.
NUM_PARAMETERS = 21_785_568


@pytest.fixture(scope="module")
def shapes():
  images = jax.ShapeDtypeStruct((1, 96, 96, 3), jnp.float32)
  return jax.eval_shape(inception.InceptionV3().init, jax.random.key(0), images)


def test_number_of_parameters(shapes):
  leaves = jax.tree.leaves(shapes["params"])
  assert sum(x.size for x in leaves) == NUM_PARAMETERS
  assert len(leaves) == 3 * 94


def test_features_of_any_size_of_images(shapes):
  images = jax.ShapeDtypeStruct((2, 64, 80, 3), jnp.float32)
  features = jax.eval_shape(inception.InceptionV3().apply, shapes, images)
  assert features.shape == (2, inception.NUM_FEATURES)


def test_averages_leave_the_padding_out():
  ones = jnp.ones((1, 3, 3, 1))
  np.testing.assert_allclose(inception._same_average_pool(ones), 1.0)
  low = inception._same_max_pool(-ones)
  np.testing.assert_allclose(low, -1.0)


def test_statistics_and_epsilon_of_the_normalization():
  module = inception.ConvNorm(1, (1, 1))
  variables = {
    "params": {
      "conv": {"kernel": jnp.ones((1, 1, 1, 1))},
      "bn": {"scale": jnp.array([3.0]), "bias": jnp.array([-1.0])},
    },
    "batch_stats": {"bn": {"mean": jnp.array([2.0]), "var": jnp.array([0.0])}},
  }
  x = jnp.array([2.5, 0.0]).reshape(1, 1, 2, 1)
  expected = [3.0 * 0.5 / np.sqrt(1e-3) - 1.0, 0.0]
  np.testing.assert_allclose(
    module.apply(variables, x).ravel(), expected, rtol=1e-5
  )


def _conv_names(tree, prefix=()):
  """Paths of the convolutions in the order in which the network has them."""
  if "conv" in tree:
    return [prefix]
  return [x for name in tree for x in _conv_names(tree[name], (*prefix, name))]


@pytest.mark.slow
def test_is_keras_network_up_to_its_last_block():
  """Its last block averages where that of the FID takes the maximum."""
  keras = pytest.importorskip("tensorflow").keras
  theirs = keras.applications.InceptionV3(weights=None, include_top=False)
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (1, 299, 299, 3)).astype(np.float32)
  model = inception.InceptionV3()
  variables = jax.jit(model.init)(jax.random.key(0), images)
  variables = jax.tree.map(np.asarray, variables)
  layers = [x for x in theirs.layers if isinstance(x, keras.layers.Conv2D)]
  norms = [
    x for x in theirs.layers if isinstance(x, keras.layers.BatchNormalization)
  ]
  order = {layer: _creation(layer.name) for layer in layers + norms}
  layers.sort(key=order.get)
  norms.sort(key=order.get)
  captured = {}

  def intercept(call, args, kwargs, context):
    result = call(*args, **kwargs)
    if isinstance(context.module, inception.ConvNorm):
      path = context.module.path
      if context.method_name == "__call__":
        captured.setdefault(path, None)
    elif isinstance(context.module, inception.Branches):
      captured[context.module.path] = result
    return result

  with nn.intercept_methods(intercept):
    jax.eval_shape(model.apply, variables, images)
  paths = [p for p, value in captured.items() if value is None]
  assert len(paths) == len(layers) == len(norms) == 94
  for path, layer, norm in zip(paths, layers, norms, strict=True):
    params, stats = variables["params"], variables["batch_stats"]
    for name in path:
      params, stats = params[name], stats[name]
    # Keras has no scale.
    params["conv"]["kernel"] = layer.get_weights()[0]
    beta, mean, var = (
      rng.uniform(low, high, x.shape).astype(np.float32)
      for (low, high), x in zip(
        ((-0.1, 0.1), (-0.1, 0.1), (0.3, 1.0)), norm.get_weights(), strict=True
      )
    )
    norm.set_weights([beta, mean, var])
    params["bn"]["bias"] = beta
    params["bn"]["scale"] = np.ones_like(beta)
    stats["bn"]["mean"], stats["bn"]["var"] = mean, var
  with nn.intercept_methods(intercept):
    model.apply(variables, images)
  for ours, name in (
    ("Mixed_5b", "mixed0"),
    ("Mixed_6a", "mixed3"),
    ("Mixed_6e", "mixed7"),
    ("Mixed_7a", "mixed8"),
    ("Mixed_7b", "mixed9"),
  ):
    part = keras.Model(theirs.input, theirs.get_layer(name).output)
    expected = part(images, training=False).numpy()
    got = np.asarray(captured[(ours,)])
    assert got.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got / scale, expected / scale, atol=2e-5)


def _creation(name):
  """Number of a layer: "conv2d_12" was made after "conv2d_11"."""
  number = name.rsplit("_", 1)[-1]
  return int(number) if number.isdigit() else 0
