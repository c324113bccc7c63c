"""Counts by hand: of layers, of their gradients, and of whole models."""

import functools

import jax
import jax.numpy as jnp
import pytest

from configs import clevr_object_discovery
from configs import clevr_set_prediction
from configs import movi_c_dinosaur
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train_step
from slot_attention.benchmarking import definitions
from slot_attention.benchmarking import flops
from slot_attention.benchmarking import memory
from slot_attention.modules import convolutions

SQUARE = jax.ShapeDtypeStruct((8, 8), jnp.float32)
ONCE = 2 * 8**3  # A product of two of them.


def _shape(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def _forward(function, *args):
  return flops.forward_work(function, *args).flops


def _training(loss, variables, *args):
  return flops.training_work(loss, variables, *args).flops


def _product(w, x):
  return jnp.sum(x @ w)


@pytest.mark.parametrize(
  ("stride", "rows", "columns"), [(1, 9, 8), (2, 5, 4), (3, 3, 3)]
)
def test_strided_convolution(stride, rows, columns):
  def layer(x, kernel):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )

  count = _forward(layer, _shape(2, 9, 8, 3), _shape(5, 5, 3, 4))
  assert count == 2 * (2 * rows * columns * 4) * (5 * 5 * 3)


def test_grouped_convolution():
  def layer(x, kernel):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (1, 1),
      "SAME",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=2,
    )

  count = _forward(layer, _shape(1, 4, 4, 6), _shape(3, 3, 3, 8))
  assert count == 2 * (4 * 4 * 8) * (3 * 3 * 3)


@pytest.mark.parametrize("as_defined", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_transposed_convolution_without_the_zeros(stride, as_defined):
  layer = convolutions.ConvTranspose(3, 5, stride)
  x = _shape(2, 4, 6, 7)
  variables = jax.eval_shape(layer.init, jax.random.key(0), x)
  count = _forward(layer.apply, variables, x)
  if as_defined:
    with definitions.as_defined():
      count = _forward(layer.apply, variables, x)
  assert count == 2 * (2 * 4 * 6 * 7) * (5 * 5 * 3)


def test_first_layer_of_a_decoder_counts_as_defined():
  layer = convolutions.BroadcastConvTranspose(3, 5)
  args = _shape(16, 7), _shape(9, 8, 7)
  variables = jax.eval_shape(layer.init, jax.random.key(0), *args)
  with definitions.as_defined():
    count = _forward(layer.apply, variables, *args)
  assert count == 2 * (16 * 9 * 8 * 7) * (5 * 5 * 3)
  assert _forward(layer.apply, variables, *args) < count / 2


def test_products():
  assert _forward(jnp.matmul, _shape(5, 7), _shape(7, 3)) == 2 * 5 * 7 * 3
  attend = functools.partial(jnp.einsum, "bkd,bnd->bkn")
  count = _forward(attend, _shape(2, 3, 4), _shape(2, 5, 4))
  assert count == 2 * (2 * 3 * 5) * 4


def test_bytes():
  work = flops.forward_work(jnp.matmul, _shape(5, 7), _shape(7, 3))
  assert work.num_bytes == 4 * (5 * 7 + 7 * 3 + 5 * 3)
  half = jax.ShapeDtypeStruct((8, 8), jnp.bfloat16)
  assert flops.forward_work(jnp.matmul, half, half).num_bytes == 2 * 3 * 64
  work = flops.training_work(_product, SQUARE, SQUARE)
  assert work.num_bytes == 2 * 4 * 3 * 64


def test_first_layer_needs_no_gradient_of_its_input():
  def two(ws, x):
    return jnp.sum(jax.nn.relu(x @ ws[0]) @ ws[1])

  assert _training(_product, SQUARE, SQUARE) == 2 * ONCE
  assert _training(two, [SQUARE, SQUARE], SQUARE) == (2 + 3) * ONCE


def test_what_carries_no_gradient():
  def stopped(ws, x):
    return _product(ws[1], jax.lax.stop_gradient(x @ ws[0]))

  def rounded(ws, x):
    numbers = jnp.argmax(x @ ws[0], axis=-1)
    return _product(ws[1], jax.nn.one_hot(numbers, 8))

  def unused(ws, x):
    return _product(ws[1], x), x @ ws[0]

  for loss in (stopped, rounded, unused):
    assert _training(loss, [SQUARE, SQUARE], SQUARE) == (1 + 2) * ONCE, loss


def _loop(length):
  def loss(w, x):
    def step(x, _):
      return x @ w, None

    return jnp.sum(jax.lax.scan(step, x, None, length=length)[0])

  return loss


def test_scan():
  assert _forward(_loop(5), SQUARE, SQUARE) == 5 * ONCE
  # The carry is active from the second pass on, and counts as if always.
  assert _training(_loop(5), SQUARE, SQUARE) == 5 * 3 * ONCE


def test_gradient_that_reaches_a_loss_through_another_carry():
  def loss(w, x):
    # The product goes to the first one; only the third, which is the first of
    # two passes before, is in the loss.
    def step(carry, _):
      return (x @ w, carry[0], carry[1]), None

    zeros = jnp.zeros((8, 8))
    return jnp.sum(jax.lax.scan(step, (zeros,) * 3, None, length=4)[0][2])

  assert _training(loss, SQUARE, SQUARE) == 4 * 2 * ONCE


@jax.custom_vjp
def _own_gradient(w, x):
  return x @ w


_own_gradient.defvjp(
  lambda w, x: (x @ w, (w, x)), lambda saved, g: (saved[0] @ g @ g, g @ g @ g)
)


def test_how_gradients_are_computed_changes_nothing():
  def plain(w, x):
    return jnp.sum(jnp.tanh(x @ w) @ w)

  def own(w, x):
    return jnp.sum(_own_gradient(w, jnp.tanh(_own_gradient(w, x))))

  expected = (2 + 3) * ONCE
  for loss in (plain, jax.checkpoint(plain), jax.jit(plain), own):
    assert _training(loss, SQUARE, SQUARE) == expected


def test_the_larger_branch_counts():
  def branches(index, x):
    return jax.lax.switch(index, [lambda x: x, lambda x: x @ x @ x], x)

  index = jax.ShapeDtypeStruct((), jnp.int32)
  assert _forward(branches, index, SQUARE) == 2 * ONCE

  def loss(w, index):
    return jnp.sum(branches(index, w))

  assert _training(loss, SQUARE, index) == 3 * 2 * ONCE


def test_loop_of_unknown_length():
  def loop(x):
    return jax.lax.while_loop(lambda x: x[0, 0] < 1, lambda x: x @ x, x)

  with pytest.raises(ValueError, match="inside of 'while' cannot be counted"):
    _forward(loop, SQUARE)
  no_products = functools.partial(jax.lax.while_loop, jnp.any, jnp.sin)
  assert _forward(no_products, SQUARE) == 0


def test_shortcuts_of_one_platform_do_not_count():
  function = functools.partial(
    jax.lax.platform_dependent, cpu=lambda x: x @ x @ x, default=lambda x: x @ x
  )
  assert _forward(function, SQUARE) == _forward(lambda x: x @ x, SQUARE)


def _count(config):
  task, mesh = tasks.create_task(config), sharding.create_mesh()
  state = train_step.abstract_state(task, config, mesh)
  batch = memory.abstract_batch(config, mesh)
  work = definitions.train_step_work(task, state, batch)
  return work.flops / config.train.batch_size / 1e9


def test_clevr6():
  pixels, taps = 128 * 128, 5 * 5 * 64 * 64
  encoder = pixels * (3 * 3 * taps + 2 * 5 * 5 * 3 * 64)
  planes = sum((8 * 2**i) ** 2 for i in range(5))
  decoder = 7 * 3 * (planes * taps + pixels * 3 * 3 * 64 * 4)
  convolutions_only = 2 * (encoder + decoder) / 1e9
  assert convolutions_only == pytest.approx(125.9, abs=0.1)
  # The rest: the encoder's MLP, keys and values, and three iterations.
  rest = pixels * 64 * 64 * 4 + 3 * pixels * 64 * 7 * 2
  count = _count(clevr_object_discovery.get_config())
  assert count == pytest.approx(convolutions_only + 6 * rest / 1e9, rel=2e-3)


def test_set_prediction():
  config = clevr_set_prediction.get_config()
  count = _count(config)
  assert count == pytest.approx(4.22, abs=0.02)
  config.model.num_iterations = 5
  added = _count(config) - count
  # Two more iterations of 10 slots on 1,024 tokens, each of them read out: q,
  # GRU and MLP; the head.
  by_slot = 64 * (64 * 7 + 2 * 128) + 64 * (64 + 19)
  products = 2 * (2 * 1024 * 64 * 10 + 10 * by_slot)
  assert added == pytest.approx(2 * 3 * products / 1e9)


def test_shortcuts_of_a_decoder_of_features_change_nothing():
  config = movi_c_dinosaur.get_config("smoke")
  counts = []
  for config.model.remat in (False, True):
    counts.append(_count(config))
  assert counts[0] == counts[1] > 0
