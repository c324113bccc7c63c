"""The convolutions' own gradients against those that JAX derives."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import convolution_ops
from slot_attention.modules import kernel_gradient
from slot_attention.modules import value_rows
from slot_attention.modules import winograd

# Kernel size, stride, rows and columns, channels in and out, padding. The last
# two have kernel gradients by planes: an image at once, row by row; the three
# before them by bands: one, two, and four of which one is of padding alone.
# Those of 129 and 30 columns take four images one by one and in twos.
CASES = [
  (5, 1, (9, 7), (3, 4), ((2, 2), (2, 2))),
  (5, 2, (9, 6), (3, 4), ((2, 2), (1, 2))),
  (5, 2, (8, 8), (2, 3), ((2, 2), (2, 2))),
  (3, 3, (7, 11), (2, 3), ((1, 1), (0, 1))),
  (1, 1, (5, 4), (3, 2), ((0, 0), (0, 0))),
  (3, 1, (6, 7), (2, 3), ((-1, 2), (0, -2))),
  (5, 2, (9, 10), (2, 3), ((0, 0), (0, 0))),
  (5, 2, (9, 6), (8, 9), ((2, 2), (1, 2))),
  (3, 1, (3, 129), (32, 6), ((1, 1), (1, 1))),
  (5, 2, (5, 60), (8, 32), ((2, 2), (1, 2))),
  (5, 2, (3, 4), (5, 5), ((1, 1), (5, 4))),
  (3, 1, (6, 65), (2, 32), ((-1, 2), (0, -1))),
  (5, 2, (61, 131), (16, 32), ((2, 2), (1, 2))),
  (3, 1, (40, 128), (31, 32), ((1, 40), (1, 1))),
  (3, 1, (7, 5), (64, 4), ((1, 1), (0, 2))),
  (5, 1, (37, 61), (33, 2), ((2, 2), (2, 2))),
]
# Of many channels, with and without rows that no tile of four has, phases of
# unlike length, and images that are taken in twos.
MANY_CHANNELS = [
  (5, 1, (9, 7), (32, 33), ((2, 2), (2, 2))),
  (5, 2, (11, 9), (33, 32), ((2, 2), (1, 2))),
  (5, 2, (16, 6), (32, 32), ((1, 2), (1, 2))),
  (5, 3, (18, 9), (32, 32), ((0, 0), (1, 1))),
  (4, 1, (8, 5), (32, 32), ((1, 2), (2, 1))),
  (3, 1, (8, 6), (64, 32), ((-1, 2), (0, -2))),
  (3, 1, (4, 5), (32, 64), ((1, 1), (1, 1))),
  (3, 1, (53, 53), (32, 32), ((1, 1), (1, 1))),
]


def _plain(inputs, kernel, stride, padding):
  if min(map(min, padding)) < 0:
    edges = [(0, 0, 0), *((*sides, 0) for sides in padding), (0, 0, 0)]
    inputs, padding = jax.lax.pad(inputs, 0.0, edges), ((0, 0), (0, 0))
  return jax.lax.conv_general_dilated(
    inputs,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _arrays(case, batch_size=4):
  size, stride, resolution, (channels, features), padding = case
  keys = jax.random.split(jax.random.key(0), 3)
  inputs = jax.random.normal(keys[0], (batch_size, *resolution, channels))
  kernel = jax.random.normal(keys[1], (size, size, channels, features))
  shape = jax.eval_shape(
    lambda *args: _plain(*args, stride, padding), inputs, kernel
  ).shape
  return inputs, kernel, jax.random.normal(keys[2], shape), stride, padding


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _gradients(convolve, inputs, kernel, cotangent, stride, padding):
  result, transpose = jax.vjp(
    lambda *args: convolve(*args, stride, padding), inputs, kernel
  )
  return result, *transpose(cotangent)


def _assert_close(actual, expected, rtol=1e-5):
  for x, y in zip(actual, expected, strict=True):
    scale = np.abs(np.asarray(y, np.float32)).max()
    np.testing.assert_allclose(
      np.asarray(x, np.float32) / scale,
      np.asarray(y, np.float32) / scale,
      atol=rtol,
    )


@pytest.mark.parametrize("case", CASES + MANY_CHANNELS)
def test_result_and_gradients_are_those_of_jax(case):
  arrays = _arrays(case)
  with jax.default_matmul_precision("highest"):
    _assert_close(
      _gradients(convolution_ops.convolve, *arrays), _gradients(_plain, *arrays)
    )


@pytest.mark.parametrize(
  ("kernel_size", "stride", "before", "channels"),
  [
    (kernel_size, stride, before, channels)
    for kernel_size, stride in itertools.product((3, 5), (1, 2, 3, 5))
    if stride <= kernel_size
    for before in range(kernel_size - stride + 1)
    for channels in ((3, 4), (33, 32))
    if channels == (3, 4) or before == (kernel_size - stride) // 2
  ],
)
def test_transposed_is_the_gradient_of_the_convolution(
  kernel_size, stride, before, channels
):
  keys = jax.random.split(jax.random.key(0), 3)
  features, channels = channels
  kernel_shape = (kernel_size, kernel_size, channels, features)
  inputs = jax.random.normal(keys[0], (2, 6, 7, features))
  kernel = jax.random.normal(keys[1], kernel_shape)
  images = jax.random.normal(keys[2], (2, 6 * stride, 7 * stride, channels))
  sides = ((before, kernel_size - stride - before),) * 2

  @jax.jit
  def actual(inputs, kernel, images):
    result, derive = jax.vjp(
      lambda *args: convolution_ops.transpose(
        *args, stride, sides, images.shape[1:3]
      ),
      inputs,
      kernel,
    )
    return result, *derive(images)

  def convolve(images, kernel):
    return _plain(images, kernel, stride, sides)

  outputs, derive = jax.vjp(convolve, images, kernel)
  transposed, gradient = derive(inputs)
  _assert_close(actual(inputs, kernel, images), (transposed, outputs, gradient))


def _forward(convolve, inputs, kernel, cotangent, stride, padding):
  del cotangent
  return convolve(inputs, kernel, stride, padding)


@pytest.mark.parametrize(
  ("module", "way", "function", "cases"),
  [
    (winograd, "convolve", _forward, MANY_CHANNELS),
    (winograd, "kernel_gradient", _gradients.__wrapped__, MANY_CHANNELS),
    (kernel_gradient, "_by_bands", _gradients.__wrapped__, CASES[-5:-2]),
    (kernel_gradient, "_by_planes", _gradients.__wrapped__, CASES[-2:]),
    # With a stride, or of few inputs.
    (value_rows, "convolve", _forward, CASES[-5:-3]),
  ],
)
def test_ways_are_taken_where_they_are_fast(
  monkeypatch, module, way, function, cases
):
  original = getattr(module, way)
  taken = []
  for case in CASES + MANY_CHANNELS:
    inputs, kernel, cotangent, stride, padding = _arrays(case)

    def note(*args, case=case, **kwargs):
      taken.append(case)
      return original(*args, **kwargs)

    monkeypatch.setattr(module, way, note)
    jax.eval_shape(
      functools.partial(
        function, convolution_ops.convolve, stride=stride, padding=padding
      ),
      inputs,
      kernel,
      cotangent,
    )
  assert taken == list(cases)


def test_bands_stay_in_the_cache():
  """Set prediction's first layer, of whose result a row has 32 KiB."""
  kernel = (5, 5)
  inputs = jax.ShapeDtypeStruct((2, 128, 128, 3), jnp.float32)
  cotangent = jax.ShapeDtypeStruct((2, 128, 128, 64), jnp.float32)
  padding = ((2, 2), (2, 2))
  text = str(
    jax.make_jaxpr(
      lambda *args: kernel_gradient.compute(*args, kernel, 1, padding)
    )(inputs, cotangent)
  )
  assert text.count("conv_general_dilated[") == 6


@pytest.mark.parametrize("case", CASES[-4:] + MANY_CHANNELS[-1:])
@pytest.mark.parametrize("transform", ["vmap", "remat", "scan", "again"])
def test_under_transformations(case, transform):
  *arrays, stride, padding = _arrays(case, 2)
  convolve = functools.partial(
    convolution_ops.convolve, stride=stride, padding=padding
  )

  def gradients(inputs, kernel, cotangent, convolve=convolve):
    return jax.vjp(convolve, inputs, kernel)[1](cotangent)

  stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), arrays)
  expected = jax.vmap(
    functools.partial(
      gradients, convolve=lambda x, y: _plain(x, y, stride, padding)
    )
  )(*stacked)
  if transform == "vmap":
    actual = jax.vmap(gradients)(*stacked)
  elif transform == "remat":
    remat = functools.partial(gradients, convolve=jax.checkpoint(convolve))
    actual = jax.vmap(remat)(*stacked)
  elif transform == "scan":
    actual = jax.lax.map(lambda x: gradients(*x), stacked)
  else:  # The gradient is linear in the cotangent: so is its own.
    inputs, kernel, cotangent = arrays
    linear = functools.partial(gradients, inputs, kernel)
    _, transpose = jax.vjp(lambda x: linear(x)[0], cotangent)
    actual = transpose(inputs)
    expected = (_plain(inputs, kernel, stride, padding),)
  _assert_close(actual, expected, rtol=2e-5)


@pytest.mark.parametrize("case", [CASES[-1], CASES[-4]])
def test_bfloat16_is_as_near_as_the_plain_one(case):
  *arrays, stride, padding = _arrays(case, 2)
  expected = _gradients(_plain, *arrays, stride, padding)
  half = [x.astype(jnp.bfloat16) for x in arrays]
  actual = _gradients(convolution_ops.convolve, *half, stride, padding)
  assert {x.dtype for x in actual} == {jnp.dtype(jnp.bfloat16)}
  _assert_close(actual, expected, rtol=2e-2)


# The last one's images are taken one by one.
@pytest.mark.parametrize(
  "case",
  [
    *CASES[-4:-1],
    MANY_CHANNELS[1],
    (3, 1, (65, 65), (32, 32), ((1, 1), (1, 1))),
  ],
)
def test_devices_keep_their_images_and_reduce_once(case):
  *arrays, stride, padding = _arrays(case, 8)
  inputs, kernel, cotangent = arrays
  mesh = jax.make_mesh(
    (4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  rows, whole = (jax.NamedSharding(mesh, x) for x in (jax.P("data"), jax.P()))

  def gradients(inputs, kernel, cotangent):
    return _gradients(
      convolution_ops.convolve, inputs, kernel, cotangent, stride, padding
    )

  with jax.set_mesh(mesh):
    compiled = (
      jax.jit(
        gradients,
        in_shardings=(rows, whole, rows),
        out_shardings=(rows, rows, whole),
      )
      .lower(*arrays)
      .compile()
    )
    actual = compiled(
      jax.device_put(inputs, rows),
      jax.device_put(kernel, whole),
      jax.device_put(cotangent, rows),
    )
  text = compiled.as_text()
  assert text.count(" all-reduce(") == 1
  for other in ("all-gather", "all-to-all", "collective-permute"):
    assert other not in text
  _assert_close(actual, _gradients(_plain, *arrays, stride, padding))


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("case", [CASES[7], MANY_CHANNELS[0]])
def test_accelerators_get_plain_convolutions(case, platform):
  *arrays, stride, padding = _arrays(case, 2)
  function = jax.jit(
    lambda *args: _gradients(convolution_ops.convolve, *args, stride, padding)
  )
  text = function.trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
  assert text.count("stablehlo.convolution") == 3
  assert "stablehlo.while" not in text and "dot_general" not in text
