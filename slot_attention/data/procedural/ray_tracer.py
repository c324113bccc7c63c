"""Draws CLEVR scenes: four lights, hard shadows, one mirror reflection.

Simplified against CLEVR's Blender scenes: lights are points, edges of objects
are sharp, and light that goes from surface to surface is a constant, but for
one reflection in metal. A pixel is on average 2 to 3 of 255 steps away from
that of a real image whose lights are known.

Letters: o objects including padding, p pixels, r rays.
"""

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import scene_shading as shading

if TYPE_CHECKING:
  from slot_attention.data.procedural import mirrors

# The part of the 320 x 240 image that the 480 x 320 images of CLEVR v1.0 (and
# so of TFDS) show: the same width, less height.
TFDS_WINDOW = (40 / 3, 0, 640 / 3, 320)

# Lifts rays off the surface from which they start, in metres.
_OFFSET = 1e-3
# Where rays that run beside or above the ground are said to meet it.
_FAR = 1e4
# Rays of one image that are traced at a time: few enough to stay in the cache
# of a processor, also when a batch of 64 images is traced together.
_RAYS_PER_CHUNK = 1200


def render(
  scene: geometry.Scene,
  *,
  height: int,
  width: int,
  window: tuple[float, float, float, float] = (0, 0, 240, 320),
  antialias: int = 2,
  mirror: "mirrors.Mirror | None" = None,
  paint: shading.Paint | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Draws a scene.

  Args:
    scene: A Scene of o objects.
    height: Rows of the output.
    width: Columns of the output.
    window: The part of the 320 x 240 image that is drawn, as (top, left,
      height, width) in its pixels; fractions are allowed. The 320 x 480 images
      of TFDS show TFDS_WINDOW.
    antialias: Rays per pixel along each axis; 2 averages 2 x 2 rays.
    mirror: Stands behind all objects; it counts as background and throws no
      shadow, and metal does not show it.
    paint: Colours surfaces in place of the scene's colours.

  Returns:
    image: [height, width, 3] uint8, sRGB.
    segmentation: [height, width] int32, what the centre of the pixel shows: 0
      for the background, i + 1 for object i.

  Raises:
    ValueError: If a size is not positive.
  """
  if min(height, width, antialias, *window[2:]) <= 0:
    raise ValueError(
      f"height={height}, width={width}, antialias={antialias} and the last two "
      f"numbers of window={window} must be positive."
    )
  draw = functools.partial(
    _draw_pixels,
    scene,
    width=width,
    corner=window[:2],
    step=(window[2] / height, window[3] / width),
    antialias=antialias,
    mirror=mirror,
    paint=paint,
  )
  num_pixels = height * width
  num_chunks = -(-num_pixels // _RAYS_PER_CHUNK)
  # The last chunk may hang over the lower border, and is cut off there.
  pixels = jnp.arange(num_chunks * -(-num_pixels // num_chunks))
  # [chunks, pixels per chunk] -> [chunks, 3, p], [chunks, p]
  colors, ids = jax.lax.map(draw, pixels.reshape(num_chunks, -1))
  # [chunks, 3, p] -> [chunks, p, 3] -> [chunks * p, 3]
  colors = jnp.moveaxis(colors, 1, 2).reshape(-1, 3)
  return (
    colors[:num_pixels].reshape(height, width, 3),
    ids.reshape(-1)[:num_pixels].reshape(height, width),
  )


def pixel_coordinates(scene: geometry.Scene) -> jax.Array:
  """Projects the centres of the objects into the 320 x 240 image.

  Args:
    scene: A Scene of o objects.

  Returns:
    [o, 3] float32: px from 0 at the left to 320 at the right border, py from 0
    at the upper to 240 at the lower border, and the depth along the axis of
    the camera in metres. The files of CLEVR hold px and py rounded.
  """
  relative = scene.position - scene.camera[None, :]
  relative = geometry.Vector(*(relative[:, i] for i in range(3)))
  right, up, depth = (
    geometry.dot(relative, axis) for axis in geometry.camera_axes(scene.camera)
  )
  px = geometry.IMAGE_WIDTH / 2 + geometry.FOCAL_LENGTH * right / depth
  py = geometry.IMAGE_HEIGHT / 2 - geometry.FOCAL_LENGTH * up / depth
  return jnp.stack([px, py, depth], axis=-1)


def visible_ids(
  scene: geometry.Scene, px: jax.Array, py: jax.Array
) -> jax.Array:
  """Finds which object is seen at points of the image, without shading.

  Args:
    scene: A Scene of o objects.
    px: [r] float32, coordinates in the 320 x 240 image.
    py: [r] float32, likewise.

  Returns:
    [r] int32, 0 for the background and i + 1 for object i.
  """
  rays = geometry.camera_rays(scene.camera, px, py)
  return geometry.nearest(geometry.solids(scene), rays)[1]


def _draw_pixels(
  scene: geometry.Scene,
  pixels: jax.Array,
  *,
  width: int,
  corner: tuple[float, float],
  step: tuple[float, float],
  antialias: int,
  mirror: "mirrors.Mirror | None",
  paint: shading.Paint | None,
) -> tuple[jax.Array, jax.Array]:
  """Draws pixels [p], counted row by row, as uint8 [3, p] and ids [p]."""
  rows, columns = pixels // width, pixels % width
  objects = geometry.solids(scene)
  lights = shading.light_positions(scene.lights)

  def image_point(dy, dx):
    """Returns the px and py [p] of one point within every pixel."""
    px = corner[1] + (columns + dx) * step[1]
    py = corner[0] + (rows + dy) * step[0]
    return px, py

  def add_ray(total, offset):
    """Adds the light [3, p] at one such point; also returns ids [p]."""
    rays = geometry.camera_rays(scene.camera, *image_point(*offset))
    if mirror is not None:
      rays, in_mirror = mirror.reflect(objects, rays)
    colors, ids = _trace(scene, objects, lights, rays, paint, reflect=True)
    if mirror is not None:
      colors = mirror.tint(colors, in_mirror)
      ids = jnp.where(in_mirror, 0, ids)
    return total + colors, ids

  # [2, a, a] -> [2, a * a]
  grid = (np.indices((antialias, antialias), np.float32) + 0.5) / antialias
  offsets = tuple(grid.reshape(2, -1))
  colors, ids = jax.lax.scan(add_ray, jnp.zeros((3, pixels.size)), offsets)
  ids = ids[0] if antialias == 1 else visible_ids(scene, *image_point(0.5, 0.5))
  colors = shading.to_srgb(colors / antialias**2)
  return jnp.round(255.0 * colors).astype(jnp.uint8), ids


def _trace(
  scene: geometry.Scene,
  objects: geometry.Solids,
  lights: geometry.Vector,
  rays: geometry.Rays,
  paint: shading.Paint | None,
  reflect: bool,
) -> tuple[jax.Array, jax.Array]:
  """Returns the linear colours [3, r] and the ids [r] that rays meet."""
  t, ids = geometry.nearest(objects, rays)
  falls = rays.direction.z < -1e-6
  ground = rays.origin.z / jnp.where(falls, -rays.direction.z, 1e-6)
  ground = jnp.where(falls, ground, _FAR)
  # All objects stand on the ground, and are met before it.
  point = geometry.along(rays, jnp.where(ids > 0, t, ground))
  surface = shading.surface_at(scene, objects, ids, point, paint)
  normal = surface.normal
  above = geometry.add(point, geometry.scaled(_OFFSET, normal))
  view = geometry.normalized(geometry.scaled(-1.0, rays.direction))
  irradiance, gloss = shading.lighting(objects, lights, above, normal, view)
  reflection = 0.0
  if reflect:
    twice = geometry.scaled(2.0 * geometry.dot(view, normal), normal)
    bounce = geometry.Rays(above, geometry.subtract(twice, view))
    reflection, _ = _trace(scene, objects, lights, bounce, paint, reflect=False)
  colors = shading.shade(surface, irradiance, gloss, reflection)
  return shading.fade_ground(colors, surface, point, rays.direction), ids
