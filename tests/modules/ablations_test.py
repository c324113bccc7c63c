"""Each ablation of paper A, appendix B, takes away what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import clevr_object_discovery
from configs import clevr_set_prediction
from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import tasks
from slot_attention.modules import initializers
from slot_attention.modules import mlp
from slot_attention.modules import slot_attention
from slot_attention.modules import update_normalization

INPUTS = jax.random.normal(jax.random.key(0), (2, 30, 6))
SLOTS = jax.random.normal(jax.random.key(1), (2, 4, 8))


def _run(**ablations):
  module = slot_attention.SlotAttention(
    8, 16, ablations=slot_attention.Ablations(**ablations)
  )
  return module.init_with_output(jax.random.key(2), INPUTS, SLOTS)


@pytest.mark.parametrize(
  ("ablation", "missing"),
  [
    ("use_gru", {"iteration/gru"}),
    ("use_mlp", {"iteration/mlp", "iteration/norm_mlp"}),
    (
      "use_layer_norm",
      {"norm_inputs", "iteration/norm_slots", "iteration/norm_mlp"},
    ),
  ],
)
def test_parts_and_their_parameters_go(ablation, missing):
  def modules(variables):
    params = variables["params"]
    inner = {f"iteration/{name}" for name in params["iteration"]}
    return (set(params) - {"iteration"}) | inner

  output, variables = _run(**{ablation: False})
  full, full_variables = _run()
  assert modules(full_variables) - modules(variables) == missing
  assert np.abs(output.slots - full.slots).max() > 1e-2
  np.testing.assert_allclose(output.attention.sum(axis=2), 1.0, rtol=1e-5)


def test_without_gru_and_mlp_the_slots_are_the_updates():
  output, variables = _run(use_gru=False, use_mlp=False)
  inputs = mlp.layer_norm(None).apply(
    {"params": variables["params"]["norm_inputs"]}, INPUTS
  )
  values = inputs @ variables["params"]["project_v"]["kernel"]
  weights = output.attention[:, -1] + 1e-8
  weights /= weights.sum(axis=-1, keepdims=True)
  expected = jnp.einsum("bkn,bnd->bkd", weights, values)
  np.testing.assert_allclose(output.slots, expected, atol=1e-5)


def test_softmax_over_inputs_makes_slots_independent():
  output, variables = _run(softmax_axis="inputs")
  np.testing.assert_allclose(output.attention.sum(axis=3), 1.0, rtol=1e-5)
  module = slot_attention.SlotAttention(
    8, 16, ablations=slot_attention.Ablations(softmax_axis="inputs")
  )
  alone = module.apply(variables, INPUTS, SLOTS[:, :1])
  np.testing.assert_allclose(alone.slots, output.slots[:, :1], atol=1e-5)
  full, variables = _run()
  alone = slot_attention.SlotAttention(8, 16).apply(
    variables, INPUTS, SLOTS[:, :1]
  )
  assert np.abs(alone.slots - full.slots[:, :1]).max() > 1e-2


def test_temperature_divides_the_logits():
  expected, _ = _run()
  same, _ = _run(temperature=8**0.5)
  np.testing.assert_allclose(same.slots, expected.slots, atol=1e-6)
  sharp, _ = _run(temperature=1e-4)
  assert sharp.attention[:, 0].max(axis=1).min() > 0.99


@pytest.mark.parametrize(
  ("placement", "expected"), [("attention", 2.0), ("savi", 0.0)]
)
def test_epsilon_decides_what_a_slot_gets_that_wins_nothing(
  placement, expected
):
  values = jnp.array([1.0, 2.0, 3.0]).reshape(1, 3, 1)
  attention = jnp.stack([jnp.ones(3), jnp.zeros(3)])[None]  # [1, 2, 3]
  normalization = update_normalization.WeightedMean(1e-8, 2, placement)
  updates, _ = normalization.apply({}, attention, lambda w: w @ values)
  np.testing.assert_allclose(updates[0, 0, 0], 2.0, rtol=1e-5)
  np.testing.assert_allclose(updates[0, 1, 0], expected, atol=1e-5)


def test_slots_with_a_gaussian_each():
  initializer = initializers.GaussianInitializer(3, 4, per_slot=True)
  noise = jnp.zeros((2, 3, 4))
  slots, variables = initializer.init_with_output(
    jax.random.key(0), 2, noise=noise
  )
  assert variables["params"]["mu"].shape == (1, 3, 4)
  np.testing.assert_array_equal(slots[0], slots[1])
  assert np.abs(slots[0, 0] - slots[0, 1]).max() > 1e-2
  with pytest.raises(ValueError, match="4 slots were asked for"):
    initializer.apply(variables, 2, num_slots=4)


def test_without_position_embedding_the_encoder_has_none():
  config = clevr_set_prediction.get_config("smoke")
  config.model.position_embedding = False
  params = tasks.create_task(config).init(jax.random.key(0))["params"]
  assert "encoder_pos" not in params["tokens"]


@pytest.mark.parametrize(
  "module", [clevr_object_discovery, clevr_set_prediction]
)
def test_stepwise_loss_is_the_mean_over_the_iterations(module):
  config = module.get_config("smoke")
  images = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3))
  batch = {"image": images, "target": jnp.ones((2, 4, 19))}
  variables = tasks.create_task(config).init(jax.random.key(1))

  def loss(num_iterations, stepwise):
    config.model.num_iterations = num_iterations
    config.model.stepwise_loss = stepwise
    rngs = {"slots": jax.random.key(2)}
    return tasks.create_task(config).loss(variables, batch, rngs)[0]

  expected = np.mean([loss(t, False) for t in (1, 2, 3)])
  np.testing.assert_allclose(loss(3, True), expected, rtol=1e-5)
  assert abs(loss(3, False) - expected) > 1e-6


def test_other_modules_refuse_ablations():
  config = configuration.get_default()
  config.slot_module = "slot_mixture"
  config.model.use_gru = False
  with pytest.raises(configuration.ConfigError, match=r"model\.use_gru"):
    config_validation.validate(config)
