"""Keys and values that are never computed.

They are projections without bias of n inputs. Products with them equal products
with the inputs whose few other rows, a slot each, were projected instead:
q . (x W) = (q W^T) . x and sum_n w_n (x_n W) = (sum_n w_n x_n) W.
"""

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers
from slot_attention.modules import iteration


class Projected(struct.PyTreeNode):
  """Stands for the projected inputs [b, n, d].

  Attributes:
    inputs: [b, n, c].
    kernel: [c, d], of the inputs' type.
  """

  inputs: jax.Array
  kernel: jax.Array

  def dot(self, queries: jax.Array) -> jax.Array:
    """[b, k, d] -> products with every projected input, [b, k, n] float32."""
    queries = jnp.einsum(
      "bkd,cd->bkc", queries, self.kernel, preferred_element_type=jnp.float32
    )
    return jnp.einsum(
      "bkc,bnc->bkn",
      queries.astype(self.inputs.dtype),
      self.inputs,
      preferred_element_type=jnp.float32,
    )

  def weigh(self, weights: jax.Array) -> jax.Array:
    """[b, k, n] -> weighted sums of projected inputs, [b, k, d] float32."""
    dtype = self.inputs.dtype
    return jnp.matmul(
      iteration.weigh(weights, self.inputs, dtype).astype(dtype),
      self.kernel,
      preferred_element_type=jnp.float32,
    )


class Projection(nn.Module):
  """A linear map without bias, for `Projected`.

  Attributes:
    features: d.
    dtype: type of the factors of products; sums are float32.
  """

  features: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> Projected:
    """Projects inputs [b, n, c]."""
    kernel = self.param(
      "kernel", initializers.kernel_init, (inputs.shape[-1], self.features)
    )
    return Projected(inputs.astype(self.dtype), kernel.astype(self.dtype))
