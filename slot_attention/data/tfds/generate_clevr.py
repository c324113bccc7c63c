"""Writes procedural CLEVR scenes as a data set that TFDS reads."""

from collections.abc import Callable, Iterator
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from slot_attention.data import clevr
from slot_attention.data import preprocess
from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_sampler
from slot_attention.data.tfds import tfds_writer

SPLITS = ("train", "validation", "test")
# CLEVR's file names abbreviate this one.
_FILE_SPLIT = {"validation": "val"}
# The picture in which the generator states pixel coordinates.
_VIEW_HEIGHT, _VIEW_WIDTH = 240, 320


def generate(
  output: str,
  num_examples: dict[str, int],
  seed: int = 0,
  size: tuple[int, int] = (320, 480),
  min_num_objects: int = 3,
  max_num_objects: int = 10,
) -> pathlib.Path:
  """Writes procedural scenes as a prepared TFDS directory of CLEVR.

  Scene i of a split is a function of (seed, split, i), so a larger set begins
  with the scenes of a smaller one. There are no questions and answers.

  Args:
    output: the directory that will hold clevr/3.1.0.
    num_examples: number of scenes by split: "train", "validation", "test".
    seed: which scenes.
    size: (height, width) of the images in pixels; published images are 320x480.
    min_num_objects: smallest number of objects in a scene.
    max_num_objects: largest number of objects in a scene.

  Returns:
    The directory, output/clevr/3.1.0.

  Raises:
    FileExistsError: there is something at the target already.
    ValueError: there cannot be so many objects, or no scene was asked for.
  """

  def make(key: jax.Array) -> Any:
    return _make_scene(key, tuple(size), min_num_objects, max_num_objects)

  jax.eval_shape(make, jax.random.key(seed))  # Refuses impossible scenes.
  name = f"{clevr.NAME}/{clevr.VERSION}"
  tfds_writer.check_target(pathlib.Path(output) / name)
  preprocess.import_tensorflow()
  import tensorflow_datasets as tfds

  builder = tfds.builder(f"{clevr.NAME}:{clevr.VERSION}", data_dir=output)
  splits = {}
  for number, split in enumerate(SPLITS):
    count = num_examples.get(split, 0)
    key = jax.random.fold_in(jax.random.key(seed), number)
    splits[split] = tfds_writer.Split(count, _examples(make, key, split, count))
  return tfds_writer.write_tfds_directory(
    output, name, builder.info.features, splits
  )


def view_window(size: tuple[int, int]) -> tuple[float, float, float, float]:
  """Returns which part of the 240x320 view an image of another size shows.

  A camera keeps its horizontal angle of view when only the shape of the image
  changes, so CLEVR's 320x480 images show less above and below.

  Args:
    size: (height, width) of the image in pixels.

  Returns:
    (top, left, height, width) in pixels of the 240x320 view; it reaches beyond
    the view where the image is taller than 3:4.
  """
  height, width = size
  rows = height * _VIEW_WIDTH / width
  return ((_VIEW_HEIGHT - rows) / 2, 0.0, rows, float(_VIEW_WIDTH))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _make_scene(
  key: jax.Array,
  size: tuple[int, int],
  min_num_objects: int,
  max_num_objects: int,
) -> tuple[Any, jax.Array, jax.Array]:
  """Returns a scene, its image [h, w, 3] uint8, and pixel positions [o, 3]."""
  scene = scene_sampler.sample_scene(
    key, min_num_objects=min_num_objects, max_num_objects=max_num_objects
  )
  image, _ = ray_tracer.render(
    scene, height=size[0], width=size[1], window=view_window(size)
  )
  return scene, image, ray_tracer.pixel_coordinates(scene)


def _examples(
  make: Callable[[jax.Array], Any], key: jax.Array, split: str, count: int
) -> Iterator[dict[str, Any]]:
  """Yields the examples of a split; the next is rendered meanwhile."""
  pending = make(jax.random.fold_in(key, 0)) if count else None
  for i in range(count):
    current = pending
    if i + 1 < count:
      pending = make(jax.random.fold_in(key, i + 1))
    name = f"CLEVR_{_FILE_SPLIT.get(split, split)}_{i:06d}.png"
    yield _to_example(*jax.device_get(current), name)


def _to_example(
  scene: Any, image: np.ndarray, pixels: np.ndarray, name: str
) -> dict[str, Any]:
  """Puts a scene into the form that TFDS' CLEVR encodes."""
  tf = preprocess.import_tensorflow()
  stored_pixels = to_image_pixels(pixels, image.shape[:2])
  objects = [
    {
      "color": int(scene.color[i]),
      "material": int(scene.material[i]),
      "shape": int(scene.shape[i]),
      "size": int(scene.size[i]),
      "rotation": scene.rotation[i],
      "3d_coords": scene.position[i],
      "pixel_coords": stored_pixels[i],
    }
    for i in range(int(scene.num_objects))
  ]
  return {
    # The lowest compression: 20 % larger, 9 times faster than the default.
    "image": tf.io.encode_png(image, compression=1).numpy(),
    "file_name": name,
    "objects": objects,
    "question_answer": [],
  }


def to_image_pixels(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Converts coordinates in the 240x320 view to those in an image.

  Args:
    pixels: [o, 3] float32, column, row and depth.
    size: (height, width) of the image in pixels.

  Returns:
    [o, 3] float32; columns and rows are whole numbers, as in CLEVR.
  """
  top, left, _, view_width = view_window(size)
  places = (pixels[:, :2] - [left, top]) * (size[1] / view_width)
  return np.concatenate([np.round(places), pixels[:, 2:]], 1, dtype=np.float32)
