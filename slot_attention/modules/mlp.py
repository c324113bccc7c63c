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
    hidden_init: initialiser of the first kernel.
    output_init: initialiser of the second kernel.
  """

  hidden_size: int
  output_size: int
  dtype: jnp.dtype = jnp.float32
  hidden_init: nn.initializers.Initializer = initializers.kernel_init
  output_init: nn.initializers.Initializer = initializers.kernel_init

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    """Maps [..., c] to [..., output_size]."""
    x = nn.Dense(
      self.hidden_size,
      kernel_init=self.hidden_init,
      dtype=self.dtype,
      name="dense_0",
    )(inputs)
    return nn.Dense(
      self.output_size,
      kernel_init=self.output_init,
      dtype=self.dtype,
      name="dense_1",
    )(nn.relu(x))


def matrix(
  features: int,
  dtype: jnp.dtype,
  name: str | None = None,
  kernel_init: nn.initializers.Initializer = initializers.kernel_init,
) -> nn.Dense:
  """Returns a linear map without bias."""
  return nn.Dense(
    features,
    use_bias=False,
    kernel_init=kernel_init,
    dtype=dtype,
    name=name,
  )


def torch_dense(
  num_inputs: int, num_outputs: int, dtype: jnp.dtype, name: str
) -> nn.Dense:
  """Returns a linear map that starts as PyTorch's do by default."""
  return nn.Dense(
    num_outputs,
    kernel_init=initializers.torch_kernel_init,
    bias_init=initializers.symmetric_uniform(num_inputs**-0.5),
    dtype=dtype,
    name=name,
  )


def layer_norm(
  name: str | None = None, epsilon: float = LAYER_NORM_EPSILON
) -> nn.LayerNorm:
  """Returns a LayerNorm that computes and answers in float32."""
  return nn.LayerNorm(epsilon=epsilon, dtype=jnp.float32, name=name)
