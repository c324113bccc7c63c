"""Expectation and maximisation for Gaussians with diagonal covariance.

Everything is float32 and in the log domain: nothing under- or overflows for
components that explain no input or lie far from all of them. Differences are
taken before they are squared, not by expanding the square, whose terms cancel.
So that no [b, k, n, d] array exists, they are taken of one component after the
other, and again in the backward pass.
"""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp


class Components(struct.PyTreeNode):
  """Parameters of the mixture.

  Attributes:
    mean: [b, k, d] float32.
    log_sigma: [b, k, d] float32, logarithm of the standard deviation.
    log_prior: [b, k] float32, logarithm of the weight in the mixture.
  """

  mean: jax.Array
  log_sigma: jax.Array
  log_prior: jax.Array

  @classmethod
  def from_slots(cls, slots: jax.Array) -> "Components":
    """Splits slots [b, k, 2 d] into mean and log sigma; all weigh the same."""
    b, k, _ = slots.shape
    mean, log_sigma = jnp.split(slots.astype(jnp.float32), 2, axis=-1)
    return cls(mean, log_sigma, jnp.full((b, k), -jnp.log(k)))

  @property
  def variance(self) -> jax.Array:
    """[b, k, d]."""
    return jnp.exp(2.0 * self.log_sigma)


def scaled_distances(
  points: jax.Array, centers: jax.Array, log_scales: jax.Array
) -> jax.Array:
  """Computes squared distances, every coordinate in units of its scale.

  Args:
    points: [b, n, d].
    centers: [b, k, d].
    log_scales: [b, k, d] logarithms of the units.

  Returns:
    [b, k, n] float32, `sum_d ((x - c) / scale)^2`.
  """
  points = points.astype(jnp.float32)

  def distances(center: jax.Array, log_scale: jax.Array) -> jax.Array:
    """[b, d], [b, d] -> [b, n]."""
    offsets = _offsets(points, center)
    units = jnp.broadcast_to(jnp.exp(-log_scale)[:, None], offsets.shape)
    return jnp.sum(jnp.square(offsets * units), axis=-1)

  return _for_each_component(distances, centers, log_scales)


def gaussian_log_density(
  points: jax.Array, means: jax.Array, log_sigmas: jax.Array
) -> jax.Array:
  """Computes log N(x | mean, diag(sigma^2)), up to the constant of 2 pi.

  Args:
    points: [b, n, d].
    means: [b, k, d].
    log_sigmas: [b, k, d].

  Returns:
    [b, k, n] float32. The constant is the same for all components.
  """
  log_volume = jnp.sum(log_sigmas.astype(jnp.float32), axis=-1)  # [b, k]
  distances = scaled_distances(points, means, log_sigmas)
  return -0.5 * distances - _over_inputs(log_volume, distances)


def log_responsibilities(logits: jax.Array, log_prior: jax.Array) -> jax.Array:
  """Computes the E step (paper B, section 2.2; Algorithm 1, line 4).

  Args:
    logits: [b, k, n] log densities.
    log_prior: [b, k].

  Returns:
    [b, k, n] float32; exponentials sum to one over k.
  """
  return jax.nn.log_softmax(logits + _over_inputs(log_prior, logits), axis=1)


def log_weights(log_gammas: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Normalises responsibilities over the inputs (Algorithm 1, lines 5-6).

  Args:
    log_gammas: [b, k, n] logarithms of the responsibilities.

  Returns:
    Logarithms of the weights [b, k, n], which sum to one over n also where a
    component is responsible for next to nothing, and of the components' shares
    [b, k], the mean over n.
  """
  totals = jax.nn.logsumexp(log_gammas, axis=-1)
  log_shares = totals - jnp.log(log_gammas.shape[-1])
  return log_gammas - _over_inputs(totals, log_gammas), log_shares


def weighted_variance(
  weights: jax.Array, values: jax.Array, centers: jax.Array
) -> jax.Array:
  """Computes sum_n w (v - c)^2 (Algorithm 1, line 9).

  Args:
    weights: [b, k, n], summing to one over n.
    values: [b, n, d].
    centers: [b, k, d].

  Returns:
    [b, k, d] float32.
  """
  values = values.astype(jnp.float32)

  def variance(weight: jax.Array, center: jax.Array) -> jax.Array:
    """[b, n], [b, d] -> [b, d]."""
    squares = jnp.square(_offsets(values, center))
    factors = jnp.broadcast_to(weight[..., None], squares.shape)
    return jnp.sum(factors * squares, axis=1)

  return _for_each_component(variance, weights, centers)


def _for_each_component(
  function: Callable[..., jax.Array], *arguments: jax.Array
) -> jax.Array:
  """Maps a function of [b, ...] over the components of [b, k, ...]."""
  by_component = tuple(x.astype(jnp.float32).swapaxes(0, 1) for x in arguments)
  remat = jax.checkpoint(lambda xs: function(*xs))
  return jax.lax.map(remat, by_component).swapaxes(0, 1)


def _offsets(points: jax.Array, center: jax.Array) -> jax.Array:
  """[b, n, d] minus [b, d] -> [b, n, d]."""
  return points - jnp.broadcast_to(center[:, None], points.shape)


def _over_inputs(x: jax.Array, like: jax.Array) -> jax.Array:
  """[b, k] -> [b, k, n]."""
  return jnp.broadcast_to(x[..., None], like.shape)
