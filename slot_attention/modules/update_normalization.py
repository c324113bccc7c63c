"""How attention becomes the slots' updates (paper C, section 4).

An entry of `NORMALIZATIONS` is a linen module, see `UpdateNormalization`. A new
one is a class and a line in the table. Names follow paper C.
"""

from collections.abc import Callable

from flax import linen as nn
import jax
import jax.numpy as jnp

# Of paper C's code; the paper does not state them.
_VARIANCE_EPSILON = 1e-5
_MOMENTUM = 0.9

Statistics = tuple[jax.Array, jax.Array]
# Weights [b, k, n] -> sum_n w v, [b, k, d] float32.
Weigh = Callable[[jax.Array], jax.Array]


class UpdateNormalization(nn.Module):
  """Base class: what the entries have in common.

  Attributes:
    epsilon: added to every attention value before it is renormalised, where it
      is renormalised.
    num_train_slots: k in training.
    epsilon_placement: "attention", or "savi": added to the sum over the inputs.
  """

  epsilon: float = 1e-8
  num_train_slots: int = 1
  epsilon_placement: str = "attention"

  def __call__(
    self,
    attention: jax.Array,
    weigh: Weigh,
    statistics: Statistics | None = None,
    train: bool = False,
  ) -> tuple[jax.Array, Statistics | None]:
    """Returns the updates, and what later iterations need of this one.

    Args:
      attention: [b, k, n] float32, sums to one over k.
      weigh: gives the sum over the inputs of weights times values.
      statistics: what the first iteration returned; None in the first.
      train: whether running statistics are updated.

    Returns:
      [b, k, d] float32 and the statistics, None where there are none.
    """
    raise NotImplementedError


class WeightedMean(UpdateNormalization):
  """Paper A, Algorithm 1, lines 6-7: weights sum to one over the inputs.

  Epsilon is added before the renormalisation, so a slot that wins nothing gets
  the plain mean of the values. With SAVi's placement it gets nothing.
  """

  def __call__(self, attention, weigh, statistics=None, train=False):
    """See `UpdateNormalization`."""
    del statistics, train
    in_sum = self.epsilon_placement == "savi"
    weights = attention if in_sum else attention + self.epsilon
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights / (total + self.epsilon if in_sum else total)
    return weigh(weights), None


class ScaledMean(WeightedMean):
  """Weighted mean times training slots over slots of this call.

  In paper C's code only.
  """

  def __call__(self, attention, weigh, statistics=None, train=False):
    """See `UpdateNormalization`."""
    updates, _ = super().__call__(attention, weigh, statistics, train)
    return updates * (self.num_train_slots / attention.shape[1]), None


class WeightedSum(UpdateNormalization):
  """Sum over the inputs divided by their number (paper C, C = N)."""

  def __call__(self, attention, weigh, statistics=None, train=False):
    """See `UpdateNormalization`."""
    del statistics, train
    return weigh(attention / attention.shape[-1]), None


class Unnormalized(UpdateNormalization):
  """Plain sum over the inputs (paper C, appendix J, C = 1)."""

  def __call__(self, attention, weigh, statistics=None, train=False):
    """See `UpdateNormalization`."""
    del statistics, train
    return weigh(attention), None


class LayerNormalization(UpdateNormalization):
  """LayerNorm of each slot's sum."""

  @nn.compact
  def __call__(self, attention, weigh, statistics=None, train=False):
    """See `UpdateNormalization`."""
    del statistics, train
    norm = nn.LayerNorm(
      epsilon=_VARIANCE_EPSILON, dtype=jnp.float32, name="layer_norm"
    )
    return norm(weigh(attention)), None


class KDLayerNormalization(UpdateNormalization):
  """LayerNorm of each image's sums over slots and features (appendix J)."""

  @nn.compact
  def __call__(self, attention, weigh, statistics=None, train=False):
    """See `UpdateNormalization`."""
    del statistics, train
    updates = weigh(attention)
    mean = jnp.mean(updates, axis=(1, 2), keepdims=True)
    variance = jnp.var(updates, axis=(1, 2), keepdims=True)
    return _affine(self, _standardize(updates, mean, variance)), None


class BatchNormalization(UpdateNormalization):
  """One mean and one variance for all updates of the GLOBAL batch.

  In training both come from the first iteration, over batch, slots and
  features, serve all iterations of the pass, and carry gradients. The variance
  is biased, as in Algorithm 2 of paper C and in its code (equation 12 is not).
  Evaluation uses running averages, so that slots and iterations are free.
  """

  @nn.compact
  def __call__(self, attention, weigh, statistics=None, train=False):
    """See `UpdateNormalization`."""
    updates = weigh(attention)
    mean = self.variable("batch_stats", "mean", jnp.zeros, ())
    variance = self.variable("batch_stats", "variance", jnp.ones, ())
    if not train:
      statistics = mean.value, variance.value
    elif statistics is None:
      statistics = jnp.mean(updates), jnp.var(updates)
      for running, new in zip((mean, variance), statistics, strict=True):
        old = running.value
        running.value = _MOMENTUM * old + (1.0 - _MOMENTUM) * new
    return _affine(self, _standardize(updates, *statistics)), statistics


def _standardize(
  updates: jax.Array, mean: jax.Array, variance: jax.Array
) -> jax.Array:
  """[b, k, d], with mean and variance of shape [] or [b, 1, 1]."""
  mean, variance = (
    jnp.broadcast_to(x, updates.shape) for x in (mean, variance)
  )
  return (updates - mean) * jax.lax.rsqrt(variance + _VARIANCE_EPSILON)


def _affine(module: nn.Module, updates: jax.Array) -> jax.Array:
  """Multiplies by a learned scalar and adds another one."""
  gamma = module.param("gamma", nn.initializers.ones, ())
  beta = module.param("beta", nn.initializers.zeros, ())
  return gamma * updates + beta


NORMALIZATIONS: dict[str, Callable[..., UpdateNormalization]] = {
  "weighted_mean": WeightedMean,
  "weighted_sum": WeightedSum,
  "layer_norm": LayerNormalization,
  "batch_norm": BatchNormalization,
  "unnormalized": Unnormalized,
  "kd_layer_norm": KDLayerNormalization,
  "scaled_mean": ScaledMean,
}
