"""Slot Attention against the published arrays."""

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


def test_bfloat16_is_close():
  module, variables, inputs, slots = _random_case()
  half = _module(dtype=jnp.bfloat16)
  np.testing.assert_allclose(
    half.apply(variables, inputs, slots).slots,
    module.apply(variables, inputs, slots).slots,
    atol=0.15,
  )
