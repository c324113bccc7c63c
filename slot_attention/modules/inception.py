"""The Inception network whose features the FID compares.

It is Inception v3 as trained by Google in 2015 and used by the FID's authors
(Heusel et al., 2017), in the form that pytorch-fid gave it: averages at borders
leave the padding out, and the last block's pool takes the maximum. Names are
those of torchvision, from which the weights come.
"""

from collections.abc import Sequence
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

NUM_FEATURES = 2048
INPUT_SIZE = 299
_EPSILON = 1e-3

# Layers of a branch one after the other: name, channels, (height, width) of the
# kernel and stride. Kernels of stride 1 keep the size of their inputs.
Layer = tuple[str, int, tuple[int, int], int]

_max_pool = functools.partial(
  nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding="VALID"
)
_same_max_pool = functools.partial(
  nn.max_pool, window_shape=(3, 3), strides=(1, 1), padding="SAME"
)
_same_average_pool = functools.partial(
  nn.avg_pool,
  window_shape=(3, 3),
  strides=(1, 1),
  padding="SAME",
  count_include_pad=False,
)


class ConvNorm(nn.Module):
  """A convolution without bias, normalized by stored statistics, and a ReLU.

  Attributes:
    features: output channels.
    kernel_size: (height, width).
    stride: of rows and columns.
    padding: of rows and columns; "SAME" or "VALID".
  """

  features: int
  kernel_size: tuple[int, int]
  stride: int = 1
  padding: str = "SAME"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b, h, w, c] to [b, h', w', features]."""
    x = nn.Conv(
      self.features,
      self.kernel_size,
      strides=(self.stride, self.stride),
      padding=self.padding,
      use_bias=False,
      precision="highest",  # So that the FID does not depend on the hardware.
      name="conv",
    )(x)
    x = nn.BatchNorm(use_running_average=True, epsilon=_EPSILON, name="bn")(x)
    return nn.relu(x)


class Branches(nn.Module):
  """Branches of one input, side by side in the channels of the result.

  Attributes:
    branches: layers of each. A last entry with several layers in place of one
      puts their results side by side.
    pool: applied to the input.
    pool_features: channels of a convolution after the pool; 0 for none.
  """

  branches: Sequence[Sequence[Layer | Sequence[Layer]]]
  pool: object
  pool_features: int = 0

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps [b, h, w, c] to [b, h', w', c']."""
    results = []
    for branch in self.branches:
      y = x
      for layer in branch:
        if isinstance(layer[0], str):
          y = _apply(layer, y)
        else:
          y = jnp.concatenate([_apply(one, y) for one in layer], axis=-1)
      results.append(y)
    y = self.pool(x)
    if self.pool_features:
      y = ConvNorm(self.pool_features, (1, 1), name="branch_pool")(y)
    return jnp.concatenate([*results, y], axis=-1)


def _apply(layer: Layer, x: jax.Array) -> jax.Array:
  name, features, kernel_size, stride = layer
  padding = "SAME" if stride == 1 else "VALID"
  return ConvNorm(features, kernel_size, stride, padding, name=name)(x)


class InceptionV3(nn.Module):
  """Maps images to the features after the last pool."""

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Computes features.

    Args:
      images: [b, h, w, 3] float32 in [-1, 1], of any size.

    Returns:
      [b, NUM_FEATURES] float32, 0 or more.
    """
    shape = (images.shape[0], INPUT_SIZE, INPUT_SIZE, 3)
    x = jax.image.resize(images, shape, "bilinear", antialias=False)
    x = ConvNorm(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)
    x = ConvNorm(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
    x = _max_pool(ConvNorm(64, (3, 3), name="Conv2d_2b_3x3")(x))
    x = ConvNorm(80, (1, 1), name="Conv2d_3b_1x1")(x)
    x = ConvNorm(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)
    x = _max_pool(x)
    for name, channels in (("5b", 32), ("5c", 64), ("5d", 64)):
      x = _block_35(channels, f"Mixed_{name}")(x)
    x = _reduction_35("Mixed_6a")(x)
    for name, channels in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
      x = _block_17(channels, f"Mixed_{name}")(x)
    x = _reduction_17("Mixed_7a")(x)
    x = _block_8(_same_average_pool, "Mixed_7b")(x)
    x = _block_8(_same_max_pool, "Mixed_7c")(x)
    return x.mean(axis=(1, 2))  # [b, 8, 8, c] -> [b, c]


def _block_35(pool_features: int, name: str) -> Branches:
  """Returns a block at 35x35."""
  return Branches(
    (
      (("branch1x1", 64, (1, 1), 1),),
      (("branch5x5_1", 48, (1, 1), 1), ("branch5x5_2", 64, (5, 5), 1)),
      (
        ("branch3x3dbl_1", 64, (1, 1), 1),
        ("branch3x3dbl_2", 96, (3, 3), 1),
        ("branch3x3dbl_3", 96, (3, 3), 1),
      ),
    ),
    _same_average_pool,
    pool_features,
    name=name,
  )


def _reduction_35(name: str) -> Branches:
  """Returns the block from 35x35 to 17x17."""
  return Branches(
    (
      (("branch3x3", 384, (3, 3), 2),),
      (
        ("branch3x3dbl_1", 64, (1, 1), 1),
        ("branch3x3dbl_2", 96, (3, 3), 1),
        ("branch3x3dbl_3", 96, (3, 3), 2),
      ),
    ),
    _max_pool,
    name=name,
  )


def _block_17(channels: int, name: str) -> Branches:
  """Returns a block at 17x17, `channels` wide inside."""
  row, column = (1, 7), (7, 1)
  return Branches(
    (
      (("branch1x1", 192, (1, 1), 1),),
      (
        ("branch7x7_1", channels, (1, 1), 1),
        ("branch7x7_2", channels, row, 1),
        ("branch7x7_3", 192, column, 1),
      ),
      (
        ("branch7x7dbl_1", channels, (1, 1), 1),
        ("branch7x7dbl_2", channels, column, 1),
        ("branch7x7dbl_3", channels, row, 1),
        ("branch7x7dbl_4", channels, column, 1),
        ("branch7x7dbl_5", 192, row, 1),
      ),
    ),
    _same_average_pool,
    192,
    name=name,
  )


def _reduction_17(name: str) -> Branches:
  """Returns the block from 17x17 to 8x8."""
  return Branches(
    (
      (("branch3x3_1", 192, (1, 1), 1), ("branch3x3_2", 320, (3, 3), 2)),
      (
        ("branch7x7x3_1", 192, (1, 1), 1),
        ("branch7x7x3_2", 192, (1, 7), 1),
        ("branch7x7x3_3", 192, (7, 1), 1),
        ("branch7x7x3_4", 192, (3, 3), 2),
      ),
    ),
    _max_pool,
    name=name,
  )


def _block_8(pool: object, name: str) -> Branches:
  """Returns a block at 8x8."""

  def cross(stem: str) -> tuple[Layer, Layer]:
    return (f"{stem}a", 384, (1, 3), 1), (f"{stem}b", 384, (3, 1), 1)

  return Branches(
    (
      (("branch1x1", 320, (1, 1), 1),),
      (("branch3x3_1", 384, (1, 1), 1), cross("branch3x3_2")),
      (
        ("branch3x3dbl_1", 448, (1, 1), 1),
        ("branch3x3dbl_2", 384, (3, 3), 1),
        cross("branch3x3dbl_3"),
      ),
    ),
    pool,
    192,
    name=name,
  )
