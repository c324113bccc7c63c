"""Resizing as PyTorch and paper C's pipeline do it, along with their rounding.

Neither `jax.image.resize` nor TensorFlow gives these values: both take the
cubic kernel with A = -0.5, PyTorch with A = -0.75, and other rows of masks.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_A = -0.75
# Offsets of the four pixels around each place.
_TAPS = np.arange(-1, 3)


def resize_bicubic(images: jax.Array, resolution: Sequence[int]) -> jax.Array:
  """Resizes as PyTorch's bicubic interpolation, without antialiasing.

  Centres of pixels lie at half-integers, and the border is continued. Values
  beyond those of the image occur and stay.

  Args:
    images: [b, h, w, c] float.
    resolution: (height, width).

  Returns:
    [b, height, width, c] float32.
  """
  rows, columns = (
    jnp.asarray(cubic_weights(old, new))
    for old, new in zip(images.shape[1:3], resolution, strict=True)
  )
  images = images.astype(jnp.float32)
  # The accelerators' fast float32 products would be visible in the features.
  x = jnp.einsum("yh,bhwc->bywc", rows, images, precision="highest")
  return jnp.einsum("xw,bywc->byxc", columns, x, precision="highest")


def cubic_weights(old: int, new: int) -> np.ndarray:
  """Returns [new, old] float32, each new pixel's weights of the old ones."""
  places = (np.arange(new) + 0.5) * (old / new) - 0.5
  before = np.floor(places)
  distances = np.abs((places - before)[:, None] - _TAPS)  # [new, 4]
  near = (_A + 2) * distances**3 - (_A + 3) * distances**2 + 1
  far = _A * (distances**3 - 5 * distances**2 + 8 * distances - 4)
  taps = np.clip(before[:, None].astype(int) + _TAPS, 0, old - 1)
  weights = np.zeros((new, old))
  # Beyond the border several taps are the same pixel: their weights add up.
  np.add.at(
    weights,
    (np.arange(new)[:, None], taps),
    np.where(distances <= 1, near, far),
  )
  return weights.astype(np.float32)


def resize_labels(labels: jax.Array, resolution: Sequence[int]) -> jax.Array:
  """Resizes segmentations by paper C's rule; see `nearest_rows`.

  Args:
    labels: [b, h, w] of any type.
    resolution: (height, width).

  Returns:
    [b, height, width].
  """
  rows, columns = (
    nearest_rows(old, new)
    for old, new in zip(labels.shape[1:3], resolution, strict=True)
  )
  return labels[:, rows[:, None], columns[None, :]]


def nearest_rows(old: int, new: int) -> np.ndarray:
  """Returns [new] int, the row `round(i * old / new)` for each new row i.

  Halves go to the even number. Where images grow to more than twice their size
  the rule would point behind the last row; it is taken instead.
  """
  rows = np.rint(np.arange(new) * (old / new)).astype(int)
  return np.minimum(rows, old - 1)


def upscale_masks(masks: jax.Array, resolution: Sequence[int]) -> jax.Array:
  """Resizes masks bilinearly, the border continued.

  Args:
    masks: [b, k, h, w] float.
    resolution: (height, width), at least that of the masks.

  Returns:
    [b, k, height, width] float32.
  """
  shape = (*masks.shape[:2], *resolution)
  return jax.image.resize(masks.astype(jnp.float32), shape, "bilinear")
