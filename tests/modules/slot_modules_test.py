"""What holds for every slot module: symmetries, free sizes, finite numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention import configuration
from slot_attention.modules import slot_mixture
from slot_attention.tasks import slots as slots_lib

SIZE, NUM_SLOTS, NUM_INPUTS, ITERATIONS = 8, 4, 30, 3
# slot_mlp refines no slots; its own tests say what holds for it.
MODULES = [name for name in slots_lib.SLOT_MODULES if name != "slot_mlp"]
CASES = [
  *((name, None) for name in MODULES),
  *(("slot_mixture", name) for name in ("fair", "released")),
]
ORDER = np.array([2, 0, 3, 1])


def _case(name, variant, gradient="all", dtype="float32"):
  """Returns module, variables, inputs and slots of a tiny config."""
  config = configuration.get_default()
  config.slot_module = name
  config.model.slot_size = SIZE
  config.model.mlp_hidden_size = 16
  config.model.num_slots = NUM_SLOTS
  config.model.num_iterations = ITERATIONS
  config.model.encoder_channels = (SIZE,) * 4
  config.model.gradient = gradient
  config.model.dtype = dtype
  if variant:
    options = dataclasses.asdict(slot_mixture.VARIANTS[variant])
    config.model.mixture.update(options)
  parts = slots_lib.build_slots(config)
  keys = jax.random.split(jax.random.key(0), 3)
  inputs = jax.random.normal(keys[0], (2, NUM_INPUTS, SIZE))
  slots = jax.random.normal(
    keys[1], (2, NUM_SLOTS, parts["initializer"].slot_size)
  )
  module = parts["slot_module"]
  return module, module.init(keys[2], inputs, slots), inputs, slots


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_slots_are_equivariant_and_inputs_invariant_to_order(name, variant):
  module, variables, inputs, slots = _case(name, variant)
  output = module.apply(variables, inputs, slots)
  permuted = module.apply(variables, inputs, slots[:, ORDER])
  shuffled = np.random.default_rng(0).permutation(NUM_INPUTS)
  same = module.apply(variables, inputs[:, shuffled], slots)
  scale = np.abs(output.slots).max()
  for actual, expected in (
    (permuted.slots, output.slots[:, ORDER]),
    (
      permuted.slots_per_iteration,
      output.slots_per_iteration[:, :, ORDER],
    ),
    (permuted.attention, output.attention[:, :, ORDER]),
    (same.slots, output.slots),
    (same.attention, output.attention[..., shuffled]),
  ):
    np.testing.assert_allclose(actual, expected, atol=1e-4 * max(scale, 1.0))
  assert np.abs(output.slots[:, 0] - output.slots[:, 1]).max() > 1e-2 * scale


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_gradients_are_equivariant_too(name, variant):
  module, variables, inputs, slots = _case(name, variant)
  weights = jax.random.normal(jax.random.key(7), (2, NUM_SLOTS, SIZE))

  @jax.jit
  def gradient(slots, weights):
    return jax.grad(
      lambda slots: jnp.sum(
        module.apply(variables, inputs, slots).slots * weights
      )
    )(slots)

  expected = gradient(slots, weights)[:, ORDER]
  actual = gradient(slots[:, ORDER], weights[:, ORDER])
  assert np.abs(expected).max() > 0
  np.testing.assert_allclose(
    actual, expected, atol=1e-3 * np.abs(expected).max()
  )


@pytest.mark.parametrize(("num_slots", "num_iterations"), [(1, 1), (7, 5)])
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_other_numbers_of_slots_and_iterations_than_in_training(
  name, variant, num_slots, num_iterations
):
  module, variables, inputs, slots = _case(name, variant)
  slots = jnp.resize(slots, (2, num_slots, slots.shape[-1]))
  output = module.apply(variables, inputs, slots, num_iterations)
  assert output.slots.shape == (2, num_slots, SIZE)
  assert output.attention.shape == (2, num_iterations, num_slots, NUM_INPUTS)
  assert output.slots_per_iteration.shape == (
    *(2, num_iterations, num_slots),
    SIZE,
  )
  np.testing.assert_array_equal(output.slots, output.slots_per_iteration[:, -1])
  np.testing.assert_allclose(
    output.attention.sum(axis=2),
    np.ones((2, num_iterations, NUM_INPUTS)),
    rtol=1e-5,
  )
  first = module.apply(variables, inputs, slots, 1)
  np.testing.assert_allclose(
    output.attention[:, :1], first.attention, atol=1e-6
  )


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_no_iterations_are_an_error(name, variant):
  module, variables, inputs, slots = _case(name, variant)
  with pytest.raises(ValueError, match="num_iterations is 0"):
    module.apply(variables, inputs, slots, 0)


@pytest.mark.parametrize(
  ("gradient", "dtype"),
  [("all", "float32"), ("last", "float32"), ("all", "bfloat16")],
)
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_any_scale_of_inputs_stays_finite(name, variant, gradient, dtype):
  module, variables, inputs, slots = _case(name, variant, gradient, dtype)

  @jax.jit
  def run(variables, inputs, slots):
    def loss(variables, inputs, slots):
      output = module.apply(variables, inputs, slots)
      return jnp.mean(output.slots), output

    return jax.grad(loss, (0, 1, 2), has_aux=True)(variables, inputs, slots)

  # One input far from the others, and one slot on top of another.
  inputs = inputs.at[:, 0].multiply(30.0)
  slots = slots.at[:, 1].set(slots[:, 0])
  for scale in (1e-4, 1e-2, 1.0, 1e2, 1e4):
    grads, output = run(variables, inputs * scale, slots)
    for leaf in jax.tree.leaves((grads, output)):
      assert np.isfinite(leaf).all(), scale
    np.testing.assert_allclose(
      output.attention.sum(axis=2), np.ones((2, ITERATIONS, NUM_INPUTS)), 1e-5
    )
    assert {x.dtype for x in jax.tree.leaves(output)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_bfloat16_computes_exponentials_and_roots_in_float32(name, variant):
  module, variables, inputs, slots = _case(name, variant, dtype="bfloat16")
  jaxpr = jax.make_jaxpr(module.apply)(variables, inputs, slots)
  assert _types(jaxpr.jaxpr) == {jnp.dtype("float32")}


def _types(jaxpr):
  """Types of the inputs of every exponential, logarithm and root."""
  types = set()
  for eqn in jaxpr.eqns:
    if eqn.primitive.name in ("exp", "log", "log1p", "rsqrt"):
      types.add(eqn.invars[0].aval.dtype)
    for value in eqn.params.values():
      inner = getattr(value, "jaxpr", value)
      if hasattr(inner, "eqns"):
        types |= _types(inner)
  return types
