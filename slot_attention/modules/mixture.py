"""Expectation and maximisation for Gaussians with diagonal covariance.

Everything is float32 and in the log domain: nothing under- or overflows for
components that explain no input or lie far from all of them. Differences are
taken before they are squared, not by expanding the square, whose terms cancel;
their [b, k, n, d] array lives only inside a fused loop and is recomputed in the
backward pass.
"""

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


@jax.checkpoint
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
  # [b, 1, n, d] - [b, k, 1, d] -> [b, k, n, d]
  offsets = _differences(points, centers)
  units = jnp.broadcast_to(
    jnp.exp(-log_scales.astype(jnp.float32))[:, :, None], offsets.shape
  )
  return jnp.sum(jnp.square(offsets * units), axis=-1)


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


def weighted_mean(
  weights: jax.Array, values: jax.Array, dtype: jnp.dtype = jnp.float32
) -> jax.Array:
  """Computes sum_n w v (Algorithm 1, line 6).

  Args:
    weights: [b, k, n], summing to one over n.
    values: [b, n, d].
    dtype: type of the factors; sums are float32.

  Returns:
    [b, k, d] float32.
  """
  return jnp.einsum(
    "bkn,bnd->bkd",
    weights.astype(dtype),
    values.astype(dtype),
    preferred_element_type=jnp.float32,
  )


@jax.checkpoint
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
  squares = jnp.square(_differences(values, centers))  # [b, k, n, d]
  factors = jnp.broadcast_to(weights[..., None], squares.shape)
  return jnp.sum(factors * squares, axis=2)


def _differences(points: jax.Array, centers: jax.Array) -> jax.Array:
  """[b, n, d], [b, k, d] -> [b, k, n, d] float32."""
  shape = (*centers.shape[:2], *points.shape[1:])
  points = jnp.broadcast_to(points.astype(jnp.float32)[:, None], shape)
  centers = jnp.broadcast_to(centers.astype(jnp.float32)[:, :, None], shape)
  return points - centers


def _over_inputs(x: jax.Array, like: jax.Array) -> jax.Array:
  """[b, k] -> [b, k, n]."""
  return jnp.broadcast_to(x[..., None], like.shape)
