"""Adam in Keras' form, against the formula and against optax's."""

import pathlib

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slot_attention import configuration
from slot_attention import optimizers
from slot_attention import slate_configuration

DATA = pathlib.Path(__file__).parent / "data"
TORCH = dict(np.load(DATA / "optimizers_torch.npz"))
SLATE = dict(np.load(DATA / "slate_torch_training.npz"))


def _keras_adam(gradients, rate, b1=0.9, b2=0.999, epsilon=1e-8):
  """Keras' update in float64, written from its documentation."""
  parameter = m = v = np.zeros_like(gradients[0], np.float64)
  for t, g in enumerate(np.asarray(gradients, np.float64), start=1):
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    alpha = rate * np.sqrt(1 - b2**t) / (1 - b1**t)
    parameter = parameter - alpha * m / (np.sqrt(v) + epsilon)
  return parameter


def _run(transformation, gradients):
  params = jnp.zeros_like(gradients[0])
  state = transformation.init(params)
  for g in gradients:
    updates, state = transformation.update(g, state, params)
    params = optax.apply_updates(params, updates)
  return params


def test_equals_keras_where_epsilon_matters():
  rng = np.random.default_rng(0)
  scales = np.array([1.0, 1e-4, 1e-7, 1e-8], np.float32)
  gradients = rng.normal(size=(25, 4)).astype(np.float32) * scales
  ours = optax.chain(
    optimizers.scale_by_keras_adam(), optax.scale_by_learning_rate(1e-2)
  )
  expected = _keras_adam(gradients, 1e-2)
  np.testing.assert_allclose(_run(ours, gradients), expected, rtol=2e-4)
  other = _run(optax.adam(1e-2), gradients)
  assert np.abs(other - expected)[-1] > 0.1 * np.abs(expected[-1])


def test_learning_rate_of_step_0_is_0_but_moments_advance():
  config = configuration.get_default()
  optimizer = optimizers.create_optimizer(config)
  params = {"w": jnp.ones(3)}
  state = optimizer.init(params)
  updates, state = optimizer.update({"w": jnp.ones(3)}, state, params)
  np.testing.assert_array_equal(updates["w"], np.zeros(3))
  assert state[0].count == 1
  assert jax.tree.leaves(state[0].mu)[0][0] > 0


def _trajectory(optimizer, params, gradients):
  """All parameters after each step; arrays [t, ...] of gradients."""
  state, trajectory = optimizer.init(params), []
  for t in range(len(gradients[0])):
    updates, state = optimizer.update([g[t] for g in gradients], state, params)
    params = optax.apply_updates(params, updates)
    trajectory.append(params)
  return [np.stack(x) for x in zip(*trajectory, strict=True)]


def _config(name, schedule="constant", rate=1e-2):
  config = configuration.get_default()
  config.optimizer.name = name
  config.optimizer.schedule = schedule
  config.optimizer.learning_rate = float(rate)
  return config


@pytest.mark.parametrize(
  ("name", "theirs"), [("keras_adam", "adam_tf"), ("adam", "adam_torch")]
)
def test_equals_paper_cs_adams(name, theirs):
  params = [jnp.asarray(TORCH[f"paper_c/in/params{i}"]) for i in range(3)]
  gradients = [TORCH[f"paper_c/in/grads{i}"] for i in range(3)]
  config = _config(name, rate=TORCH["paper_c/in/lr"])
  optimizer = optimizers.create_optimizer(config)
  for i, ours in enumerate(_trajectory(optimizer, params, gradients)):
    np.testing.assert_allclose(
      ours, TORCH[f"paper_c/{theirs}/params{i}"], atol=1e-6
    )


def test_clips_the_global_norm():
  config = _config("adam")
  config.optimizer.clip_norm = 1.0
  gradients = [TORCH[f"paper_c/in/grads{i}"][0] for i in range(3)]
  clip = optimizers.create_optimizer(config)
  state = clip.init(gradients)
  # Adam's first moment after one step is a tenth of what it was given.
  _, state = clip.update(gradients, state, gradients)
  np.testing.assert_allclose(
    optax.tree.norm(gradients), TORCH["paper_c/clip/total_norm"], rtol=1e-6
  )
  for i in range(3):
    np.testing.assert_allclose(
      state[1].mu[i] * 10, TORCH[f"paper_c/clip/grads{i}"], rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("name", ["short", "short30"])
@pytest.mark.parametrize("cycled", [True, False])
def test_one_cycle_adamw_is_pytorchs(name, cycled):
  high, num_steps, fraction = TORCH[f"paper_b/{name}/max_lr_total_pct"]
  config = _config("adamw", "one_cycle", high)
  config.train.num_steps = int(num_steps)
  config.optimizer.one_cycle_warmup_fraction = float(fraction)
  config.optimizer.one_cycle_momentum = cycled
  params = [jnp.asarray(TORCH[f"paper_b/{name}/params0"], jnp.float32)]
  gradients = [TORCH[f"paper_b/{name}/grads"].astype(np.float32)]
  optimizer = optimizers.create_optimizer(config)
  (ours,) = _trajectory(optimizer, params, gradients)
  theirs = "params" if cycled else "params_fixed_beta1"
  np.testing.assert_allclose(ours, TORCH[f"paper_b/{name}/{theirs}"], atol=2e-6)


def _slate_config():
  config = slate_configuration.get_slate()
  config.optimizer.warmup_steps = int(SLATE["optimizer/in/lr_warmup_steps"])
  config.optimizer.plateau_patience = 4
  return config


def test_equals_slates_groups_clipping_and_cuts():
  names = {("dvae", "a"): "dvae_a", ("b",): "main_b", ("c",): "main_c"}

  def tree(kind, *rows):
    return traverse_util.unflatten_dict(
      {
        path: SLATE[f"optimizer/{kind}{name}"][rows]
        for path, name in names.items()
      }
    )

  optimizer = optimizers.create_optimizer(_slate_config())
  # From zero on, float32 keeps the digits of the small steps.
  start = tree("in/")
  params = jax.tree.map(jnp.zeros_like, start)
  state = optimizer.init(params)
  for t, factor in enumerate(SLATE["optimizer/in/lr_decay_factor"]):
    state = (*state[:-1], state[-1]._replace(factor=jnp.float32(factor)))
    assert optimizers.plateau_factor(state) == np.float32(factor)
    gradients = tree("in/grads_", t)
    updates, state = optimizer.update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    jax.tree.map(
      lambda moved, x, y: np.testing.assert_allclose(moved, y - x, atol=1e-7),
      params,
      start,
      tree("out/", t),
    )


def test_clips_the_largest_entry_of_all_gradients():
  clip = optimizers.clip_by_largest_entry(1.0)
  gradients = {"dvae": jnp.array([-4.0, 1.0]), "rest": jnp.array([0.5])}
  clipped, _ = clip.update(gradients, clip.init(gradients))
  np.testing.assert_allclose(clipped["dvae"], [-1.0, 0.25], rtol=1e-6)
  np.testing.assert_allclose(clipped["rest"], [0.125], rtol=1e-6)
  small = {"x": jnp.array([0.5, -0.9])}
  np.testing.assert_array_equal(clip.update(small, ())[0]["x"], small["x"])


def test_rates_are_cut_where_the_loss_stays():
  config = _slate_config()
  optimizer = optimizers.create_optimizer(config)
  params = {"dvae": jnp.ones(2), "rest": jnp.ones(2)}
  state = optimizer.init(params)
  assert optimizers.plateau_factor(state) == 1
  factors = []
  for loss in SLATE["schedules/plateau/val_loss"]:
    state = optimizers.observe_evaluation(state, float(loss), config)
    factors.append(float(optimizers.plateau_factor(state)))
  np.testing.assert_array_equal(
    factors, SLATE["schedules/plateau/factor_after"]
  )
  config.optimizer.plateau_patience = 0
  state = optimizers.create_optimizer(config).init(params)
  assert optimizers.observe_evaluation(state, 1.0, config) == state
  assert optimizers.plateau_factor(state) == 1
