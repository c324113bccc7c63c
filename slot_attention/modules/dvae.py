"""The discrete variational autoencoder of SLATE: images as grids of tokens.

Singh, Deng and Ahn, "Illiterate DALL-E Learns to Compose" (ICLR 2022), in the
layers of their code. Images are in [0, 1] here.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers

STRIDE = 4  # Pixels per token, in each direction.
_WIDTH = 64
_NUM_ENCODER_BLOCKS = 6  # After the first one.


class DiscreteVAE(nn.Module):
  """Encoder to a distribution over tokens, decoder from tokens.

  Attributes:
    vocab_size: v, number of different tokens.
    dtype: type of the convolutions; normalisation and logits are float32.
  """

  vocab_size: int
  dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    """Creates the two halves."""
    self.encoder = Encoder(self.vocab_size, self.dtype)
    self.decoder = Decoder(self.vocab_size, self.dtype)

  def encode(self, images: jax.Array) -> jax.Array:
    """Returns log-probabilities of the tokens.

    Args:
      images: [b, h, w, 3] in [0, 1].

    Returns:
      [b, h / 4, w / 4, v] float32.
    """
    return nn.log_softmax(self.encoder(images))

  def decode(self, tokens: jax.Array) -> jax.Array:
    """Returns images; see `Decoder`."""
    return self.decoder(tokens)


class Encoder(nn.Module):
  """Patches of 4x4 pixels, then layers that see one patch each.

  Attributes:
    vocab_size: v.
    dtype: type of the convolutions.
  """

  vocab_size: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """[b, h, w, 3] -> logits [b, h / 4, w / 4, v] float32."""
    x = ConvBlock(_WIDTH, STRIDE, STRIDE, self.dtype, name="block_0")(images)
    for i in range(_NUM_ENCODER_BLOCKS):
      x = ConvBlock(_WIDTH, dtype=self.dtype, name=f"block_{i + 1}")(x)
    return _head(self.vocab_size, self.dtype)(x).astype(jnp.float32)


class Decoder(nn.Module):
  """Tokens, then two stages that double the resolution.

  Attributes:
    vocab_size: v.
    dtype: type of the convolutions.
  """

  vocab_size: int
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """Draws tokens.

    Args:
      tokens: [b, h', w'] int in [0, v), or distributions [b, h', w', v] over
        them, such as relaxed samples.

    Returns:
      [b, 4 h', 4 w', 3] float32, about [0, 1] but not limited to it.
    """
    x = _TokenBlock(self.vocab_size, self.dtype, name="block_0")(tokens)
    layers = [(_WIDTH, 3), (_WIDTH, 1), (_WIDTH, 1), (4 * _WIDTH, 1)]
    for stage in range(2):
      for i, (features, kernel_size) in enumerate(layers):
        name = f"block_{1 + stage * len(layers) + i}"
        x = ConvBlock(features, kernel_size, dtype=self.dtype, name=name)(x)
      x = pixel_shuffle(x, 2)
    return _head(3, self.dtype)(x).astype(jnp.float32)


class ConvBlock(nn.Module):
  """Convolution without bias, normalisation over the whole image, ReLU.

  Attributes:
    features: output channels.
    kernel_size: 1 or 3 with stride 1, or the stride.
    stride: of the kernel's windows.
    dtype: type of the convolution.
  """

  features: int
  kernel_size: int = 1
  stride: int = 1
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """[b, h, w, c] -> [b, h / stride, w / stride, features] float32."""
    x = nn.Conv(
      self.features,
      (self.kernel_size, self.kernel_size),
      strides=(self.stride, self.stride),
      padding=1 if self.kernel_size == 3 else 0,
      use_bias=False,
      kernel_init=initializers.relu_kernel_init,
      dtype=self.dtype,
      name="conv",
    )(x)
    return _norm_relu(x)


class _TokenBlock(nn.Module):
  """A `ConvBlock` with a 1x1 kernel that takes tokens as numbers, too."""

  vocab_size: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, tokens: jax.Array) -> jax.Array:
    """[b, h, w] int or [b, h, w, v] float -> [b, h, w, c] float32."""
    kernel = self.param(
      "kernel", initializers.relu_kernel_init, (self.vocab_size, _WIDTH)
    )
    if jnp.issubdtype(tokens.dtype, jnp.integer):
      return _norm_relu(jnp.take(kernel, tokens, axis=0))
    return _norm_relu(
      jnp.matmul(
        tokens.astype(self.dtype),
        kernel.astype(self.dtype),
        preferred_element_type=jnp.float32,
      )
    )


def _norm_relu(x: jax.Array) -> jax.Array:
  """Normalises over rows, columns and channels together, then ReLU."""
  norm = nn.GroupNorm(
    num_groups=1, epsilon=1e-5, dtype=jnp.float32, name="norm"
  )
  return nn.relu(norm(x))


def _head(features: int, dtype: jnp.dtype) -> nn.Conv:
  return nn.Conv(
    features,
    (1, 1),
    kernel_init=initializers.kernel_init,
    dtype=dtype,
    name="head",
  )


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
  """Spreads channels over pixels as PyTorch does.

  TensorFlow's depth_to_space takes the channels in another order.

  Args:
    x: [b, h, w, c * factor^2]; channel c * factor^2 + factor * i + j goes to
      row i and column j of a pixel's square.
    factor: side of the square.

  Returns:
    [b, h * factor, w * factor, c].
  """
  b, h, w, _ = x.shape
  x = x.reshape(b, h, w, -1, factor, factor)
  x = x.transpose(0, 1, 4, 2, 5, 3)  # [b, h, i, w, j, c]
  return x.reshape(b, h * factor, w * factor, -1)


def relaxed_sample(
  log_probabilities: jax.Array,
  noise: jax.Array,
  temperature: jax.Array | float,
  straight_through: bool = False,
) -> jax.Array:
  """Draws from the Gumbel-softmax distribution.

  Args:
    log_probabilities: [..., v].
    noise: [..., v] of the standard Gumbel distribution.
    temperature: positive; the lower, the nearer to one token.
    straight_through: returns one token (one-hot) with the relaxed sample's
      gradient.

  Returns:
    [..., v], sums to one.
  """
  sample = nn.softmax((log_probabilities + noise) / temperature)
  if not straight_through:
    return sample
  chosen = jax.nn.one_hot(jnp.argmax(sample, axis=-1), sample.shape[-1])
  return chosen - jax.lax.stop_gradient(sample) + sample


def sample_tokens(log_probabilities: jax.Array, noise: jax.Array) -> jax.Array:
  """Draws tokens: [..., v] and Gumbel noise [..., v] -> [...] int32.

  These are the tokens that `relaxed_sample` is nearest to, at any temperature.
  """
  return jnp.argmax(log_probabilities + noise, axis=-1).astype(jnp.int32)
