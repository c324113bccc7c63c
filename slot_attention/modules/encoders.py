"""Image encoders: from pixels to a set of input features."""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import convolutions
from slot_attention.modules import mlp
from slot_attention.modules import positions


class ConvEncoder(nn.Module):
  """Stack of 5x5 convolutions, each followed by ReLU, the last one too.

  Paper A, appendix E.3 and E.4.

  Attributes:
    channels: output channels of each layer.
    strides: stride of each layer, (1, 2, 2, 1) for set prediction.
    kernel_size: side of the square kernels.
    padding: alignment of strided layers, see `convolutions`.
    dtype: type of the convolutions.
  """

  channels: Sequence[int] = (64, 64, 64, 64)
  strides: Sequence[int] = (1, 1, 1, 1)
  kernel_size: int = 5
  padding: str = "same"
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Encodes images.

    Args:
      images: [b, h, w, 3] in [-1, 1].

    Returns:
      [b, h', w', c]; h' is h divided by every stride, rounded up.

    Raises:
      ValueError: channels and strides differ in length.
    """
    if len(self.channels) != len(self.strides):
      raise ValueError(
        f"encoder_channels {tuple(self.channels)} and encoder_strides "
        f"{tuple(self.strides)} differ in length; give one stride per layer."
      )
    x = images.astype(self.dtype)
    for i, (features, stride) in enumerate(
      zip(self.channels, self.strides, strict=True)
    ):
      x = convolutions.conv(
        features,
        self.kernel_size,
        stride,
        self.padding,
        self.dtype,
        f"conv_{i}",
      )(x)
      x = nn.relu(x)
    return x


class ImageTokens(nn.Module):
  """Encoder, position embedding, LayerNorm and MLP: the slot modules' inputs.

  Attributes:
    channels: see ConvEncoder; the MLP keeps the width of the last layer.
    strides: see ConvEncoder.
    padding: see ConvEncoder.
    use_positions: False leaves the position embedding out (appendix B).
    remat: recompute the convolutions in the backward pass instead of keeping
      their activations.
    dtype: type of convolutions and matrix products; LayerNorm is float32.
    layer_norm_epsilon: PyTorch's is 1e-5.
  """

  channels: Sequence[int] = (64, 64, 64, 64)
  strides: Sequence[int] = (1, 1, 1, 1)
  padding: str = "same"
  use_positions: bool = True
  remat: bool = False
  dtype: jnp.dtype = jnp.float32
  layer_norm_epsilon: float = mlp.LAYER_NORM_EPSILON

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Returns the tokens.

    Args:
      images: [b, h, w, 3] in [-1, 1].

    Returns:
      [b, h', w', c] tokens, still laid out as a grid.
    """
    encoder = nn.remat(ConvEncoder) if self.remat else ConvEncoder
    x = encoder(
      self.channels,
      self.strides,
      padding=self.padding,
      dtype=self.dtype,
      name="encoder_cnn",
    )(images)
    if self.use_positions:
      x = positions.SoftPositionEmbed(self.dtype, name="encoder_pos")(x)
    x = mlp.layer_norm("layer_norm", self.layer_norm_epsilon)(x)
    width = self.channels[-1]
    return mlp.MLP(width, width, self.dtype, name="mlp")(x)


class FeatureTokens(nn.Module):
  """LayerNorm and MLP on features of another network (DINOSAUR).

  There are no positions: the features know theirs. Weights start as PyTorch's.

  Attributes:
    width: c' of the slot module's inputs.
    dtype: type of matrix products; LayerNorm is float32.
    layer_norm_epsilon: PyTorch's.
  """

  width: int = 128
  dtype: jnp.dtype = jnp.float32
  layer_norm_epsilon: float = 1e-5

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """[b, n, c] -> [b, n, c']."""
    x = mlp.layer_norm("layer_norm", self.layer_norm_epsilon)(features)
    return _TorchMLP(self.width, self.dtype, name="mlp")(x)


class _TorchMLP(nn.Module):
  """Dense, ReLU, Dense; the hidden layer is as wide as the input."""

  output_size: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, inputs: jax.Array) -> jax.Array:
    width = inputs.shape[-1]
    x = mlp.torch_dense(width, width, self.dtype, "dense_0")(inputs)
    return mlp.torch_dense(width, self.output_size, self.dtype, "dense_1")(
      nn.relu(x)
    )
