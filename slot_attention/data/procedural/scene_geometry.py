"""What a CLEVR scene is made of: objects, camera, and rays that meet them.

Letters: o objects including padding, r rays. Vectors are kept as separate
x, y, z arrays: a trailing axis of length 3 would leave most vector lanes of
the processor empty, and is slower by a factor of about 100.
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

# Half extents in metres of small and large objects, of every shape.
RADII = np.array([0.35, 0.7], np.float32)

# The picture in which CLEVR states pixel coordinates and counts pixels.
IMAGE_HEIGHT, IMAGE_WIDTH = 240, 320
# A lens of 35 mm before a sensor 32 mm wide: pixels per unit of x / depth.
FOCAL_LENGTH = IMAGE_WIDTH * 35 / 32
# The camera looks at the origin from here; every scene moves it a little.
CAMERA = np.array([7.48113, -6.50764, 5.34367], np.float32)

# The cubes of CLEVR have rounded edges; a sharp cube this much smaller covers
# the same pixels best.
_CUBE_HALF_EXTENT = 0.965
# Stands for "no bound" in a slab or a quadric, in units of the object.
_UNBOUNDED = 1e4
# Keeps a ray that is parallel to a slab from dividing zero by zero.
_PARALLEL = 1e-9


class Scene(NamedTuple):
  """One scene, padded to `o` objects; padding rows hold zeros.

  Attributes:
    shape: [o] int32, index into SHAPES.
    material: [o] int32, index into MATERIALS.
    size: [o] int32, index into SIZES.
    color: [o] int32, index into COLORS.
    position: [o, 3] float32, centres in metres.
    rotation: [o] float32 in [0, 360), about the vertical axis. CLEVR draws the
      number as degrees and hands it to Blender, which takes it as radians; so
      does the renderer here.
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


class Solids(NamedTuple):
  """The objects as intersections of a quadric and three slabs, all [o].

  In the object's own frame (centred, rotated, divided by its radius) a point
  is inside where x^2 + y^2 + quadric_z z^2 <= quadric_bound and |x|, |y| <=
  extent_xy and |z| <= extent_z. A sphere is a bounded quadric alone, a cube
  three bounded slabs, a cylinder a quadric without z and the slab of z. All
  are convex, so one short formula serves the three shapes.
  """

  x: jax.Array
  y: jax.Array
  z: jax.Array
  cos: jax.Array
  sin: jax.Array
  radius: jax.Array
  quadric_z: jax.Array
  quadric_bound: jax.Array
  extent_xy: jax.Array
  extent_z: jax.Array


class Rays(NamedTuple):
  """Rays origin + t * direction; arrays of one shape, or scalars."""

  x: jax.Array
  y: jax.Array
  z: jax.Array
  dx: jax.Array
  dy: jax.Array
  dz: jax.Array


def solids(scene: Scene) -> Solids:
  """Returns the shapes of a scene in the form that rays are tested against.

  Args:
    scene: A Scene of o objects.

  Returns:
    Solids of [o] float32 arrays; those of padding rows cannot be hit.
  """
  cube, sphere, cylinder = (scene.shape == i for i in range(3))
  exists = jnp.arange(scene.shape.shape[0]) < scene.num_objects
  bound = jnp.where(cube, _UNBOUNDED**2, 1.0)
  return Solids(
    x=scene.position[:, 0],
    y=scene.position[:, 1],
    z=scene.position[:, 2],
    cos=jnp.cos(scene.rotation),
    sin=jnp.sin(scene.rotation),
    radius=jnp.asarray(RADII)[scene.size],
    quadric_z=jnp.where(cylinder, 0.0, 1.0),
    quadric_bound=jnp.where(exists, bound, -1.0),
    extent_xy=jnp.where(cube, _CUBE_HALF_EXTENT, _UNBOUNDED),
    extent_z=jnp.where(
      sphere, _UNBOUNDED, jnp.where(cube, _CUBE_HALF_EXTENT, 1.0)
    ),
  )


def camera_axes(camera: jax.Array) -> tuple[tuple[jax.Array, ...], ...]:
  """Returns the unit vectors of a camera that looks at the origin.

  Args:
    camera: [3] float32 position; not above the origin.

  Returns:
    Right, up and forward, each a tuple (x, y, z) of scalars.
  """
  x, y, z = camera[0], camera[1], camera[2]
  ground = jnp.sqrt(x * x + y * y)
  length = jnp.sqrt(x * x + y * y + z * z)
  right = (-y / ground, x / ground, jnp.zeros_like(x))
  forward = (-x / length, -y / length, -z / length)
  up = (
    -x * z / (ground * length),
    -y * z / (ground * length),
    ground / length,
  )
  return right, up, forward


def camera_rays(camera: jax.Array, px: jax.Array, py: jax.Array) -> Rays:
  """Returns the rays through points of the 320 x 240 image.

  Args:
    camera: [3] float32 position.
    px: [r] float32, from 0 at the left border to 320 at the right one.
    py: [r] float32, from 0 at the upper border to 240 at the lower one.

  Returns:
    Rays of which t is the depth along the axis of the camera.
  """
  right, up, forward = camera_axes(camera)
  u = (px - IMAGE_WIDTH / 2) / FOCAL_LENGTH
  v = (IMAGE_HEIGHT / 2 - py) / FOCAL_LENGTH
  direction = (
    forward[i] + u * right[i] + v * up[i]
    for i in range(3)
  )
  return Rays(camera[0], camera[1], camera[2], *direction)


def pixel_coordinates(scene: Scene) -> jax.Array:
  """Projects the centres of the objects into the 320 x 240 image.

  Args:
    scene: A Scene of o objects.

  Returns:
    [o, 3] float32: px and py as in `camera_rays`, and the depth along the axis
    of the camera in metres. CLEVR's files hold px and py rounded.
  """
  relative = scene.position - scene.camera[None, :]
  right, up, depth = (
    sum(relative[:, i] * axis[i] for i in range(3))
    for axis in camera_axes(scene.camera)
  )
  px = IMAGE_WIDTH / 2 + FOCAL_LENGTH * right / depth
  py = IMAGE_HEIGHT / 2 - FOCAL_LENGTH * up / depth
  return jnp.stack([px, py, depth], axis=-1)


def local_rays(solid: Solids, rays: Rays) -> Rays:
  """Moves rays into the frame of one object; t keeps its meaning.

  Args:
    solid: Solids of scalars.
    rays: Rays of any shape.

  Returns:
    Rays of the same shape, in which the object has radius 1.
  """
  scale = 1.0 / solid.radius
  cos, sin = solid.cos * scale, solid.sin * scale
  x, y = rays.x - solid.x, rays.y - solid.y
  return Rays(
    cos * x + sin * y,
    cos * y - sin * x,
    (rays.z - solid.z) * scale,
    cos * rays.dx + sin * rays.dy,
    cos * rays.dy - sin * rays.dx,
    rays.dz * scale,
  )


def crossings(
  solid: Solids, local: Rays
) -> tuple[tuple[jax.Array, ...], jax.Array]:
  """Finds where rays enter the four bounds of one object and leave the first.

  Args:
    solid: Solids of scalars.
    local: Rays in the frame of the object.

  Returns:
    The t at which the rays enter the quadric and the slabs of x, y and z (a
    tuple of four), and the t at which they leave the first of them. A ray
    meets the object where the largest entry lies before the exit.
  """
  x, y, z, dx, dy, dz = local
  k = solid.quadric_z
  # The discriminant as a squared cross product: b^2 - a c would lose three of
  # the seven digits, since the camera is far away.
  xy, xz, yz = x * dy - y * dx, x * dz - z * dx, y * dz - z * dy
  a = jnp.maximum(dx * dx + dy * dy + k * dz * dz, _PARALLEL)
  b = x * dx + y * dy + k * z * dz
  discriminant = a * solid.quadric_bound - xy * xy - k * (xz * xz + yz * yz)
  root = jnp.sqrt(jnp.maximum(discriminant, 0.0))
  inverse = 1.0 / a
  # An empty interval for rays that miss the quadric.
  entry = jnp.where(discriminant > 0.0, (-b - root) * inverse, jnp.inf)
  slabs = [
    _slab(x, dx, solid.extent_xy),
    _slab(y, dy, solid.extent_xy),
    _slab(z, dz, solid.extent_z),
  ]
  leave = jnp.minimum((root - b) * inverse, slabs[0][1])
  leave = jnp.minimum(leave, jnp.minimum(slabs[1][1], slabs[2][1]))
  return (entry, *(slab[0] for slab in slabs)), leave


def _slab(
  start: jax.Array, direction: jax.Array, extent: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns where rays enter and leave -extent <= coordinate <= extent."""
  safe = jnp.where(jnp.abs(direction) < _PARALLEL, _PARALLEL, direction)
  inverse = 1.0 / safe
  middle, half = -start * inverse, extent * jnp.abs(inverse)
  return middle - half, middle + half


def visible_ids(scene: Scene, px: jax.Array, py: jax.Array) -> jax.Array:
  """Finds which object is seen at points of the image, without shading.

  Args:
    scene: A Scene of o objects.
    px: [r] float32, as in `camera_rays`.
    py: [r] float32.

  Returns:
    [r] int32, 0 for the background and i + 1 for object i.
  """
  rays = camera_rays(scene.camera, px, py)

  def nearer(carry, item):
    nearest, ids = carry
    index, solid = item
    entries, leave = crossings(solid, local_rays(solid, rays))
    entry = jnp.maximum(
      jnp.maximum(entries[0], entries[1]), jnp.maximum(entries[2], entries[3])
    )
    hit = (entry < leave) & (entry < nearest)
    return (jnp.where(hit, entry, nearest), jnp.where(hit, index, ids)), None

  start = (jnp.full_like(px, jnp.inf), jnp.zeros_like(px, jnp.int32))
  ids = jnp.arange(1, scene.shape.shape[0] + 1)
  (_, found), _ = jax.lax.scan(nearer, start, (ids, solids(scene)))
  return found
