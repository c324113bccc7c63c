"""The Slot MLP baseline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import clevr_object_discovery
from configs import clevr_set_prediction
from slot_attention import train
from slot_attention.modules import slot_mlp

MODULE = slot_mlp.SlotMLP((8, 4), 3, 5, hidden_sizes=(6,), resolution=(2, 2))


def _run(inputs, num_slots=3, num_iterations=None):
  slots = jnp.zeros((inputs.shape[0], num_slots, 5))
  variables = MODULE.init(jax.random.key(0), inputs, jnp.zeros((2, 3, 5)))
  return MODULE.apply(variables, inputs, slots, num_iterations), variables


def test_shapes_and_sizes():
  output, variables = _run(jnp.ones((2, 32, 7)), num_iterations=1)
  assert output.slots.shape == (2, 3, 5)
  assert output.slots_per_iteration.shape == (2, 1, 3, 5)
  np.testing.assert_allclose(output.attention.sum(axis=2), 1.0, rtol=1e-6)
  shapes = jax.tree.map(np.shape, variables["params"])
  assert shapes["dense_0"]["kernel"] == (2 * 2 * 7, 6)
  assert shapes["dense_1"]["kernel"] == (6, 3 * 5)


def test_slots_have_an_order_and_see_positions():
  inputs = jax.random.normal(jax.random.key(1), (2, 32, 7))
  output, _ = _run(inputs)
  moved, _ = _run(inputs[:, ::-1])
  assert np.abs(output.slots - moved.slots).max() > 1e-2
  assert np.abs(output.slots[:, 0] - output.slots[:, 1]).max() > 1e-2


@pytest.mark.parametrize(("num_slots", "num_iterations"), [(4, None), (3, 2)])
def test_other_numbers_are_refused(num_slots, num_iterations):
  with pytest.raises(ValueError, match=r"slot_mlp has 3 slots"):
    _run(jnp.ones((2, 32, 7)), num_slots, num_iterations)


@pytest.mark.parametrize(
  "module", [clevr_object_discovery, clevr_set_prediction]
)
def test_it_stands_in_for_slot_attention(module, tmp_path):
  config = module.get_config("smoke")
  config.slot_module = "slot_mlp"
  config.model.num_iterations = 1
  config.train.num_steps = 2
  config.eval.num_figures = 1
  scalars = train.train_and_evaluate(config, str(tmp_path))
  assert np.isfinite(scalars["eval/loss"])
