"""Slot modules without learned layers: soft k-means and a Gaussian mixture.

They are what remains of Slot Attention and of the Slot Mixture Module without
GRU, MLP, projections and LayerNorm (paper A, appendix B, "Soft k-means"; paper
B, section 4.4). Slots live in the space of the inputs.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import iteration
from slot_attention.modules import mixture
from slot_attention.modules import mlp
from slot_attention.modules import slot_attention
from slot_attention.modules import slot_mixture


class SoftKMeans(nn.Module):
  """Slot Attention with identities in place of everything learned.

  Similarity stays a dot product divided by sqrt(d), as the papers have it.

  Attributes:
    num_iterations: t, when a call names no other number.
    epsilon: added to the attention before it is renormalised.
    gradient: "all" iterations, or the "last" one only.
    dtype: type of matrix products.
  """

  num_iterations: int = 3
  epsilon: float = 1e-8
  gradient: str = "all"
  dtype: jnp.dtype = jnp.float32

  def __call__(
    self,
    inputs: jax.Array,
    slots: jax.Array,
    num_iterations: int | None = None,
    train: bool = False,
  ) -> slot_attention.SlotOutput:
    """Moves slots to the means of what they attend to.

    Args:
      inputs: [b, n, d].
      slots: [b, k, d] initial means; k is free.
      num_iterations: t >= 1, or None for the number given to the constructor.
      train: unused; every slot module takes it.

    Returns:
      SlotOutput.

    Raises:
      ValueError: fewer than one iteration is asked for, or inputs and slots
        differ in width.
    """
    del train
    slot_mixture.check_width(inputs, slots.shape[-1])

    def step(means: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
      logits = jnp.einsum(
        "bkd,bnd->bkn",
        (means * means.shape[-1] ** -0.5).astype(self.dtype),
        inputs.astype(self.dtype),
        preferred_element_type=jnp.float32,
      )
      attention = nn.softmax(logits, axis=1)  # Over slots.
      weights = attention + self.epsilon
      weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
      means = iteration.weigh(weights, inputs, self.dtype)
      return means, attention, means

    attention, slots = iteration.refine(
      step,
      slots.astype(jnp.float32),
      self.num_iterations if num_iterations is None else num_iterations,
      jax.lax.stop_gradient if self.gradient == "last" else None,
    )
    return slot_attention.SlotOutput(slots[:, -1], attention, slots)


class GaussianMixture(nn.Module):
  """Plain expectation-maximisation, and a matrix that halves the slots.

  Attributes:
    slot_size: width d of the inputs, means and variances.
    num_iterations: t, when a call names no other number.
    epsilon: added to the variances.
    gradient: "all" iterations, or the "last" one only.
    output: "matrix", [mean, variance] 2 d -> d, or "none".
    dtype: type of matrix products; all statistics are float32.
  """

  slot_size: int = 64
  num_iterations: int = 5
  epsilon: float = 1e-8
  gradient: str = "last"
  output: str = "matrix"
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    inputs: jax.Array,
    slots: jax.Array,
    num_iterations: int | None = None,
    train: bool = False,
  ) -> slot_attention.SlotOutput:
    """Fits the mixture (paper B, section 2.2).

    Args:
      inputs: [b, n, d].
      slots: [b, k, 2 d] initial means and log sigmas; k is free.
      num_iterations: t >= 1, or None for the number given to the constructor.
      train: unused; every slot module takes it.

    Returns:
      SlotOutput; attention holds the responsibilities. Slots have 2 d entries
      where `output` is "none".

    Raises:
      ValueError: fewer than one iteration is asked for, or the inputs are not d
        wide.
    """
    del train
    slot_mixture.check_width(inputs, self.slot_size)
    attention, slots = iteration.refine(
      lambda components: self._step(components, inputs),
      mixture.Components.from_slots(slots),
      self.num_iterations if num_iterations is None else num_iterations,
      jax.lax.stop_gradient if self.gradient == "last" else None,
    )
    if self.output == "matrix":
      matrix = mlp.matrix(self.slot_size, self.dtype, "project_output")
      slots = matrix(slots).astype(jnp.float32)
    return slot_attention.SlotOutput(slots[:, -1], attention, slots)

  def _step(
    self, components: mixture.Components, inputs: jax.Array
  ) -> tuple[mixture.Components, jax.Array, jax.Array]:
    """Returns next components, responsibilities [b, k, n], slots [b, k, 2d]."""
    log_gammas = mixture.log_responsibilities(
      mixture.gaussian_log_density(
        inputs, components.mean, components.log_sigma
      ),
      components.log_prior,
    )
    log_weights, log_shares = mixture.log_weights(log_gammas)
    weights = jnp.exp(log_weights)
    means = iteration.weigh(weights, inputs, self.dtype)
    variances = mixture.weighted_variance(weights, inputs, means)
    log_sigmas = 0.5 * jnp.log(variances + self.epsilon)
    components = mixture.Components(means, log_sigmas, log_shares)
    slots = jnp.concatenate([means, components.variance], axis=-1)
    return components, jnp.exp(log_gammas), slots
