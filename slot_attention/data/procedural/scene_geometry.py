"""What a CLEVR scene consists of, and where rays meet it.

Letters: o objects including padding, r rays. Vectors are kept as separate
x, y and z arrays: with a trailing axis of length 3 most lanes of the processor
stay empty, which makes the ray tracer slower by a factor of about 100.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Label order of the TFDS data set `clevr`.
SHAPES = ("cube", "sphere", "cylinder")
MATERIALS = ("rubber", "metal")
SIZES = ("small", "large")
COLORS = ("gray", "blue", "brown", "yellow", "red", "green", "purple", "cyan")

# Half the width and height of small and of large objects, in metres.
RADII = np.array([0.35, 0.7], np.float32)

# The picture in which CLEVR counts pixels and gives pixel coordinates.
IMAGE_HEIGHT, IMAGE_WIDTH = 240, 320
# A lens of 35 mm before a sensor 32 mm wide: pixels per unit of x / depth.
FOCAL_LENGTH = IMAGE_WIDTH * 35 / 32

# The cubes of CLEVR have rounded edges; a sharp cube this much smaller covers
# nearly the same pixels.
_CUBE_EXTENT = 0.965
# Stands for "no bound", in units of the object.
_UNBOUNDED = 1e4
# Keeps rays parallel to a bound from dividing zero by zero.
_PARALLEL = 1e-9


class Scene(NamedTuple):
  """One scene, padded to o objects; the rows of padding hold zeros.

  Attributes:
    shape: [o] int32, index into SHAPES.
    material: [o] int32, index into MATERIALS.
    size: [o] int32, index into SIZES.
    color: [o] int32, index into COLORS.
    position: [o, 3] float32, centres in metres; the ground is z = 0.
    rotation: [o] float32 in [0, 360), about the vertical axis. CLEVR draws the
      number in degrees but Blender takes it in radians, and so does `solids`.
    num_objects: [] int32.
    camera: [3] float32, position of the camera, which looks at the origin.
    lights: [3, 3] float32, positions of the key, the fill and the back light.
  """

  shape: jax.Array
  material: jax.Array
  size: jax.Array
  color: jax.Array
  position: jax.Array
  rotation: jax.Array
  num_objects: jax.Array
  camera: jax.Array
  lights: jax.Array


class Vector(NamedTuple):
  """Vectors as three arrays of one shape, or of shapes that broadcast."""

  x: jax.Array
  y: jax.Array
  z: jax.Array


class Rays(NamedTuple):
  """Rays origin + t * direction; the direction need not have length 1."""

  origin: Vector
  direction: Vector


class Solids(NamedTuple):
  """Objects as intersections of a quadric and three slabs; arrays are [o].

  In the object's own frame (moved, turned, divided by its radius) a point is
  inside if x^2 + y^2 + quadric_z z^2 <= quadric_bound, |x|, |y| <= extent_xy
  and |z| <= extent_z. Of a sphere only the quadric has a finite bound, of a
  cube only the slabs; a cylinder is a quadric without z and the slab of z. All
  are convex, so that one formula serves the three shapes.
  """

  center: Vector
  cos: jax.Array
  sin: jax.Array
  radius: jax.Array
  quadric_z: jax.Array
  quadric_bound: jax.Array
  extent_xy: jax.Array
  extent_z: jax.Array


def dot(a: Vector, b: Vector) -> jax.Array:
  """Returns the inner products of two arrays of vectors."""
  return a.x * b.x + a.y * b.y + a.z * b.z


def add(a: Vector, b: Vector) -> Vector:
  """Returns a + b."""
  return Vector(a.x + b.x, a.y + b.y, a.z + b.z)


def subtract(a: Vector, b: Vector) -> Vector:
  """Returns a - b."""
  return Vector(a.x - b.x, a.y - b.y, a.z - b.z)


def scaled(factor: jax.Array | float, v: Vector) -> Vector:
  """Returns factor * v."""
  return Vector(factor * v.x, factor * v.y, factor * v.z)


def select(condition: jax.Array, a: Vector, b: Vector) -> Vector:
  """Returns a where the condition holds, and b elsewhere."""
  return Vector(
    jnp.where(condition, a.x, b.x),
    jnp.where(condition, a.y, b.y),
    jnp.where(condition, a.z, b.z),
  )


def normalized(v: Vector) -> Vector:
  """Returns vectors of length 1 in the directions of v."""
  return scaled(jax.lax.rsqrt(dot(v, v)), v)


def along(rays: Rays, t: jax.Array | float) -> Vector:
  """Returns the points origin + t * direction."""
  return add(rays.origin, scaled(t, rays.direction))


def solids(scene: Scene) -> Solids:
  """Returns the objects of a scene in the form that rays are tested against.

  Args:
    scene: A Scene of o objects.

  Returns:
    Solids of [o] float32 arrays; rays never meet those of padding.
  """
  cube, sphere, cylinder = (scene.shape == i for i in range(3))
  exists = jnp.arange(scene.shape.shape[0]) < scene.num_objects
  bound = jnp.where(cube, _UNBOUNDED**2, 1.0)
  flat_extent = jnp.where(cube, _CUBE_EXTENT, 1.0)
  return Solids(
    center=Vector(*(scene.position[:, i] for i in range(3))),
    cos=jnp.cos(scene.rotation),
    sin=jnp.sin(scene.rotation),
    radius=jnp.asarray(RADII)[scene.size],
    quadric_z=jnp.where(cylinder, 0.0, 1.0),
    quadric_bound=jnp.where(exists, bound, -1.0),
    extent_xy=jnp.where(cube, _CUBE_EXTENT, _UNBOUNDED),
    extent_z=jnp.where(sphere, _UNBOUNDED, flat_extent),
  )


def camera_axes(camera: jax.Array) -> tuple[Vector, Vector, Vector]:
  """Returns the unit vectors of a camera that looks at the origin.

  Args:
    camera: [3] float32 position, not on the vertical axis.

  Returns:
    The vectors to the right, up and forward.
  """
  x, y, z = camera[0], camera[1], camera[2]
  forward = normalized(Vector(-x, -y, -z))
  right = normalized(Vector(-y, x, jnp.zeros_like(z)))
  # The cross product of right and forward.
  up = Vector(
    right.y * forward.z,
    -right.x * forward.z,
    right.x * forward.y - right.y * forward.x,
  )
  return right, up, forward


def camera_rays(camera: jax.Array, px: jax.Array, py: jax.Array) -> Rays:
  """Returns the rays through points of the 320 x 240 image.

  Args:
    camera: [3] float32 position.
    px: [r] float32, 0 at the left border of the image, 320 at the right one.
    py: [r] float32, 0 at the upper border, 240 at the lower one.

  Returns:
    Rays of which t is the depth along the axis of the camera in metres.
  """
  right, up, forward = camera_axes(camera)
  u = (px - IMAGE_WIDTH / 2) / FOCAL_LENGTH
  v = (IMAGE_HEIGHT / 2 - py) / FOCAL_LENGTH
  direction = add(forward, add(scaled(u, right), scaled(v, up)))
  return Rays(Vector(camera[0], camera[1], camera[2]), direction)


def to_local(solid: Solids, v: Vector) -> Vector:
  """Turns and scales vectors into the frame of an object, without moving."""
  scale = 1.0 / solid.radius
  cos, sin = solid.cos * scale, solid.sin * scale
  return Vector(cos * v.x + sin * v.y, cos * v.y - sin * v.x, scale * v.z)


def intersect(solid: Solids, rays: Rays) -> tuple[jax.Array, jax.Array]:
  """Finds where rays enter and leave one object.

  Args:
    solid: Solids of scalars.
    rays: Rays of any shape.

  Returns:
    The t of entering and the t of leaving; a ray meets the object if the first
    is the smaller one, whichever side of t = 0 they lie on.
  """
  p = to_local(solid, subtract(rays.origin, solid.center))
  d = to_local(solid, rays.direction)
  k = solid.quadric_z
  # The discriminant from a squared cross product: b^2 - a c would lose three
  # of the seven digits, because the camera is far from the object.
  xy = p.x * d.y - p.y * d.x
  xz = p.x * d.z - p.z * d.x
  yz = p.y * d.z - p.z * d.y
  a = jnp.maximum(d.x * d.x + d.y * d.y + k * d.z * d.z, _PARALLEL)
  b = p.x * d.x + p.y * d.y + k * p.z * d.z
  discriminant = a * solid.quadric_bound - xy * xy - k * (xz * xz + yz * yz)
  root = jnp.sqrt(jnp.maximum(discriminant, 0.0))
  enter = jnp.where(discriminant > 0.0, (-b - root) / a, jnp.inf)
  leave = (root - b) / a
  extents = (solid.extent_xy, solid.extent_xy, solid.extent_z)
  for start, step, extent in zip(p, d, extents, strict=True):
    inverse = 1.0 / jnp.where(jnp.abs(step) < _PARALLEL, _PARALLEL, step)
    middle, half = -start * inverse, extent * jnp.abs(inverse)
    enter = jnp.maximum(enter, middle - half)
    leave = jnp.minimum(leave, middle + half)
  return enter, leave


def nearest(objects: Solids, rays: Rays) -> tuple[jax.Array, jax.Array]:
  """Finds the first object that each ray meets.

  Args:
    objects: Solids of [o] arrays.
    rays: Rays of [r] directions, which start outside of all objects.

  Returns:
    t: [r] float32, infinite where no object is met.
    ids: [r] int32, 0 where no object is met, and i + 1 for object i.
  """

  def keep_nearer(carry, item):
    nearest_t, ids = carry
    index, solid = item
    enter, leave = intersect(solid, rays)
    hit = (enter < leave) & (enter > 0.0) & (enter < nearest_t)
    return (
      jnp.where(hit, enter, nearest_t),
      jnp.where(hit, index, ids),
    ), None

  direction = rays.direction.x
  start = (
    jnp.full_like(direction, jnp.inf),
    jnp.zeros_like(direction, jnp.int32),
  )
  indices = jnp.arange(1, objects.radius.shape[0] + 1, dtype=jnp.int32)
  return jax.lax.scan(keep_nearer, start, (indices, objects))[0]


def any_hit(objects: Solids, rays: Rays) -> jax.Array:
  """Tells which rays meet an object ahead of their origin.

  Args:
    objects: Solids of [o] arrays.
    rays: Rays of which the directions have any shape.

  Returns:
    Booleans of the shape of the directions.
  """

  def either(carry, solid):
    enter, leave = intersect(solid, rays)
    return carry | ((enter < leave) & (leave > 0.0)), None

  start = jnp.zeros(rays.direction.x.shape, bool)
  return jax.lax.scan(either, start, objects)[0]
