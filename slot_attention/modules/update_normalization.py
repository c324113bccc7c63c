"""How attention becomes the weights of the slot update.

An entry of `NORMALIZATIONS` is a linen module that is called with attention
[b, k, n] and values [b, n, d] and returns the updates [b, k, d]. A new one is a
class and a line in the table.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp


class WeightedMean(nn.Module):
  """Paper A, Algorithm 1, lines 6-7: weights sum to one over the inputs.

  Epsilon is added to the attention before it is renormalised, so a slot that
  wins nothing gets the plain mean of the values.

  Attributes:
    epsilon: added to every attention value.
    dtype: type of the product with the values; the weights are float32.
  """

  epsilon: float = 1e-8
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, attention: jax.Array, values: jax.Array) -> jax.Array:
    """Returns the updates.

    Args:
      attention: [b, k, n] float32, sums to one over k.
      values: [b, n, d].

    Returns:
      [b, k, d] float32.
    """
    weights = attention + self.epsilon
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    return jnp.einsum(
      "bkn,bnd->bkd",
      weights.astype(self.dtype),
      values.astype(self.dtype),
      preferred_element_type=jnp.float32,
    )


NORMALIZATIONS = {"weighted_mean": WeightedMean}
