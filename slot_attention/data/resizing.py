"""Resizes uint8 images with numpy as tensorflow does."""

import numpy as np


def resize_bilinear(
  image: np.ndarray, resolution: tuple[int, int]
) -> np.ndarray:
  """Resizes as `preprocess.resize_bilinear` and rounds to whole numbers.

  Args:
    image: [h, w, c] uint8.
    resolution: (height, width).

  Returns:
    [height, width, c] uint8; halves are rounded to even numbers.
  """
  # In tensorflow's order and precision, for the sake of the last bit.
  left, right, weight = _neighbours(image.shape[1], resolution[1])
  pixels = image.astype(np.float32)
  near = pixels[:, left]
  rows = near + (pixels[:, right] - near) * weight[:, None]
  top, bottom, weight = _neighbours(image.shape[0], resolution[0])
  near = rows[top]
  result = near + (rows[bottom] - near) * weight[:, None, None]
  return np.rint(result).astype(np.uint8)


def resize_nearest(
  labels: np.ndarray, resolution: tuple[int, int]
) -> np.ndarray:
  """Resizes without mixing values.

  Args:
    labels: [h, w] of any type.
    resolution: (height, width).

  Returns:
    [height, width]; row i is row floor(i * h / height), and so are columns.
  """
  rows, columns = (
    np.arange(size) * old // size
    for size, old in zip(resolution, labels.shape, strict=True)
  )
  return labels[rows[:, None], columns]


def _neighbours(
  old: int, new: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns indices before and after each new pixel's centre, and weights.

  Args:
    old: number of pixels, whose centres lie at half-integers.
    new: number of pixels wanted.

  Returns:
    Two [new] int arrays in 0..old-1, and [new] float32, the weight of the
    second.
  """
  scale = np.float32(old) / np.float32(new)
  centres = (np.arange(new, dtype=np.float32) + np.float32(0.5)) * scale
  places = centres - np.float32(0.5)
  before = np.floor(places)
  return (
    np.maximum(before, 0).astype(int),
    np.minimum(np.ceil(places), old - 1).astype(int),
    places - before,
  )
