"""The transformer before the published Slot Mixture Module's slots.

It is in the published code (AIRI-Institute/smm), not in the paper: the input
features and two learned tokens attend to each other, and the two tokens then
say around which mean, and how widely, the initial slots of this image lie.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers
from slot_attention.modules import mlp

NUM_HEADS = 4
DROPOUT = 0.1


class InputTransformer(nn.Module):
  """Mixes the inputs, and draws the initial slots' Gaussian from them.

  Attributes:
    state_size: width s of an initial slot, twice the slot size for mixtures.
    hidden_size: width of the MLPs of the two tokens.
    num_blocks: transformer blocks.
    layer_norm_epsilon: PyTorch's is 1e-5.
    dtype: type of matrix products; softmax and LayerNorm are float32.
  """

  state_size: int
  hidden_size: int = 128
  num_blocks: int = 2
  layer_norm_epsilon: float = mlp.LAYER_NORM_EPSILON
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self, inputs: jax.Array, train: bool = False
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Transforms the inputs.

    Args:
      inputs: [b, n, c]; c must be divisible by the number of heads.
      train: whether to drop activations; needs the rng stream "dropout".

    Returns:
      [b, n, c] inputs, and mean and log standard deviation, both [b, 1, s]
      float32, of the initial slots.
    """
    b, _, c = inputs.shape
    mean = self.param("mean_token", nn.initializers.normal(1.0), (1, 1, c))
    log_sigma = self.param(
      "log_sigma_token", initializers.kernel_init, (1, 1, c)
    )
    tokens = jnp.concatenate([mean, log_sigma], axis=1)  # [1, 2, c]
    x = jnp.concatenate(
      [jnp.broadcast_to(tokens, (b, 2, c)), inputs.astype(jnp.float32)], axis=1
    )
    x = mlp.layer_norm("norm", self.layer_norm_epsilon)(x)
    for i in range(self.num_blocks):
      x = _Block(self.layer_norm_epsilon, self.dtype, name=f"block_{i}")(
        x, train
      )
    mean, log_sigma = (
      mlp.MLP(self.hidden_size, self.state_size, self.dtype, name=name)(
        x[:, i : i + 1]
      ).astype(jnp.float32)
      for i, name in enumerate(("mean_mlp", "log_sigma_mlp"))
    )
    return x[:, 2:], (mean, log_sigma)


class _Block(nn.Module):
  """Two self-attentions and an MLP, each after a LayerNorm, with residuals."""

  layer_norm_epsilon: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """[b, n, c] -> [b, n, c] float32."""
    for i in range(2):
      y = mlp.layer_norm(f"norm_{i}", self.layer_norm_epsilon)(x)
      y = _SelfAttention(self.dtype, name=f"attention_{i}")(y)
      x = x + self._drop(y, train)
    y = mlp.layer_norm("norm_mlp", self.layer_norm_epsilon)(x)
    width = x.shape[-1]
    y = nn.gelu(self._dense(4 * width, "dense_0")(y), approximate=False)
    return x + self._dense(width, "dense_1")(self._drop(y, train))

  def _dense(self, features: int, name: str) -> nn.Dense:
    return nn.Dense(
      features,
      kernel_init=initializers.kernel_init,
      dtype=self.dtype,
      name=name,
    )

  def _drop(self, x: jax.Array, train: bool) -> jax.Array:
    return nn.Dropout(DROPOUT, deterministic=not train)(x)


class _SelfAttention(nn.Module):
  """Multi-head attention; only the last matrix has a bias."""

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[b, n, c] -> [b, n, c]."""
    b, n, c = x.shape

    def heads(name: str) -> jax.Array:
      y = mlp.matrix(c, self.dtype, name)(x)
      return y.reshape(b, n, NUM_HEADS, c // NUM_HEADS)

    # Scales by 1 / sqrt(c / heads); its softmax is float32.
    y = jax.nn.dot_product_attention(
      heads("query"), heads("key"), heads("value")
    )
    return nn.Dense(
      c, kernel_init=initializers.kernel_init, dtype=self.dtype, name="output"
    )(y.reshape(b, n, c))  # [b, n, heads, c / heads] -> [b, n, c]
