"""CLEVR-style examples from random keys: images, masks and factors.

Letter: o objects including padding.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import scene_sampler

# Records of CLEVR with masks (Kabra et al., 2019) have room for so many.
MAX_OBJECTS_WITH_MASKS = 10
# The numbers that its files give to the names in scene_geometry, in the order
# of those names; 0 stands for the background and for padding.
_FILE_NUMBERS = {
  "shape": np.array([3, 1, 2], np.uint8),
  "material": np.array([1, 2], np.uint8),
  "size": np.array([2, 1], np.uint8),
  "color": np.array([6, 4, 5, 8, 1, 3, 7, 2], np.uint8),
}


@dataclasses.dataclass(frozen=True)
class SceneConfig:
  """What scenes to draw, and how.

  Attributes:
    resolution: Rows and columns of the images.
    window: The part of CLEVR's 320 x 240 image that is drawn, as (top, left,
      height, width) in its pixels. The default is the square that the papers
      on object discovery cut out; objects may lie outside of it. All of every
      object shows in (18, 66, 190, 190) with a position_range of 1.5, and in
      (42, 96, 128, 128) with 0.8.
    min_num_objects: Least number of objects.
    max_num_objects: Largest number of objects, and the rows of the targets.
    position_range: Largest |x| and |y| of centres in metres; 3 is CLEVR's.
    min_visible_pixels: What must be seen of every object in the 320 x 240
      image; 0 allows hidden objects.
    antialias: Rays per pixel along each axis; 1 is 4 times faster than 2.
  """

  resolution: tuple[int, int] = (128, 128)
  window: tuple[float, float, float, float] = (29, 64, 192, 192)
  min_num_objects: int = 3
  max_num_objects: int = 10
  position_range: float = 3.0
  min_visible_pixels: int = 200
  antialias: int = 2


def generate(
  key: jax.Array,
  config: SceneConfig,
  decorate: Callable[[geometry.Scene], dict[str, Any]] | None = None,
) -> dict[str, jax.Array]:
  """Draws one example; use jax.vmap over keys for a batch.

  Args:
    key: A random key, on which alone the example depends.
    config: A SceneConfig with h x w pixels and at most o objects.
    decorate: Returns further arguments of `ray_tracer.render` for a scene.

  Returns:
    image: [h, w, 3] uint8.
    segmentation: [h, w] int32, 0 for the background, i + 1 for object i, which
      is row i of the target.
    target: [o, 19] float32, as in `targets`.
    num_objects: [] int32.

  Raises:
    ValueError: If a setting is out of range.
  """
  scene, example = _draw(key, config, decorate)
  return example | {"target": targets(scene)}


def generate_with_masks(
  key: jax.Array, config: SceneConfig
) -> dict[str, jax.Array]:
  """Draws one example as a record of CLEVR with masks describes it.

  Args:
    key: A random key, on which alone the example depends.
    config: A SceneConfig with h x w pixels and at most
      MAX_OBJECTS_WITH_MASKS objects; resolution and window of the files are
      (240, 320) and (0, 0, 240, 320).

  Returns:
    image: [h, w, 3] uint8.
    segmentation: [h, w] int32, 0 for the background, i for object i.
    num_objects: [] int32.
    x, y, z, rotation, visibility, pixel_coords, shape, material, size, color:
      [11] and [11, 3], as in `mask_factors`.

  Raises:
    ValueError: If a setting is out of range.
  """
  if config.max_num_objects > MAX_OBJECTS_WITH_MASKS:
    raise ValueError(
      f"max_num_objects={config.max_num_objects} must be at most "
      f"{MAX_OBJECTS_WITH_MASKS}, since records have room for no more."
    )
  scene, example = _draw(key, config)
  return example | mask_factors(scene)


def _draw(
  key: jax.Array,
  config: SceneConfig,
  decorate: Callable[[geometry.Scene], dict[str, Any]] | None = None,
) -> tuple[geometry.Scene, dict[str, jax.Array]]:
  """Draws a scene and the entries that all of its descriptions share."""
  scene = scene_sampler.sample_scene(
    key,
    min_num_objects=config.min_num_objects,
    max_num_objects=config.max_num_objects,
    position_range=config.position_range,
    min_visible_pixels=config.min_visible_pixels,
  )
  height, width = config.resolution
  image, segmentation = ray_tracer.render(
    scene,
    height=height,
    width=width,
    window=config.window,
    antialias=config.antialias,
    **(decorate(scene) if decorate else {}),
  )
  return scene, {
    "image": image,
    "segmentation": segmentation,
    "num_objects": scene.num_objects,
  }


def mask_factors(scene: geometry.Scene) -> dict[str, jax.Array]:
  """Describes the objects as the files of CLEVR with masks do.

  Args:
    scene: A Scene of at most MAX_OBJECTS_WITH_MASKS objects.

  Returns:
    Arrays of 11 rows: the background, the objects, and padding; but for the
    visibility, the first and the padding are zero.
    x, y, z: [11] float32, centres in metres.
    rotation: [11] float32 in [0, 360).
    visibility: [11] float32, 1 for the background and for objects.
    pixel_coords: [11, 3] float32, whole column and row in the 320 x 240 image,
      and the depth in metres.
    shape: [11] uint8: 1 sphere, 2 cylinder, 3 cube.
    material: [11] uint8: 1 rubber, 2 metal.
    size: [11] uint8: 1 large, 2 small.
    color: [11] uint8: 1 red, 2 cyan, 3 green, 4 blue, 5 brown, 6 gray, 7
      purple, 8 yellow.
  """
  pixels = ray_tracer.pixel_coordinates(scene)
  columns = {
    **{name: scene.position[:, i] for i, name in enumerate("xyz")},
    "rotation": scene.rotation,
    "visibility": jnp.ones_like(scene.rotation),
    "pixel_coords": pixels.at[:, :2].set(jnp.round(pixels[:, :2])),
    **{
      name: jnp.asarray(numbers)[getattr(scene, name)]
      for name, numbers in _FILE_NUMBERS.items()
    },
  }
  factors = {
    name: _mask_rows(column, scene.num_objects)
    for name, column in columns.items()
  }
  factors["visibility"] = factors["visibility"].at[0].set(1.0)
  return factors


def _mask_rows(column: jax.Array, num_objects: jax.Array) -> jax.Array:
  """Puts [o, ...] behind a row of zeros, and zeros behind the objects."""
  size = column.shape[0]
  exists = jnp.arange(size) < num_objects
  # [o] -> [o, ...]
  exists = exists.reshape(-1, *[1] * (column.ndim - 1))
  column = jnp.where(exists, column, jnp.zeros_like(column))
  padding = [(1, MAX_OBJECTS_WITH_MASKS - size)] + [(0, 0)] * (column.ndim - 1)
  return jnp.pad(column, padding)


def targets(scene: geometry.Scene) -> jax.Array:
  """Describes the objects as set prediction predicts them.

  Args:
    scene: A Scene of o objects.

  Returns:
    [o, 19] float32 in [0, 1]: coordinates (x + 3) / 6 (3 values), then one-hot
    size (2), material (2), shape (3) and colour (8) in the order of the names
    in scene_geometry, and 1 for presence. Rows of padding are zero.
  """
  kinds = (
    (scene.size, geometry.SIZES),
    (scene.material, geometry.MATERIALS),
    (scene.shape, geometry.SHAPES),
    (scene.color, geometry.COLORS),
  )
  exists = jnp.arange(scene.shape.shape[0]) < scene.num_objects
  columns = [
    (scene.position + 3.0) / 6.0,
    *(jax.nn.one_hot(index, len(names)) for index, names in kinds),
    jnp.ones_like(scene.rotation)[:, None],
  ]
  return jnp.where(exists[:, None], jnp.concatenate(columns, axis=1), 0.0)
