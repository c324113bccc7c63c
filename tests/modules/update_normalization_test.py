"""The update normalisations against paper C's published code."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.convert import embodied_vision
from slot_attention.modules import initializers
from slot_attention.modules import slot_attention
from slot_attention.modules import update_normalization

ARRAYS = dict(
  np.load(
    pathlib.Path(__file__).parents[1] / "data" / "normalization_torch.npz"
  )
)
NAMES = sorted(update_normalization.NORMALIZATIONS)


def _case(name):
  return {
    key.removeprefix(f"{name}/"): value
    for key, value in ARRAYS.items()
    if key.startswith(f"{name}/")
  }


def _variables(case):
  """The slot module's variables; its buffers are fresh."""
  variables = embodied_vision.to_variables(
    {
      f"slot_attention.{key.removeprefix('param/')}": value
      for key, value in case.items()
      if key.startswith("param/")
    }
  )
  return {name: tree["slot_module"] for name, tree in variables.items()}


def _module(name, **kwargs):
  return slot_attention.SlotAttention(
    slot_size=32,
    mlp_hidden_size=64,
    normalization=name,
    num_train_slots=5,
    layer_norm_epsilon=1e-5,
    **kwargs,
  )


def _train(module, variables, case, number):
  """One training pass; returns the output and the updated variables."""
  inputs, slots = case[f"in/inputs{number}"], case[f"in/slots{number}"]
  output, state = module.apply(
    variables, inputs, slots, train=True, mutable=["batch_stats"]
  )
  return output, {**variables, **state}


def _assert_gradients(case, prefix, grads, slack=2e-4):
  start = f"{prefix}/gradnorm/"
  norms = {
    key.removeprefix(start): value
    for key, value in case.items()
    if key.startswith(start) and "slots_mu" not in key
    if "slots_logsigma" not in key
  }
  assert len(norms) >= 16
  for name, norm in norms.items():
    path = embodied_vision.parameter_path(f"slot_attention.{name}")
    grad = {"params": {"slot_module": grads}}
    for part in path.split("/"):
      grad = grad[part]
    np.testing.assert_allclose(
      np.linalg.norm(grad),
      norm,
      rtol=slack,
      atol=slack * max(norms.values()),
      err_msg=name,
    )


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_training_pass(name, remat):
  case = _case(name)
  module = _module(name, remat=remat)
  output, _ = _train(module, _variables(case), case, 0)
  expected = case["explicit/train0/slots"]
  np.testing.assert_allclose(
    output.slots, expected, atol=5e-5 * np.abs(expected).max()
  )
  np.testing.assert_allclose(
    output.attention[:, -1], case["explicit/train0/attn"], atol=5e-5
  )


# "last": the published code's implicit differentiation.
@pytest.mark.parametrize("gradient", ["all", "last"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients(name, gradient):
  case = _case(name)
  variables = _variables(case)

  def loss_fn(params, slots):
    output, _ = _train(
      _module(name, gradient=gradient),
      {**variables, "params": params},
      {**case, "in/slots0": slots},
      0,
    )
    return jnp.sum(output.slots * case["in/cot"])

  loss, (grads, slots_grad) = jax.value_and_grad(loss_fn, (0, 1))(
    variables["params"], jnp.asarray(case["in/slots0"])
  )
  prefix = "explicit/train0" if gradient == "all" else "implicit/train0"
  np.testing.assert_allclose(loss, case[f"{prefix}/loss"], rtol=1e-4, atol=1e-4)
  _assert_gradients(case, prefix, grads)
  assert (np.abs(slots_grad).max() > 0) == (gradient == "all")


@pytest.mark.parametrize("name", NAMES)
def test_small_inputs_show_the_layer_norms_epsilon(name):
  case = _case(name)
  output, _ = _train(
    _module(name),
    _variables(case),
    {
      "in/inputs0": case["in/inputs_small"],
      "in/slots0": case["in/slots_small"],
    },
    0,
  )
  expected = case["explicit/train_small/slots"]
  np.testing.assert_allclose(
    output.slots, expected, atol=5e-5 * np.abs(expected).max()
  )


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_with_other_slots_and_iterations(name):
  case = _case(name)
  variables = _variables(case)
  if name == "batch_norm":
    for number in range(3):
      _, variables = _train(_module(name), variables, case, number)
      for ours, theirs in (("mean", "mean"), ("variance", "var")):
        np.testing.assert_allclose(
          variables["batch_stats"]["normalization"][ours],
          case[f"explicit/train{number}/running_{theirs}"][0],
          rtol=1e-5,
        )
  module = _module(name)
  output = module.apply(variables, case["in/inputs3"], case["in/slots3"])
  expected = case["explicit/eval/slots"]
  scale = np.abs(expected).max()
  np.testing.assert_allclose(output.slots, expected, atol=5e-5 * scale)
  initializer = initializers.GaussianInitializer(5, 32)
  parameters = {
    "mu": case["param/slots_mu"],
    "log_sigma": case["param/slots_logsigma"],
  }
  slots = initializer.apply(
    {"params": parameters}, 2, num_slots=8, noise=case["in/noise8"]
  )
  output = module.apply(variables, case["in/inputs3"], slots, 5)
  expected = case["explicit/eval_noise_8slots/slots"]
  scale = np.abs(expected).max()
  np.testing.assert_allclose(output.slots, expected, atol=5e-5 * scale)


def test_batch_statistics_are_those_of_the_global_batch():
  case = _case("batch_norm")
  variables = _variables(case)
  inputs = np.concatenate([case["in/inputs0"], case["in/inputs1"]])
  slots = np.concatenate([case["in/slots0"], case["in/slots1"]])
  mesh = jax.make_mesh(
    (4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharded = jax.device_put(
    (inputs, slots), jax.NamedSharding(mesh, jax.P("data"))
  )

  @jax.jit
  def run(inputs, slots):
    return _train(
      _module("batch_norm"),
      variables,
      {"in/inputs0": inputs, "in/slots0": slots},
      0,
    )

  (one, stats), (four, sharded_stats) = run(inputs, slots), run(*sharded)
  np.testing.assert_allclose(four.slots, one.slots, atol=1e-4)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5),
    sharded_stats["batch_stats"],
    stats["batch_stats"],
  )
