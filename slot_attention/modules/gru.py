"""The gated recurrent unit of the 2020 code."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers


class GRUCell(nn.Module):
  """Keras' GRUCell: fused kernels, reset gate after the product, two biases.

  `flax.linen.GRUCell` computes the same function with one bias for r and one
  for z. Keras has two of each, which get the same gradient, so under Adam their
  sum moves twice as fast; initial kernels differ as well (drawn over the fused
  matrices here). Gate order is z, r, h.

  Attributes:
    dtype: type of the matrix products; gates and state stay float32.
  """

  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, state: jax.Array, inputs: jax.Array) -> jax.Array:
    """Returns the next state.

    Args:
      state: [..., d] previous state h.
      inputs: [..., c].

    Returns:
      [..., d] float32, `z * h + (1 - z) * tanh(W x + b0 + r * (U h + b1))`.
    """
    size = state.shape[-1]
    kernel = self.param(
      "kernel", initializers.kernel_init, (inputs.shape[-1], 3 * size)
    )
    recurrent_kernel = self.param(
      "recurrent_kernel", nn.initializers.orthogonal(), (size, 3 * size)
    )
    bias = self.param("bias", nn.initializers.zeros, (2, 3 * size))
    x = _project(inputs, kernel, bias[0], self.dtype)
    h = _project(state, recurrent_kernel, bias[1], self.dtype)
    x_z, x_r, x_h = jnp.split(x, 3, axis=-1)
    h_z, h_r, h_h = jnp.split(h, 3, axis=-1)
    update = nn.sigmoid(x_z + h_z)
    reset = nn.sigmoid(x_r + h_r)
    candidate = jnp.tanh(x_h + reset * h_h)
    return update * state + (1.0 - update) * candidate


def _project(
  x: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: jnp.dtype
) -> jax.Array:
  """[..., c] x [c, 3d] -> [..., 3d], product in `dtype`, sum in float32."""
  product = jnp.matmul(
    x.astype(dtype), kernel.astype(dtype), preferred_element_type=jnp.float32
  )
  return product + jnp.expand_dims(bias, tuple(range(product.ndim - 1)))
