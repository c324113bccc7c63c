"""Draws textured objects in motion: frames, masks, depth, flow and normals.

The ray tracer's shapes and lights, without mirrors, under solid textures and a
textured floor and sky.

Letters: o objects including padding, m their textures with floor and sky, p
pixels, r rays.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import scene_shading as shading

# The view is as wide as CLEVR's and as high: of its 240 x 320 window.
WINDOW = (-40.0, 0.0, 320.0, 320.0)
DOME = 20.0  # Where the floor ends and the sky stands, metres from the camera.
_LIGHTS = np.array(
  [[6.4, -2.9, 6.2], [-4.7, -4.0, 5.0], [-1.2, 4.6, 6.8]], np.float32
)
_OFFSET = 1e-3  # Lifts rays off the surface from which they start, in metres.
_RAYS_PER_CHUNK = 2048  # Few enough to stay in a processor's cache.
_EXPOSURE = 1.7  # CLEVR's lights, made brighter for darker textures.
_EDGE = 6.0  # Sharpness of the patterns' edges.


class Surfaces(NamedTuple):
  """Arrays of `movi_scenes.Textures`, in its order: floor, sky, objects."""

  kind: jax.Array
  axis: jax.Array
  frequency: jax.Array
  phase: jax.Array
  colors: jax.Array


class Setting(NamedTuple):
  """What stays the same in all frames of a video.

  Attributes:
    shape: [o] int32, index into scene_geometry.SHAPES.
    radius: [o] float32.
    num_objects: [] int32.
    camera: [3] float32.
    surfaces: of m = o + 2 textures.
  """

  shape: jax.Array
  radius: jax.Array
  num_objects: jax.Array
  camera: jax.Array
  surfaces: Surfaces


class Pose(NamedTuple):
  """Where objects are: position [o, 3] and angle [o], both float32."""

  position: jax.Array
  angle: jax.Array


class _Hit(NamedTuple):
  """What rays [r] meet: ids as in masks, depth is in units of the ray."""

  depth: jax.Array
  ids: jax.Array
  is_sky: jax.Array
  point: geometry.Vector
  local: geometry.Vector  # The point in the object's frame.
  surface: shading.Surface


@functools.partial(jax.jit, static_argnames=("size", "antialias"))
def render(
  setting: Setting,
  before: Pose,
  now: Pose,
  after: Pose,
  *,
  size: tuple[int, int],
  antialias: int = 2,
) -> dict[str, jax.Array]:
  """Draws a frame.

  Args:
    setting: the video's.
    before: poses in the frame before.
    now: poses in this frame.
    after: poses in the next frame.
    size: (height, width) in pixels.
    antialias: rays per pixel along each axis.

  Returns:
    video: [h, w, 3] uint8, sRGB.
    segmentations: [h, w] int32, 0 background, i + 1 object i.
    depth: [h, w] float32, metres from the camera.
    normal: [h, w, 3] float32 in [-1, 1], zero in the sky.
    object_coordinates: [h, w, 3] float32 in [0, 1], zero in the background.
    forward_flow, backward_flow: [h, w, 2] float32, where the point will be in
      the next frame, or was in the one before, less where it is: rows and
      columns in pixels.
    centers: [o, 2] float32, column and row of the objects' centres, in [0, 1].
  """
  height, width = size
  num_pixels = height * width
  num_chunks = -(-num_pixels // _RAYS_PER_CHUNK)
  pixels = jnp.arange(num_chunks * -(-num_pixels // num_chunks))
  draw = functools.partial(
    _draw_pixels, setting, (before, now, after), size, antialias
  )
  # [chunks * p] -> [chunks, p] -> [chunks, p, c]
  drawn = jax.lax.map(draw, pixels.reshape(num_chunks, -1))
  # [chunks, p, c] -> [h, w, c]
  result = jax.tree.map(
    lambda x: x.reshape(-1, x.shape[-1])[:num_pixels].reshape(*size, -1), drawn
  )
  result["segmentations"] = result["segmentations"][..., 0]
  result["depth"] = result["depth"][..., 0]
  position = geometry.Vector(*(now.position[:, i] for i in range(3)))
  return result | {"centers": image_positions(setting.camera, position)}


def image_positions(camera: jax.Array, point: geometry.Vector) -> jax.Array:
  """Returns column and row [r, 2] of points [r], 0 to 1 within the image."""
  row, column = _project(camera, point)
  column = (column + geometry.IMAGE_WIDTH / 2 - WINDOW[1]) / WINDOW[3]
  row = (row + geometry.IMAGE_HEIGHT / 2 - WINDOW[0]) / WINDOW[2]
  return jnp.stack([column, row], axis=-1)


def _scene(setting: Setting, pose: Pose) -> geometry.Scene:
  zeros = jnp.zeros_like(setting.shape)
  return geometry.Scene(
    shape=setting.shape,
    material=zeros,
    size=zeros,
    color=zeros,
    position=pose.position,
    rotation=pose.angle,
    num_objects=setting.num_objects,
    camera=setting.camera,
    lights=jnp.asarray(_LIGHTS),
  )


def _solids(setting: Setting, pose: Pose) -> geometry.Solids:
  solids = geometry.solids(_scene(setting, pose))
  return solids._replace(radius=jnp.maximum(setting.radius, 1e-3))


def _draw_pixels(
  setting: Setting,
  poses: tuple[Pose, Pose, Pose],
  size: tuple[int, int],
  antialias: int,
  pixels: jax.Array,
) -> dict[str, jax.Array]:
  """Draws pixels [p], counted row by row, as arrays [p, c]."""
  before, now, after = (_solids(setting, pose) for pose in poses)
  scene = _scene(setting, poses[1])
  step = WINDOW[2] / size[0], WINDOW[3] / size[1]

  def rays_at(dy: jax.Array | float, dx: jax.Array | float) -> geometry.Rays:
    px = WINDOW[1] + (pixels % size[1] + dx) * step[1]
    py = WINDOW[0] + (pixels // size[1] + dy) * step[0]
    return geometry.camera_rays(setting.camera, px, py)

  def add_ray(total: jax.Array, offset: tuple) -> tuple[jax.Array, None]:
    rays = rays_at(*offset)
    hit = _meet(scene, now, rays)
    return total + _color(setting, now, rays, hit), None

  # [2, a, a] -> [2, a * a]
  grid = (np.indices((antialias, antialias), np.float32) + 0.5) / antialias
  start = jnp.zeros((3, pixels.size))
  light, _ = jax.lax.scan(add_ray, start, tuple(grid.reshape(2, -1)))
  image = jnp.round(255.0 * shading.to_srgb(light / antialias**2))
  rays = rays_at(0.5, 0.5)
  hit = _meet(scene, now, rays)
  return {
    "video": image.T.astype(jnp.uint8),  # [3, p] -> [p, 3]
    "segmentations": hit.ids[:, None],
    "depth": (hit.depth * _length(rays.direction))[:, None],
    "normal": jnp.where(
      hit.is_sky[:, None], 0.0, jnp.stack(hit.surface.normal, axis=-1)
    ),
    "object_coordinates": jnp.where(
      (hit.ids > 0)[:, None],
      jnp.clip(0.5 + 0.5 * jnp.stack(hit.local, axis=-1), 0.0, 1.0),
      0.0,
    ),
    "forward_flow": _flow(setting, hit, now, after, step),
    "backward_flow": _flow(setting, hit, now, before, step),
  }


def _length(v: geometry.Vector) -> jax.Array:
  return jnp.sqrt(geometry.dot(v, v))


def _meet(
  scene: geometry.Scene, objects: geometry.Solids, rays: geometry.Rays
) -> _Hit:
  """Finds what rays [r] from the camera meet first."""
  t, ids = geometry.nearest(objects, rays)
  far = DOME / _length(rays.direction)
  falls = rays.direction.z < -1e-6
  ground = rays.origin.z / jnp.where(falls, -rays.direction.z, 1e-6)
  is_sky = (ids == 0) & (~falls | (ground > far))
  depth = jnp.where(ids > 0, t, jnp.where(is_sky, far, ground))
  point = geometry.along(rays, depth)
  solid = jax.tree.map(lambda x: x[jnp.maximum(ids - 1, 0)], objects)
  local = geometry.to_local(solid, geometry.subtract(point, solid.center))
  surface = shading.surface_at(scene, objects, ids, point)
  return _Hit(depth, ids, is_sky, point, local, surface)


def _color(
  setting: Setting, objects: geometry.Solids, rays: geometry.Rays, hit: _Hit
) -> jax.Array:
  """Returns the light [3, r] that comes along rays."""
  toward = geometry.normalized(rays.direction)
  place = geometry.select(hit.is_sky, toward, hit.point)
  place = geometry.select(hit.ids > 0, hit.local, place)
  rows = jnp.where(hit.ids > 0, hit.ids + 1, hit.is_sky.astype(jnp.int32))
  albedo = _texture(setting.surfaces, rows, place)
  surface = hit.surface._replace(albedo=albedo)
  above = geometry.add(hit.point, geometry.scaled(_OFFSET, surface.normal))
  lights = shading.light_positions(jnp.asarray(_LIGHTS))
  irradiance, gloss = shading.lighting(
    objects, lights, above, surface.normal, geometry.scaled(-1.0, toward)
  )
  lit = _EXPOSURE * shading.shade(surface, irradiance, gloss, 0.0)
  return jnp.where(hit.is_sky[None, :], albedo, lit)


def _texture(
  surfaces: Surfaces, rows: jax.Array, place: geometry.Vector
) -> jax.Array:
  """Returns the colours [3, r] of textures `rows` [r] at points of space."""
  frequency = surfaces.frequency[rows]
  phase, axis = (x[rows].T for x in (surfaces.phase, surfaces.axis))  # [3, r]
  u = [2 * frequency * x + phase[i] for i, x in enumerate(place)]
  along = axis[0] * u[0] + axis[1] * u[1] + axis[2] * u[2]
  # Waves of which each bends the next look like no simple pattern.
  bend = jnp.sin(u[0] + 1.7 * jnp.sin(u[1] + phase[2]))
  bend = bend + jnp.sin(1.3 * u[1] + 1.9 * jnp.sin(u[2] + phase[0]))
  checks = jnp.sin(u[0]) * jnp.sin(u[1] + 0.5) * jnp.sin(u[2] + 1.0)
  patterns = (jnp.sin(2 * along + 0.3 * bend), 4 * checks, bend)
  wave = jnp.choose(surfaces.kind[rows], patterns, mode="clip")
  share = jax.nn.sigmoid(_EDGE * wave)[None, :]
  # [r, 2, 3] -> two of [3, r]
  first, second = jnp.moveaxis(surfaces.colors[rows], 0, -1)
  grain = jnp.sin(7.0 * along + 3.0 * bend) * jnp.sin(5.0 * u[2] + 4.0 * bend)
  color = share * first + (1 - share) * second
  return jnp.clip(color * (1.0 + 0.35 * grain)[None, :], 0.0, 1.0)


def _flow(
  setting: Setting,
  hit: _Hit,
  now: geometry.Solids,
  other: geometry.Solids,
  step: tuple[float, float],
) -> jax.Array:
  """Returns how far points move [p, 2], rows and columns in pixels."""
  index = jnp.maximum(hit.ids - 1, 0)
  new = jax.tree.map(lambda x: x[index], other)
  moved = geometry.Vector(
    new.cos * hit.local.x - new.sin * hit.local.y,
    new.sin * hit.local.x + new.cos * hit.local.y,
    hit.local.z,
  )
  moved = geometry.add(new.center, geometry.scaled(new.radius, moved))
  shift = []
  for a, b in zip(
    _project(setting.camera, moved),
    _project(setting.camera, hit.point),
    strict=True,
  ):
    shift.append(jnp.where(hit.ids > 0, a - b, 0.0))
  return jnp.stack([shift[0] / step[0], shift[1] / step[1]], axis=-1)


def _project(
  camera: jax.Array, point: geometry.Vector
) -> tuple[jax.Array, jax.Array]:
  """Returns rows and columns [r] of points, in pixels of the 240x320 view."""
  origin = geometry.Vector(camera[0], camera[1], camera[2])
  relative = geometry.subtract(point, origin)
  right, up, depth = (
    geometry.dot(relative, axis) for axis in geometry.camera_axes(camera)
  )
  scale = geometry.FOCAL_LENGTH / depth
  return -scale * up, scale * right
