"""The decoder that draws slots one by one against the one that draws all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention import sharding
from slot_attention.benchmarking import flops
from slot_attention.modules import decoders


def _decoders(strides):
  resolution = (4, 3) if strides[0] > 1 else (8, 6)
  return [
    decoders.SpatialBroadcastDecoder(resolution, (5, 6), strides, remat=remat)
    for remat in (False, True)
  ]


def _loss(decoder, variables, slots):
  colors, logits = decoder.apply(variables, slots)
  assert colors.shape == (*slots.shape[:2], 8, 6, 3)
  image, masks = decoders.combine_slots(colors, logits)
  return jnp.mean(image**2) + jnp.mean(masks[:, 0] ** 3)


@pytest.mark.parametrize("strides", [(2, 1), (1, 1)])
@pytest.mark.parametrize("num_devices", [1, 4])
def test_one_by_one_is_all_at_once(strides, num_devices):
  plain, remat = _decoders(strides)
  slots = jax.random.normal(jax.random.key(0), (4, 3, 7))
  variables = remat.init(jax.random.key(1), slots)
  expected = jax.value_and_grad(_loss, (1, 2))(plain, variables, slots)
  mesh = sharding.create_mesh(num_devices)
  with jax.set_mesh(mesh):
    function = jax.jit(
      lambda *args: jax.value_and_grad(_loss, (1, 2))(remat, *args)
    )
    actual = function(
      jax.device_put(variables, sharding.replicated(mesh)),
      jax.device_put(slots, sharding.batched(mesh)),
    )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7),
    actual,
    expected,
  )


def test_memory_does_not_grow_with_the_number_of_slots():
  def planned(decoder, num_slots):
    slots = jax.ShapeDtypeStruct((2, num_slots, 7), jnp.float32)
    variables = jax.eval_shape(decoder.init, jax.random.key(0), slots)
    function = jax.jit(jax.grad(lambda *args: _loss(decoder, *args)))
    plan = function.lower(variables, slots).compile().memory_analysis()
    return plan.temp_size_in_bytes

  plain, remat = _decoders((2, 1))
  few, many = planned(remat, 2), planned(remat, 16)
  # What grows is the result: colors, logits, masks, and their gradients.
  assert many - few < 0.4 * (planned(plain, 16) - planned(plain, 2))


def test_one_by_one_counts_as_much():
  plain, remat = _decoders((2, 1))
  slots = jnp.zeros((4, 3, 7))
  variables = plain.init(jax.random.key(0), slots)
  mesh = sharding.create_mesh(4)

  def count(decoder):
    return flops.training_work(
      lambda *args: _loss(decoder, *args), variables, slots
    ).flops

  # The embedding of positions is counted for every slot and device.
  expected = pytest.approx(count(plain), rel=1e-2)
  assert count(remat) == expected
  with jax.set_mesh(mesh):
    assert count(remat) == expected
