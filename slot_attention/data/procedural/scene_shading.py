"""How the surfaces of a CLEVR scene look under its four lights.

The positions, powers and colours of the lights are those of CLEVR's Blender
file, and their light follows the laws of physics. The few constants of the
surfaces were fitted to ten real CLEVR images.

Letters: o objects including padding, l lights, r rays. Colours are linear
light, with red, green and blue along the first axis: [3, r].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.procedural import scene_geometry as geometry

# Of the objects, in the order of COLORS. CLEVR's numbers, which look like
# sRGB, are given to Blender as linear light.
_PALETTE = np.array(
  [
    [87, 87, 87],
    [42, 75, 215],
    [129, 74, 25],
    [255, 238, 51],
    [173, 35, 35],
    [29, 105, 20],
    [129, 38, 192],
    [41, 208, 208],
  ],
  np.float32,
) / np.float32(255.0)

# The sun, so far away that it can be treated like the other lights.
_SUN_DISTANCE = 1000.0
_SUN = _SUN_DISTANCE * np.array([0.4145, -0.1946, 0.889], np.float32)
# Irradiance at a distance of one metre of the key, fill and back light (areas
# of 78.5, 23.6 and 39.3 W) and of the sun (0.45 W / m^2 at the origin).
_POWERS = np.array(
  [78.5 / np.pi, 23.6 / np.pi, 39.3 / np.pi, 0.45 * _SUN_DISTANCE**2],
  np.float32,
)
_LIGHT_COLORS = np.array(
  [[1.0, 0.932, 0.817], [0.762, 0.818, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
  np.float32,
)

# Fitted to real images. Strengths are fractions of the arriving light.
_AMBIENT = 0.091  # Radiance that arrives from everywhere.
_GROUND = 0.617
_RUBBER_DIFFUSE = 0.918
_METAL_DIFFUSE = 0.160
_METAL_MIRROR = 0.765
_METAL_GLOSS = 0.136  # Strength of the mirrored lights.
_METAL_ROUGHNESS = 0.069  # Their width.
# CLEVR's ground bends up into a backdrop. Here it is a plane that fades into
# one brightness between these distances from the origin, in metres.
_FADE_START, _FADE_END = 8.15, 57.3
_HORIZON = 0.172
_SKY = 0.061  # Above the horizon, where only reflections look.


# Takes ids [r], 0 for the ground, and where on the surface rays meet it: in the
# frame of the object, or on the ground in metres; returns albedos [3, r].
Paint = Callable[[jax.Array, geometry.Vector], jax.Array]


class Surface(NamedTuple):
  """The surfaces that rays meet.

  Attributes:
    normal: Vector of [r].
    albedo: [3, r] float32, colour of the object, or 1 on the ground.
    is_object: [r] bool, False on the ground.
    is_metal: [r] bool.
  """

  normal: geometry.Vector
  albedo: jax.Array
  is_object: jax.Array
  is_metal: jax.Array


def light_positions(lights: jax.Array) -> geometry.Vector:
  """Adds the sun to the lights of a scene.

  Args:
    lights: [3, 3] float32, the lights of a Scene.

  Returns:
    Vector of [l, 1], to be combined with points of [1, r].
  """
  position = jnp.concatenate([lights, jnp.asarray(_SUN)[None, :]])
  return geometry.Vector(*(position[:, i, None] for i in range(3)))


def surface_at(
  scene: geometry.Scene,
  objects: geometry.Solids,
  ids: jax.Array,
  point: geometry.Vector,
  paint: Paint | None = None,
) -> Surface:
  """Describes the surfaces on which points lie.

  Args:
    scene: A Scene of o objects.
    objects: Its Solids.
    ids: [r] int32, 0 for points on the ground and i + 1 on object i.
    point: Vector of [r].
    paint: Colours of the surfaces; None for those of the scene on white ground.

  Returns:
    Surface of [r].
  """
  index, is_object = jnp.maximum(ids - 1, 0), ids > 0
  solid = jax.tree.map(lambda v: v[index], objects)
  inside = geometry.to_local(solid, geometry.subtract(point, solid.center))
  local = _local_normal(scene.shape[index], inside)
  normal = geometry.Vector(
    solid.cos * local.x - solid.sin * local.y,
    solid.sin * local.x + solid.cos * local.y,
    local.z,
  )
  upward = geometry.Vector(0.0, 0.0, 1.0)
  if paint is None:
    colors = jnp.asarray(_PALETTE.T)[:, scene.color]  # [3, o]
    albedo = jnp.where(is_object[None, :], colors[:, index], 1.0)
  else:
    albedo = paint(ids, geometry.select(is_object, inside, point))
  return Surface(
    normal=geometry.select(is_object, geometry.normalized(normal), upward),
    albedo=albedo,
    is_object=is_object,
    is_metal=is_object & (scene.material[index] == 1),
  )


def _local_normal(shape: jax.Array, point: geometry.Vector) -> geometry.Vector:
  """Returns outward vectors at points on objects, in the object's frame."""
  cube, sphere = shape == 0, shape == 1
  x, y, z = (jnp.abs(v) for v in point)
  side = jnp.where(cube, jnp.maximum(x, y), jnp.sqrt(x * x + y * y))
  lid = ~sphere & (z >= side)
  face_x, face_y = cube & (x > y), cube & (x <= y)
  return geometry.Vector(
    jnp.where(lid | face_y, 0.0, point.x),
    jnp.where(lid | face_x, 0.0, point.y),
    jnp.where(lid | sphere, point.z, 0.0),
  )


def lighting(
  objects: geometry.Solids,
  lights: geometry.Vector,
  point: geometry.Vector,
  normal: geometry.Vector,
  view: geometry.Vector,
) -> tuple[jax.Array, jax.Array]:
  """Computes what the lights do at points that are not in their shadow.

  Args:
    objects: Solids of a scene, which throw the shadows.
    lights: Vector of [l, 1], from `light_positions`.
    point: Vector of [r], a little above the surface.
    normal: Vector of [r], of length 1.
    view: Vector of [r], of length 1, from the point to the eye.

  Returns:
    irradiance: [3, r] float32.
    gloss: [3, r] float32, the lights as a rough mirror reflects them.
  """
  point, normal, view = jax.tree.map(
    lambda v: v[None, :], (point, normal, view)
  )
  to_light = geometry.subtract(lights, point)  # [l, r]
  lit = ~geometry.any_hit(objects, geometry.Rays(point, to_light))
  toward = geometry.normalized(to_light)
  # Area lights that face the origin, and are small as seen from there.
  axis = geometry.normalized(lights)
  strength = jnp.asarray(_POWERS)[:, None] * jnp.maximum(
    geometry.dot(toward, axis), 0.0
  )
  strength = strength / geometry.dot(to_light, to_light)
  cosine = jnp.maximum(geometry.dot(normal, toward), 0.0)
  irradiance = jnp.where(lit, strength * cosine, 0.0)
  gloss = irradiance * _facets(normal, geometry.add(toward, view))
  return _sum_lights(irradiance), _sum_lights(gloss)


def _facets(normal: geometry.Vector, half: geometry.Vector) -> jax.Array:
  """Returns the density of facets towards `half` (Trowbridge and Reitz)."""
  cosine2 = geometry.dot(normal, half) ** 2 / geometry.dot(half, half)
  alpha2 = _METAL_ROUGHNESS**2
  spread = cosine2 * (alpha2 - 1.0) + 1.0
  return alpha2 / (np.pi * spread * spread)


def _sum_lights(strength: jax.Array) -> jax.Array:
  """Sums strengths [l, r] times the colours of the lights into [3, r]."""
  return sum(
    color[:, None] * strength[i][None, :]
    for i, color in enumerate(_LIGHT_COLORS)
  )


def shade(
  surface: Surface,
  irradiance: jax.Array,
  gloss: jax.Array,
  reflection: jax.Array | float,
) -> jax.Array:
  """Computes the light that surfaces send to the eye.

  Args:
    surface: Surface of [r].
    irradiance: [3, r] float32, from `lighting`.
    gloss: [3, r] float32, from `lighting`.
    reflection: [3, r] float32, what a mirror in the place of the surface would
      show.

  Returns:
    [3, r] float32.
  """
  diffuse = jnp.where(surface.is_metal, _METAL_DIFFUSE, _RUBBER_DIFFUSE)
  diffuse = jnp.where(surface.is_object, diffuse, _GROUND)
  light = diffuse[None, :] * (irradiance / np.pi + _AMBIENT)
  mirrored = _METAL_GLOSS * gloss + _METAL_MIRROR * reflection
  light = light + jnp.where(surface.is_metal[None, :], mirrored, 0.0)
  return surface.albedo * light


def fade_ground(
  colors: jax.Array,
  surface: Surface,
  point: geometry.Vector,
  direction: geometry.Vector,
) -> jax.Array:
  """Replaces the far ground, and the void above it, by a backdrop.

  Args:
    colors: [3, r] float32.
    surface: Surface of [r].
    point: Vector of [r], where the rays meet the ground or an object.
    direction: Vector of [r], of the rays.

  Returns:
    [3, r] float32, unchanged on objects.
  """
  distance = jnp.sqrt(point.x * point.x + point.y * point.y)
  fade = (distance - _FADE_START) / (_FADE_END - _FADE_START)
  fade = jnp.where(surface.is_object, 0.0, jnp.clip(fade, 0.0, 1.0))
  backdrop = jnp.where(direction.z < 0.0, _HORIZON, _SKY)
  return colors + fade[None, :] * (backdrop[None, :] - colors)


def to_srgb(linear: jax.Array) -> jax.Array:
  """Converts linear light to sRGB values in [0, 1], and clips it."""
  x = jnp.clip(linear, 0.0, 1.0)
  curve = 1.055 * jnp.power(jnp.maximum(x, 1e-3), 1.0 / 2.4) - 0.055
  return jnp.where(x <= 0.0031308, 12.92 * x, curve)
