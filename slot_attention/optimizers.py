"""Adam in Keras' form, and the optimizer that a config describes."""

import copy
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax

from slot_attention import schedules


class KerasAdamState(NamedTuple):
  """Steps done and the two moments."""

  count: jax.Array
  mu: optax.Updates
  nu: optax.Updates


def scale_by_keras_adam(
  b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8
) -> optax.GradientTransformation:
  """Adam whose epsilon stands outside the bias correction ("epsilon hat").

  The update is `sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + epsilon)`, which
  is what Keras and Kingma & Ba (2015, end of section 2) compute.
  `optax.scale_by_adam` corrects v first, so its epsilon weighs 32 times less at
  t = 1.

  Args:
    b1: decay of the first moment.
    b2: decay of the second moment.
    epsilon: added to the root of the uncorrected second moment.

  Returns:
    An optax transformation.
  """

  def init(params: optax.Params) -> KerasAdamState:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return KerasAdamState(jnp.zeros([], jnp.int32), zeros, zeros)

  def update(
    updates: optax.Updates,
    state: KerasAdamState,
    params: optax.Params | None = None,
  ) -> tuple[optax.Updates, KerasAdamState]:
    del params
    count = optax.safe_increment(state.count)
    mu = optax.tree.update_moment(updates, state.mu, b1, 1)
    nu = optax.tree.update_moment(updates, state.nu, b2, 2)
    t = count.astype(jnp.float32)
    scale = jnp.sqrt(1.0 - jnp.float32(b2) ** t) / (1.0 - jnp.float32(b1) ** t)
    updates = jax.tree.map(
      lambda m, v: scale * m / (jnp.sqrt(v) + epsilon), mu, nu
    )
    return updates, KerasAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)


def clip_by_largest_entry(max_norm: float) -> optax.GradientTransformation:
  """Scales all gradients alike, so that no entry is larger (SLATE's code).

  This is PyTorch's `clip_grad_norm_` with the infinity norm: a factor
  `min(1, max_norm / (norm + 1e-6))`.

  Args:
    max_norm: the largest absolute value.

  Returns:
    An optax transformation.
  """

  def update(
    updates: optax.Updates, params: optax.Params | None = None
  ) -> optax.Updates:
    del params
    norm = optax.tree.norm(updates, ord=jnp.inf)
    factor = jnp.minimum(1.0, max_norm / (norm + 1e-6))
    return jax.tree.map(lambda g: g * factor, updates)

  return optax.stateless(update)


class PlateauState(NamedTuple):
  """What is known of the evaluations so far.

  Attributes:
    best: [] float32, the lowest loss.
    waited: [] int32, evaluations since then, or since the last cut.
    factor: [] float32, what updates are multiplied by.
  """

  best: jax.Array
  waited: jax.Array
  factor: jax.Array


def scale_on_plateau() -> optax.GradientTransformation:
  """Multiplies updates by a factor that `observe_evaluation` cuts."""

  def init(params: optax.Params) -> PlateauState:
    del params
    return PlateauState(
      jnp.array(jnp.inf), jnp.zeros([], jnp.int32), jnp.ones([])
    )

  def update(
    updates: optax.Updates,
    state: PlateauState,
    params: optax.Params | None = None,
  ) -> tuple[optax.Updates, PlateauState]:
    del params
    return jax.tree.map(lambda u: u * state.factor, updates), state

  return optax.GradientTransformation(init, update)


def observe_evaluation(
  opt_state: Any, loss: float, config: ml_collections.ConfigDict
) -> Any:
  """Cuts the learning rates where the loss has not become lower for long.

  Args:
    opt_state: of `create_optimizer`.
    loss: of an evaluation; the lower the better.
    config: of the run; `optimizer.plateau_patience` and `plateau_factor`.

  Returns:
    The next state; the same one where no `plateau_patience` is set.
  """

  def observe(state: Any) -> Any:
    if not isinstance(state, PlateauState):
      return state
    waited = jnp.where(loss < state.best, 0, state.waited + 1)
    cut = waited >= config.optimizer.plateau_patience
    factor = jnp.where(cut, config.optimizer.plateau_factor, 1.0)
    return PlateauState(
      jnp.minimum(state.best, loss),
      jnp.where(cut, 0, waited),
      state.factor * factor,
    )

  return jax.tree.map(
    observe, opt_state, is_leaf=lambda x: isinstance(x, PlateauState)
  )


def plateau_factor(opt_state: Any) -> jax.Array | float:
  """Returns the factor of a `PlateauState` in the state; 1 without any."""
  leaves = jax.tree.leaves(
    opt_state, is_leaf=lambda x: isinstance(x, PlateauState)
  )
  states = [x for x in leaves if isinstance(x, PlateauState)]
  return states[0].factor if states else 1.0


def create_schedule(config: ml_collections.ConfigDict) -> optax.Schedule:
  """Returns the learning rate as a function of the 0-based step.

  Args:
    config: of the run; `optimizer` and `train.num_steps` are read.
  """
  return SCHEDULES[config.optimizer.schedule](config)


def create_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """Returns the optimizer of a run.

  Args:
    config: of the run; `optimizer` and `train.num_steps` are read.

  Returns:
    An optax transformation.
  """
  optimizer = config.optimizer
  parts = [OPTIMIZERS[optimizer.name](config), _scale_by_rates(config)]
  if optimizer.clip_norm:
    parts.insert(0, CLIPPINGS[optimizer.clipping](optimizer.clip_norm))
  if optimizer.plateau_patience:
    parts.append(scale_on_plateau())
  return optax.chain(*parts)


def _scale_by_rates(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """Scales by the learning rate; parameters of "dvae" may have their own."""
  optimizer = config.optimizer
  scale = optax.scale_by_learning_rate(create_schedule(config))
  if not optimizer.dvae_learning_rate:
    return scale
  dvae = copy.deepcopy(config)
  dvae.optimizer.learning_rate = optimizer.dvae_learning_rate
  dvae.optimizer.schedule = optimizer.dvae_schedule
  dvae_scale = optax.scale_by_learning_rate(create_schedule(dvae))
  return optax.partition(
    {"dvae": dvae_scale, "others": scale},
    lambda params: {
      name: "dvae" if name == "dvae" else "others" for name in params
    },
  )


def _warmup_exponential(config: ml_collections.ConfigDict) -> optax.Schedule:
  optimizer = config.optimizer
  return schedules.warmup_exponential_decay(
    optimizer.learning_rate,
    optimizer.warmup_steps,
    optimizer.decay_rate,
    optimizer.decay_steps,
    optimizer.warmup_start,
  )


def _warmup_then_decay(config: ml_collections.ConfigDict) -> optax.Schedule:
  optimizer = config.optimizer
  return schedules.warmup_then_decay(
    optimizer.learning_rate,
    optimizer.warmup_steps,
    optimizer.decay_rate,
    optimizer.decay_steps,
    optimizer.warmup_start_factor,
  )


def _one_cycle(config: ml_collections.ConfigDict) -> optax.Schedule:
  """PyTorch's defaults: from 1 / 25 of the rate to 1 / 10,000 of that."""
  optimizer = config.optimizer
  start = optimizer.learning_rate / 25
  return schedules.one_cycle(
    optimizer.learning_rate,
    config.train.num_steps,
    optimizer.one_cycle_warmup_fraction,
    start,
    start / 1e4,
  )


def _constant(config: ml_collections.ConfigDict) -> optax.Schedule:
  return optax.constant_schedule(config.optimizer.learning_rate)


def _keras_adam(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  optimizer = config.optimizer
  return scale_by_keras_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)


def _adam(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
  optimizer = config.optimizer
  if not optimizer.one_cycle_momentum:
    return optax.scale_by_adam(optimizer.b1, optimizer.b2, optimizer.epsilon)
  # The momentum goes down while the rate goes up. Each step corrects the bias
  # with its own b1, as PyTorch does.
  b1 = schedules.one_cycle(
    0.85,
    config.train.num_steps,
    optimizer.one_cycle_warmup_fraction,
    0.95,
    0.95,
  )
  return optax.inject_hyperparams(optax.scale_by_adam)(
    b1=b1, b2=optimizer.b2, eps=optimizer.epsilon
  )


def _adamw(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
  return optax.chain(
    _adam(config), optax.add_decayed_weights(config.optimizer.weight_decay)
  )


SCHEDULES = {
  "warmup_exponential": _warmup_exponential,
  "warmup_then_decay": _warmup_then_decay,
  "one_cycle": _one_cycle,
  "constant": _constant,
}
OPTIMIZERS = {"keras_adam": _keras_adam, "adam": _adam, "adamw": _adamw}
CLIPPINGS = {
  "global_norm": optax.clip_by_global_norm,
  "largest_entry": clip_by_largest_entry,
}
