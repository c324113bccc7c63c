"""CLEVR-style examples from random keys: images, masks and set targets."""

import dataclasses

import jax
import jax.numpy as jnp

from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import scene_sampler


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


def generate(key: jax.Array, config: SceneConfig) -> dict[str, jax.Array]:
  """Draws one example; use jax.vmap over keys for a batch.

  Args:
    key: A random key, on which alone the example depends.
    config: A SceneConfig with h x w pixels and at most o objects.

  Returns:
    image: [h, w, 3] uint8.
    segmentation: [h, w] int32, 0 for the background, i + 1 for object i, which
      is row i of the target.
    target: [o, 19] float32, as in `targets`.
    num_objects: [] int32.

  Raises:
    ValueError: If a setting is out of range.
  """
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
  )
  return {
    "image": image,
    "segmentation": segmentation,
    "target": targets(scene),
    "num_objects": scene.num_objects,
  }


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
