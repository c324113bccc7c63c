"""The Slot Mixture Module against its published code and the paper's text."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.convert import airi_smm
from slot_attention.convert import trees
from slot_attention.modules import initializers
from slot_attention.modules import input_transformer
from slot_attention.modules import slot_mixture

DATA = pathlib.Path(__file__).parents[1] / "data"
SLOT_SIZE, HIDDEN_SIZE, NUM_SLOTS = 32, 48, 5
_FAIR_NAMES = {
  "slots_mu": "initializer/mu",
  "slots_logsigma": "initializer/log_sigma",
}


def _load(name):
  return dict(np.load(DATA / f"smm_torch_{name}.npz"))


def _path(name):
  """Theirs -> ours; their module stands alone in these files."""
  return _FAIR_NAMES.get(name) or airi_smm.parameter_path(
    f"slot_attention.{name}"
  )


def _params(case):
  theirs = {
    key.removeprefix("param/"): value
    for key, value in case.items()
    if key.startswith("param/")
  }
  if "slots_mu" in theirs:
    del theirs["to_v.weight"]  # FairGMM does not use it.
  flat = {_path(n): theirs.pop(n) for n in _FAIR_NAMES if n in theirs}
  rest = airi_smm.to_params(
    {f"slot_attention.{name}": value for name, value in theirs.items()}
  )
  return trees.nest(flat) | rest


def _module(variant, **kwargs):
  return slot_mixture.SlotMixture(
    slot_size=SLOT_SIZE,
    mlp_hidden_size=HIDDEN_SIZE,
    num_iterations=4,  # 3, and the one after them.
    layer_norm_epsilon=1e-5,
    **{"options": slot_mixture.VARIANTS[variant], **kwargs},
  )


def _run(variant, params, inputs, noise, **kwargs):
  """Returns the module's output and the initial slots."""
  gaussian = None
  if variant == "released":
    inputs, gaussian = input_transformer.InputTransformer(
      2 * SLOT_SIZE, HIDDEN_SIZE, layer_norm_epsilon=1e-5
    ).apply({"params": params["input_transformer"]}, inputs)
  slots = initializers.GaussianInitializer(NUM_SLOTS, 2 * SLOT_SIZE).apply(
    {"params": params.get("initializer", {})},
    len(inputs),
    noise=noise,
    gaussian=gaussian,
  )
  module = _module(variant, **kwargs)
  return module.apply({"params": params["slot_module"]}, inputs, slots), slots


CASES = [
  ("fair", "fair_gmm"),
  ("fair", "fair_gmm_eps_dominated"),
  ("released", "self_attention_gmm"),
]


@pytest.mark.parametrize(("variant", "name"), CASES)
def test_every_iteration_equals_the_published_code(variant, name):
  case = _load(name)
  params = _params(case)
  options = slot_mixture.VARIANTS[variant]
  output, slots = _run(variant, params, case["in/inputs"], case["in/noise"])
  raw, _ = _run(
    variant,
    params,
    case["in/inputs"],
    case["in/noise"],
    options=dataclasses.replace(options, output="none"),
  )
  for actual, key in (
    (slots, "slots_init"),
    (raw.slots_per_iteration.swapaxes(0, 1), "slots_steps"),
    (output.attention.swapaxes(0, 1), "gammas_steps"),
    (output.slots, "output"),
  ):
    expected = case[f"out/{key}"]
    np.testing.assert_allclose(
      actual, expected, atol=5e-5 * np.abs(expected).max(), err_msg=key
    )


def _gradients(variant, case, **kwargs):
  def loss_fn(params, inputs):
    output, _ = _run(variant, params, inputs, case["in/noise"], **kwargs)
    return jnp.sum(jnp.square(output.slots))

  return jax.jit(jax.value_and_grad(loss_fn, (0, 1)))(
    _params(case), case["in/inputs"]
  )


def _assert_norms(case, prefix, grads):
  flat = trees.flatten(grads)
  names = case[f"{prefix}/gradnorm_names"]
  norms = dict(zip(names.tolist(), case[f"{prefix}/gradnorms"], strict=True))
  largest = max(norms.values())
  gru = {name.split(".")[1]: norms.pop(name) for name in names if "gru" in name}
  for name, expected in norms.items():
    if _path(name) not in flat:
      assert expected == 0  # FairGMM's unused matrix.
      continue
    np.testing.assert_allclose(
      np.linalg.norm(flat[_path(name)]),
      expected,
      rtol=2e-4,
      atol=1e-6 * largest,
      err_msg=name,
    )
  path = "slot_module/iteration/gru"
  bias_ih, bias_hh = flat[f"{path}/bias"]
  for value, leaf in (
    (flat[f"{path}/kernel"], "weight_ih"),
    (flat[f"{path}/recurrent_kernel"], "weight_hh"),
    (bias_ih, "bias_ih"),
    (bias_hh, "bias_hh"),
  ):
    np.testing.assert_allclose(np.linalg.norm(value), gru[leaf], rtol=2e-4)


@pytest.mark.parametrize(
  ("variant", "name", "remat"),
  [(*case, False) for case in CASES] + [(*CASES[0], True)],
)
def test_gradients_equal_the_published_code(variant, name, remat):
  case = _load(name)
  loss, (grads, inputs_grad) = _gradients(variant, case, remat=remat)
  np.testing.assert_allclose(loss, case["out/loss"], rtol=2e-5)
  expected = case["out/grad_inputs"]
  np.testing.assert_allclose(
    inputs_grad, expected, atol=2e-4 * np.abs(expected).max()
  )
  _assert_norms(case, "out", grads)
  expected = case["out/grad/to_q.weight"].T
  np.testing.assert_allclose(
    grads["slot_module"]["iteration"]["project_q"]["kernel"],
    expected,
    atol=2e-4 * np.abs(expected).max(),
  )


@pytest.mark.parametrize(("variant", "name"), [CASES[0], CASES[2]])
@pytest.mark.parametrize(
  ("prefix", "gradient", "detach_prior"),
  [("no_detach", "all", False), ("pi_detached", "last", True)],
)
def test_gradients_of_other_ways_to_detach(
  variant, name, prefix, gradient, detach_prior
):
  case = _load(name)
  options = dataclasses.replace(
    slot_mixture.VARIANTS[variant], detach_prior=detach_prior
  )
  _, (grads, _) = _gradients(variant, case, gradient=gradient, options=options)
  _assert_norms(case, prefix, grads)


def _softmax(x, axis):
  x = np.exp(x - x.max(axis, keepdims=True))
  return x / x.sum(axis, keepdims=True)


def _layer_norm(x, p):
  x = x - x.mean(-1, keepdims=True)
  x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
  return x * p["scale"] + p["bias"]


def _gru(h, x, p):
  z, r, n = np.split(x @ p["kernel"] + p["bias"][0], 3, -1)
  hz, hr, hn = np.split(h @ p["recurrent_kernel"] + p["bias"][1], 3, -1)
  z, r = 1 / (1 + np.exp(-z - hz)), 1 / (1 + np.exp(-r - hr))
  return z * h + (1 - z) * np.tanh(n + r * hn)


def _algorithm_1(p, x, slots, num_iterations):
  """Paper B's pseudocode, line by line, for one image in float64."""
  step = p["iteration"]
  mu, log_sigma = np.split(slots, 2, -1)
  variance = np.exp(2 * log_sigma)
  pi = np.full(len(slots), 1 / len(slots))
  k = x @ p["project_k"]["kernel"]
  for _ in range(num_iterations):
    offsets = k[:, None] - (mu @ step["project_q"]["kernel"])[None]  # [n, k, d]
    logits = -0.5 * (offsets**2 / variance + np.log(2 * np.pi * variance)).sum(
      -1
    )
    gammas = _softmax(logits + np.log(pi), 1)
    pi = gammas.mean(0)
    weights = gammas / gammas.sum(0)
    mu = _gru(mu, weights.T @ x, step["gru"])
    hidden = (
      _layer_norm(mu, step["norm_mlp"]) @ step["mlp"]["dense_0"]["kernel"]
    )
    hidden = np.maximum(hidden + step["mlp"]["dense_0"]["bias"], 0)
    mu = mu + hidden @ step["mlp"]["dense_1"]["kernel"]
    mu = mu + step["mlp"]["dense_1"]["bias"]
    squares = (x[:, None] - mu[None]) ** 2  # [n, k, d]
    variance = (weights[..., None] * squares).sum(0) + 1e-8
  slots = np.concatenate([mu, variance], -1)
  return slots @ p["project_output"]["kernel"], gammas.T


def test_paper_variant_equals_the_pseudocode():
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(2, 40, SLOT_SIZE)).astype(np.float32)
  slots = 0.5 * rng.normal(size=(2, NUM_SLOTS, 2 * SLOT_SIZE))
  module = _module("paper")
  variables = module.init(jax.random.key(0), inputs, slots.astype(np.float32))
  # Biases and scales must matter.
  params = jax.tree.map(
    lambda x: np.float64(x) + 0.1 * rng.normal(size=x.shape),
    variables["params"],
  )
  output = module.apply(
    {"params": jax.tree.map(np.float32, params)}, inputs, slots
  )
  for i in range(2):
    expected, gammas = _algorithm_1(
      params, np.float64(inputs[i]), slots[i], num_iterations=4
    )
    assert 0.05 < gammas.max(axis=0).mean() < 0.999
    np.testing.assert_allclose(
      output.slots[i], expected, atol=2e-4 * np.abs(expected).max()
    )
    np.testing.assert_allclose(output.attention[i, -1], gammas, atol=1e-3)


def test_values_need_the_slots_width():
  with pytest.raises(ValueError, match="Inputs have 8 features and slots 32"):
    _module("paper").init(
      jax.random.key(0), jnp.zeros((1, 4, 8)), jnp.zeros((1, 2, 64))
    )


def test_dropout_acts_in_training_only():
  module = input_transformer.InputTransformer(8, 16)
  inputs = jax.random.normal(jax.random.key(0), (2, 6, 16))
  variables = module.init(jax.random.key(1), inputs)
  plain, _ = module.apply(variables, inputs)
  one, other = (
    module.apply(
      variables, inputs, train=True, rngs={"dropout": jax.random.key(seed)}
    )[0]
    for seed in range(2)
  )
  assert np.abs(one - other).max() > 0.01 < np.abs(one - plain).max()
