"""Slot Attention against the published arrays, and its symmetries."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.modules import gru
from slot_attention.modules import positions
from slot_attention.modules import slot_attention

DATA = pathlib.Path(__file__).parents[1] / "data"
LAYERS = dict(np.load(DATA / "google_tf_layers.npz"))


def _case(name):
  return {
    key.removeprefix(f"{name}/"): value
    for key, value in LAYERS.items()
    if key.startswith(f"{name}/")
  }


def _norm(case, name):
  return {"scale": case[f"{name}/gamma"], "bias": case[f"{name}/beta"]}


def _params(case):
  mlp = {
    f"dense_{i}": {
      "kernel": case[f"mlp/{i}/kernel"],
      "bias": case[f"mlp/{i}/bias"],
    }
    for i in range(2)
  }
  return {
    "norm_inputs": _norm(case, "norm_inputs"),
    "project_k": {"kernel": case["project_k/kernel"]},
    "project_v": {"kernel": case["project_v/kernel"]},
    "iteration": {
      "project_q": {"kernel": case["project_q/kernel"]},
      "norm_slots": _norm(case, "norm_slots"),
      "norm_mlp": _norm(case, "norm_mlp"),
      "mlp": mlp,
      "gru": {
        name: case[f"gru/{name}"]
        for name in ("kernel", "recurrent_kernel", "bias")
      },
    },
  }


def _module(**kwargs):
  return slot_attention.SlotAttention(
    slot_size=16, mlp_hidden_size=24, **kwargs
  )


def _random_case(num_slots=4, **kwargs):
  keys = jax.random.split(jax.random.key(0), 3)
  inputs = jax.random.normal(keys[0], (2, 30, 8))
  slots = jax.random.normal(keys[1], (2, num_slots, 16))
  module = _module(**kwargs)
  variables = module.init(keys[2], inputs, slots)
  return module, variables, inputs, slots


# "sharp" has slots that win almost nothing, so that size and place of epsilon
# matter: other conventions are off by more than 0.4 there.
@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("name", ["plain", "sharp"])
def test_equals_original(name, remat):
  case = _case(f"slot_attention_{name}")
  slots = case["slots_mu"] + np.exp(case["slots_log_sigma"]) * case["noise"]
  output = _module(
    num_iterations=int(case["num_iterations"]),
    epsilon=float(case["epsilon"]),
    remat=remat,
  ).apply({"params": _params(case)}, case["x"], slots)
  np.testing.assert_allclose(output.slots, case["slots"], atol=5e-5)


def test_gru_equals_original():
  case = _case("gru_cell")
  params = {name: case[name] for name in ("kernel", "recurrent_kernel", "bias")}
  state = gru.GRUCell().apply({"params": params}, case["h_prev"], case["x"])
  np.testing.assert_allclose(state, case["y"], atol=5e-6)


def test_position_embedding_equals_original():
  case = _case("soft_position_embed")
  params = {"dense": {"kernel": case["kernel"], "bias": case["bias"]}}
  y = positions.SoftPositionEmbed().apply({"params": params}, case["x"])
  np.testing.assert_allclose(y, case["y"], atol=5e-6)
  np.testing.assert_allclose(
    positions.build_grid((5, 4))[None], case["grid"], atol=1e-6
  )


def test_initial_gru_kernels_are_drawn_over_the_fused_matrix():
  params = gru.GRUCell().init(
    jax.random.key(0), jnp.zeros((1, 64)), jnp.zeros((1, 64))
  )["params"]
  limit = np.sqrt(6 / (64 + 192))
  assert 0.95 * limit < np.abs(params["kernel"]).max() <= limit
  rows = params["recurrent_kernel"]
  np.testing.assert_allclose(rows @ rows.T, np.eye(64), atol=1e-5)
  assert params["bias"].shape == (2, 192)


def test_slots_are_equivariant_and_inputs_invariant_to_order():
  module, variables, inputs, slots = _random_case()
  output = module.apply(variables, inputs, slots)
  order = np.array([2, 0, 3, 1])
  permuted = module.apply(variables, inputs, slots[:, order])
  np.testing.assert_allclose(permuted.slots, output.slots[:, order], atol=2e-5)
  np.testing.assert_allclose(
    permuted.attention, output.attention[:, :, order], atol=2e-5
  )
  shuffled = np.random.default_rng(0).permutation(inputs.shape[1])
  same = module.apply(variables, inputs[:, shuffled], slots)
  np.testing.assert_allclose(same.slots, output.slots, atol=2e-5)
  assert np.abs(output.slots[:, 0] - output.slots[:, 1]).max() > 0.1


def test_gradients_are_equivariant_too():
  module, variables, inputs, slots = _random_case()
  weights = jax.random.normal(jax.random.key(7), slots.shape)

  def loss(slots, weights):
    return jnp.sum(module.apply(variables, inputs, slots).slots * weights)

  order = np.array([2, 0, 3, 1])
  grads = jax.grad(loss)(slots, weights)
  permuted = jax.grad(loss)(slots[:, order], weights[:, order])
  np.testing.assert_allclose(permuted, grads[:, order], atol=1e-4)


@pytest.mark.parametrize("num_slots", [1, 4, 9])
@pytest.mark.parametrize("num_iterations", [1, 3, 7])
def test_any_number_of_slots_and_iterations(num_slots, num_iterations):
  module, variables, inputs, _ = _random_case()
  slots = jax.random.normal(jax.random.key(5), (2, num_slots, 16))
  output = module.apply(variables, inputs, slots, num_iterations)
  assert output.attention.shape == (2, num_iterations, num_slots, 30)
  assert output.slots_per_iteration.shape == (2, num_iterations, num_slots, 16)
  np.testing.assert_array_equal(output.slots, output.slots_per_iteration[:, -1])
  np.testing.assert_allclose(
    output.attention.sum(axis=2), np.ones((2, num_iterations, 30)), rtol=1e-5
  )


def test_no_iterations_is_an_error():
  module, variables, inputs, slots = _random_case()
  with pytest.raises(ValueError, match="num_iterations is 0"):
    module.apply(variables, inputs, slots, 0)


def test_bfloat16_keeps_islands_in_float32():
  module, variables, inputs, slots = _random_case()
  half = _module(dtype=jnp.bfloat16)
  output = half.apply(variables, inputs, slots)
  assert output.slots.dtype == output.attention.dtype == jnp.float32
  np.testing.assert_allclose(
    output.slots, module.apply(variables, inputs, slots).slots, atol=0.15
  )
  jaxpr = jax.make_jaxpr(half.apply)(variables, inputs, slots)
  types = _exp_types(jaxpr.jaxpr)
  assert types == {jnp.dtype(jnp.float32)}


def _exp_types(jaxpr):
  """Types of the inputs of every exponential, at any depth."""
  types = set()
  for eqn in jaxpr.eqns:
    if eqn.primitive.name in ("exp", "log", "rsqrt"):
      types.add(eqn.invars[0].aval.dtype)
    for value in eqn.params.values():
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        types |= _exp_types(inner)
  return types
