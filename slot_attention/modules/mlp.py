"""The two-layer perceptron used all over the 2020 code."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers

# Keras' LayerNormalization default; flax's is 1e-6 and PyTorch's 1e-5.
LAYER_NORM_EPSILON = 1e-3


class MLP(nn.Module):
  """Dense, ReLU, Dense.

  Attributes:
    hidden_size: width of the hidden layer.
    output_size: width of the result.
    dtype: type of the matrix products.
  """

  hidden_size: int
  output_size: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps [..., c] to [..., output_size]."""
    init = initializers.kernel_init
    x = nn.Dense(
      self.hidden_size, kernel_init=init, dtype=self.dtype, name="dense_0"
    )(inputs)
    return nn.Dense(
      self.output_size, kernel_init=init, dtype=self.dtype, name="dense_1"
    )(nn.relu(x))


def matrix(features: int, dtype: jnp.dtype, name: str) -> nn.Dense:
  """Returns a linear map without bias."""
  return nn.Dense(
    features,
    use_bias=False,
    kernel_init=initializers.kernel_init,
    dtype=dtype,
    name=name,
  )


def layer_norm(
  name: str | None, epsilon: float = LAYER_NORM_EPSILON
) -> nn.LayerNorm:
  """Returns a LayerNorm that computes and answers in float32."""
  return nn.LayerNorm(epsilon=epsilon, dtype=jnp.float32, name=name)
