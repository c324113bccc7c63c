"""From decoded CLEVR examples to images in [-1, 1] and target vectors.

These are TensorFlow functions for use inside a tf.data pipeline. They repeat
the arithmetic of the 2020 Slot Attention code (`data.preprocess_clevr`)
operation by operation, so that the same record gives the same numbers.
"""

import functools
import types
from typing import Any, TYPE_CHECKING

from absl import logging
import numpy as np

if TYPE_CHECKING:
  import tensorflow as tf

# (property, number of values) in the order in which they stand in a target,
# between the coordinates and the presence; values are numbered as in TFDS.
PROPERTIES = (("size", 2), ("material", 2), ("shape", 3), ("color", 8))
TARGET_SIZE = 3 + sum(size for _, size in PROPERTIES) + 1

WHITE = np.float32(255.0)  # The highest level.

# Ways of resizing that average over all pixels of a shrunk image, by
# tensorflow's names.
ANTIALIASED = {
  "bilinear_antialiased": "bilinear",
  "bicubic_antialiased": "bicubic",
}


@functools.cache
def import_tensorflow() -> types.ModuleType:
  """Imports tensorflow for reading files, without its hold on the GPUs.

  Returns:
    The module, after hiding the accelerators from it: it would otherwise take
    the memory that JAX needs.

  Raises:
    ImportError: tensorflow or tensorflow_datasets is not installed.
  """
  try:
    import tensorflow as tf
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise ImportError(
      "Reading or writing TFDS data needs tensorflow and tensorflow_datasets, "
      f"and importing them failed ({error}); run `pip install tensorflow-cpu "
      "tensorflow-datasets`, or train with --config.data.source=procedural."
    ) from error
  del tfds  # Imported to find out whether it is there.
  try:
    if tf.config.get_visible_devices("GPU"):
      tf.config.set_visible_devices([], "GPU")
  except RuntimeError:  # Somebody has used tensorflow in this process before.
    logging.warning("tensorflow already holds the GPUs of this process.")
  return tf


def preprocess_clevr(
  example: dict[str, Any],
  resolution: tuple[int, int],
  crop: tuple[int, int, int, int] | None = None,
  num_targets: int = 10,
  interpolation: str = "bilinear",
) -> dict[str, "tf.Tensor"]:
  """Turns a decoded example of TFDS' CLEVR into inputs and targets.

  Args:
    example: `image` [h, w, 3] uint8 and `objects`, see `clevr_target`.
    resolution: (height, width) of the result in pixels.
    crop: see `crop_image`; the 2020 code crops (29, 64, 192, 192) for object
      discovery and nothing for set prediction.
    num_targets: rows of the target, objects and padding.
    interpolation: see `preprocess_image`.

  Returns:
    `image` [height, width, 3] float32 in [-1, 1], `target` [num_targets, 19]
    float32 and `num_objects` [] int32.
  """
  tf = import_tensorflow()
  objects = example["objects"]
  return {
    "image": preprocess_image(
      example["image"], resolution, crop, interpolation
    ),
    "target": clevr_target(objects, num_targets),
    "num_objects": tf.shape(objects["3d_coords"])[0],
  }


def preprocess_image(
  image: "tf.Tensor",
  resolution: tuple[int, int],
  crop: tuple[int, int, int, int] | None = None,
  interpolation: str = "bilinear",
) -> "tf.Tensor":
  """Scales, crops and resizes images.

  Args:
    image: [..., h, w, 3] uint8, one image or a batch.
    resolution: (height, width) of the result in pixels.
    crop: see `crop_image`; None for the whole image.
    interpolation: "bilinear", see `resize_bilinear`; "nearest", see
      `resize_nearest`; or a key of ANTIALIASED, which are Pillow's, and so
      those of PyTorch's data sets.

  Returns:
    [..., height, width, 3] float32 in [-1, 1].
  """
  tf = import_tensorflow()
  if crop is not None:
    image = crop_image(image, crop)
  if interpolation == "nearest":
    return normalize_image(resize_nearest(image, resolution))
  image = normalize_image(image)
  if interpolation in ANTIALIASED:
    method = ANTIALIASED[interpolation]
    image = tf.image.resize(image, resolution, method, antialias=True)
  else:
    image = resize_bilinear(image, resolution)
  return tf.clip_by_value(image, -1.0, 1.0)


def fit_image(
  image: "tf.Tensor",
  resolution: tuple[int, int],
  crop: tuple[int, int, int, int] | None,
  interpolation: str,
) -> "tf.Tensor":
  """Crops and resizes images, which stay of 8 bits if none is resized.

  Args:
    image: see `preprocess_image`, of a known size, as are the others.
    resolution: (height, width) of the result in pixels.
    crop: see `crop_image`; None for the whole image.
    interpolation: see `preprocess_image`.

  Returns:
    What `preprocess_image` does, or the uint8 levels of which `to_signed` is
    that.
  """
  if tuple(crop[2:] if crop else image.shape[-3:-1]) != tuple(resolution):
    return preprocess_image(image, resolution, crop, interpolation)
  return crop_image(image, crop) if crop else image


def preprocess_segmentation(
  segmentation: "tf.Tensor",
  resolution: tuple[int, int],
  crop: tuple[int, int, int, int] | None = None,
) -> "tf.Tensor":
  """Crops and resizes label maps as `fit_image` does images.

  Args:
    segmentation: [..., h, w] of integers.
    resolution: (height, width) of the result in pixels.
    crop: see `crop_image`; None for all.

  Returns:
    [..., height, width], labels of the nearest pixels, of the same type.
  """
  segmentation = segmentation[..., None]  # [..., h, w, 1]
  if crop is not None:
    segmentation = crop_image(segmentation, crop)
  return resize_nearest(segmentation, resolution)[..., 0]


def normalize_image(image: "tf.Tensor") -> "tf.Tensor":
  """Scales uint8 pixels [..., h, w, c] to float32 in [-1, 1]."""
  tf = import_tensorflow()
  return to_signed(tf.cast(image, tf.float32))


def to_signed(levels: Any, white: Any = WHITE) -> Any:
  """Scales levels, 0 to 255, to float32 in [-1, 1].

  Args:
    levels: uint8 of NumPy or JAX, or float32, of tensorflow too.
    white: the level of 1, or an array of it.

  Returns:
    Of the same kind and shape.
  """
  return (levels / white - np.float32(0.5)) * np.float32(2.0)


def crop_image(
  image: "tf.Tensor", crop: tuple[int, int, int, int]
) -> "tf.Tensor":
  """Cuts a rectangle out of an image.

  Args:
    image: [..., h, w, c], one image or a batch.
    crop: (top, left, height, width) in pixels of this image, not of another
      size of the same picture: TFDS' CLEVR is 320x480, CLEVR with masks
      240x320.

  Returns:
    [..., height, width, c].

  Raises:
    tf.errors.InvalidArgumentError or ValueError: the rectangle reaches beyond
      the image.
  """
  return import_tensorflow().image.crop_to_bounding_box(image, *crop)


def center_crop(image: "tf.Tensor", amount: float) -> "tf.Tensor":
  """Cuts a square out of the middle of an image.

  Args:
    image: [h, w, c].
    amount: up to 1 the side of the square by the shorter side of the image,
      rounded down to a pixel; otherwise in pixels; 0 for the whole image.

  Returns:
    [side, side, c], half a pixel too far up and left where it must be.

  Raises:
    tf.errors.InvalidArgumentError: the image is smaller than the square.
  """
  if not amount:
    return image
  tf = import_tensorflow()
  height, width = tf.unstack(tf.shape(image)[:2])
  side = tf.constant(int(amount))
  if amount <= 1:
    shorter = tf.cast(tf.minimum(height, width), tf.float64)
    side = tf.maximum(tf.cast(amount * shorter, tf.int32), 1)
  tf.debugging.assert_less_equal(
    side,
    tf.minimum(height, width),
    message=f"it is smaller than config.data.center_crop = {amount}",
  )
  top, left = (height - side) // 2, (width - side) // 2
  return tf.image.crop_to_bounding_box(image, top, left, side, side)


def resize_bilinear(
  image: "tf.Tensor", resolution: tuple[int, int]
) -> "tf.Tensor":
  """Resizes without antialiasing, pixel centres at half-integers.

  Args:
    image: [..., h, w, c] float32, one image or a batch.
    resolution: (height, width); another aspect ratio stretches the picture.

  Returns:
    [..., height, width, c] float32.
  """
  tf = import_tensorflow()
  return tf.image.resize(
    image, resolution, method=tf.image.ResizeMethod.BILINEAR, antialias=False
  )


def resize_nearest(
  image: "tf.Tensor", resolution: tuple[int, int]
) -> "tf.Tensor":
  """Resizes without mixing values, as PyTorch and TensorFlow 1 do.

  TensorFlow 2's own nearest neighbours count from the centres of pixels.

  Args:
    image: [..., h, w, c].
    resolution: (height, width).

  Returns:
    [..., height, width, c]; row i is row floor(i * h / height) of the image,
    and so are columns.
  """
  tf = import_tensorflow()
  for axis, size in zip((-3, -2), resolution, strict=True):
    if image.shape[axis] != size:
      old = tf.shape(image, tf.int64)[axis]
      image = tf.gather(
        image, tf.range(size, dtype=tf.int64) * old // size, axis=axis
      )
  return image


def clevr_target(objects: dict[str, Any], num_targets: int) -> "tf.Tensor":
  """Encodes the objects of a scene as rows of numbers.

  Args:
    objects: `3d_coords` [n, 3] float32, in [-3, 3] for CLEVR's positions on the
      floor, and `size`, `material`, `shape`, `color` [n] int64, TFDS' labels.
    num_targets: rows of the result.

  Returns:
    [num_targets, 19] float32: coordinates 3 as (x + 3) / 6, size 2, material 2,
    shape 3, color 8, presence 1. Objects keep their order; rows after the last
    object are zero.

  Raises:
    tf.errors.InvalidArgumentError: more objects than rows.
  """
  tf = import_tensorflow()
  coordinates = tf.cast(objects["3d_coords"], tf.float32)
  num_objects = tf.shape(coordinates)[0]
  enough_rows = tf.debugging.assert_less_equal(
    num_objects,
    num_targets,
    message=f"The scene has more objects than the {num_targets} rows of its "
    "target; raise num_targets or lower max_num_objects.",
  )
  parts = [(coordinates + 3.0) / 6.0]
  parts += [tf.one_hot(objects[name], size) for name, size in PROPERTIES]
  parts += [tf.ones([num_objects, 1])]
  rows = tf.concat(parts, axis=1)  # [num_objects, 19]
  # Otherwise the padding can fail first, with a message about paddings.
  with tf.control_dependencies([enough_rows]):
    missing = num_targets - num_objects
  target = tf.pad(rows, [[0, missing], [0, 0]])
  return tf.ensure_shape(target, [num_targets, TARGET_SIZE])
