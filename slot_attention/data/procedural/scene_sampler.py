"""Draws random CLEVR scenes by the rules of CLEVR's own generator.

The rules are those of render_images.py in facebookresearch/clevr-dataset-gen:
objects are placed one after the other, each at the first of 50 random places
that keeps clear of the objects before it. If one finds no place, all are placed
again, and if in the end one is hidden behind others, all are drawn again. The
number of objects and the camera stay.
"""

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_geometry as geometry

Scene = geometry.Scene

# Nominal positions, and how far each coordinate may be from them, in metres.
_CAMERA = np.array([7.48113, -6.50764, 5.34367], np.float32)
_CAMERA_JITTER = 0.5
_LIGHTS = np.array(
  [
    [6.4467, -2.9052, 4.2584],
    [-4.6711, -4.0136, 3.0112],
    [-1.1685, 2.6460, 5.8157],
  ],
  np.float32,
)
_LIGHT_JITTER = 1.0

# Least gap between two objects, both taken for upright cylinders, in metres.
_MIN_GAP = 0.25
# Least distance of two centres along each of the directions front and right.
_MIN_MARGIN = 0.4
# Of the nominal camera: CLEVR's script reads them before its jitter takes
# effect, as the `directions` in all of its scene files show.
_FRONT = _CAMERA[:2] / np.linalg.norm(_CAMERA[:2])
_RIGHT = np.array([-_FRONT[1], _FRONT[0]])
_TRIES = 50

# Visible pixels are counted in every fourth row and column of the picture,
# which costs a sixteenth of counting all.
_COUNT_STRIDE = 4

# Bounds on the loops. With arguments that pass _check_arguments an object
# finds no place with a probability below 1e-10, and one stays hidden in the
# end with a probability below 1e-7 (from measured rates of acceptance).
_MAX_PLACEMENTS = 10_000
_MAX_ROUNDS = 200
# Measured: scenes that need less room than this are accepted often enough.
_OBJECTS_PER_METRE, _SPARE_OBJECTS = 3.2, 0.5
_MAX_VISIBLE_PIXELS = 400


def sample_scene(
  key: jax.Array,
  *,
  min_num_objects: int = 3,
  max_num_objects: int = 10,
  position_range: float = 3.0,
  min_visible_pixels: int = 200,
) -> Scene:
  """Draws a scene.

  The loops are bounded. If a bound is ever met, which the limits on the
  arguments make extremely unlikely, the scene has fewer objects than were
  drawn, or an object with fewer visible pixels.

  Args:
    key: A random key. The scene depends on nothing else.
    min_num_objects: Least number of objects.
    max_num_objects: Largest number, and the length of the arrays; all numbers
      from the least to the largest are equally likely.
    position_range: Centres have x and y in (-position_range, position_range),
      in metres, at most 3, which is CLEVR's own.
    min_visible_pixels: What must be seen of every object in the whole 320 x 240
      picture, in pixels; 0 skips the check. Pixels are counted on a coarse
      grid, so single objects may fall short by about 30.

  Returns:
    A Scene.

  Raises:
    ValueError: If an argument is out of range, or so many objects do not find
      room in the range of positions.
  """
  _check_arguments(
    min_num_objects, max_num_objects, position_range, min_visible_pixels
  )
  number_key, camera_key, lights_key, objects_key = jax.random.split(key, 4)
  num_objects = jax.random.randint(
    number_key, (), min_num_objects, max_num_objects + 1
  )
  camera = _jittered(camera_key, _CAMERA, _CAMERA_JITTER)
  lights = _jittered(lights_key, _LIGHTS, _LIGHT_JITTER)

  def draw_objects(state):
    """Draws all objects, unless they are good (in other rows of a batch)."""
    rounds, good, _ = state
    place_key, look_key = jax.random.split(
      jax.random.fold_in(objects_key, rounds)
    )
    wanted = jnp.where(good, 0, num_objects)
    position, size, placed = _place_objects(
      place_key, wanted, max_num_objects, position_range
    )
    scene = Scene(
      size=size,
      position=position,
      num_objects=placed,
      camera=camera,
      lights=lights,
      **_draw_looks(look_key, max_num_objects, placed),
    )
    good = placed == num_objects
    if min_visible_pixels:
      good &= _all_visible(scene, min_visible_pixels)
    return rounds + 1, good, scene

  def unfinished(state):
    rounds, good, _ = state
    return ~good & (rounds < _MAX_ROUNDS)

  first = draw_objects((jnp.int32(0), False, None))
  return jax.lax.while_loop(unfinished, draw_objects, first)[2]


def _check_arguments(
  min_num_objects: int,
  max_num_objects: int,
  position_range: float,
  min_visible_pixels: int,
) -> None:
  """Refuses arguments for which scenes are impossible or very rare."""
  if not 1 <= min_num_objects <= max_num_objects:
    raise ValueError(
      f"A scene needs 1 <= min_num_objects <= max_num_objects, but got "
      f"min_num_objects={min_num_objects} and "
      f"max_num_objects={max_num_objects}."
    )
  if not 0.0 < position_range <= 3.0:
    raise ValueError(
      f"position_range={position_range} must be greater than 0 and at most 3, "
      f"so that the coordinates of targets stay within 0 and 1."
    )
  most = max(1, int(_OBJECTS_PER_METRE * position_range + _SPARE_OBJECTS))
  if max_num_objects > most:
    needed = (max_num_objects - _SPARE_OBJECTS) / _OBJECTS_PER_METRE
    raise ValueError(
      f"max_num_objects={max_num_objects} objects do not find room in "
      f"position_range={position_range}; use at most {most} objects"
      + (f", or a range of at least {needed:.3f}." if needed <= 3.0 else ".")
    )
  if not 0 <= min_visible_pixels <= _MAX_VISIBLE_PIXELS:
    raise ValueError(
      f"min_visible_pixels={min_visible_pixels} must be 0 to "
      f"{_MAX_VISIBLE_PIXELS}: small objects far away cover few more pixels."
    )


def _jittered(key: jax.Array, nominal: np.ndarray, jitter: float) -> jax.Array:
  """Moves every coordinate by at most `jitter`."""
  return nominal + jitter * jax.random.uniform(
    key, nominal.shape, minval=-1.0, maxval=1.0
  )


def _place_objects(
  key: jax.Array,
  num_objects: jax.Array,
  max_num_objects: int,
  position_range: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns positions [o, 3], sizes [o] and the number of objects."""
  rows = jnp.arange(max_num_objects)
  radii = jnp.asarray(geometry.RADII)

  def place_next(state):
    """Places object number `index`, or starts again from object 0."""
    count, index, x, y, size = state
    bits = jax.random.bits(jax.random.fold_in(key, count), (_TRIES + 1,))
    new_size = (bits[-1] >> 31).astype(jnp.int32)
    new_x, new_y = _coordinates(bits[:-1], position_range)
    keeps_clear = _keep_clear(
      new_x[None, :] - x[:, None],
      new_y[None, :] - y[:, None],
      (radii[new_size] + radii[size])[:, None],
    )
    free = jnp.all(keeps_clear | (rows >= index)[:, None], axis=0)
    first = jnp.argmax(free)
    here = rows == index
    return (
      count + 1,
      jnp.where(free[first], index + 1, 0),
      jnp.where(here, new_x[first], x),
      jnp.where(here, new_y[first], y),
      jnp.where(here, new_size, size),
    )

  def unfinished(state):
    count, index, *_ = state
    return (index < num_objects) & (count < _MAX_PLACEMENTS)

  zero, zeros = jnp.int32(0), jnp.zeros(max_num_objects)
  start = zero, zero, zeros, zeros, zeros.astype(jnp.int32)
  _, placed, x, y, size = jax.lax.while_loop(unfinished, place_next, start)
  exists = rows < placed
  position = jnp.stack([x, y, radii[size]], axis=-1)
  position = jnp.where(exists[:, None], position, 0.0)
  return position, jnp.where(exists, size, 0), placed


def _coordinates(
  bits: jax.Array, position_range: float
) -> tuple[jax.Array, jax.Array]:
  """Turns 32 random bits into x and y, each one of 2^16 evenly spaced."""
  scale = np.float32(position_range / 2**16)
  halves = bits >> 16, bits & 0xFFFF
  # Odd numbers between -2^16 and 2^16. A single product has a single possible
  # rounding, whatever operations a compiler may fuse.
  odd = (2 * half.astype(jnp.int32) + 1 - 2**16 for half in halves)
  x, y = (scale * number.astype(jnp.float32) for number in odd)
  return x, y


def _keep_clear(dx: jax.Array, dy: jax.Array, radii: jax.Array) -> jax.Array:
  """Tells which differences of positions obey CLEVR's two distance rules."""
  clear = dx * dx + dy * dy >= (radii + _MIN_GAP) ** 2
  for axis in (_FRONT, _RIGHT):
    clear &= jnp.abs(axis[0] * dx + axis[1] * dy) >= _MIN_MARGIN
  return clear


def _draw_looks(
  key: jax.Array, max_num_objects: int, num_objects: jax.Array
) -> dict[str, jax.Array]:
  """Draws shapes, materials, colours and rotations, zero for padding."""
  exists = jnp.arange(max_num_objects) < num_objects
  kinds = {
    "shape": geometry.SHAPES,
    "material": geometry.MATERIALS,
    "color": geometry.COLORS,
  }
  *keys, rotation_key = jax.random.split(key, len(kinds) + 1)
  looks = {
    name: jax.random.randint(k, exists.shape, 0, len(values))
    for k, (name, values) in zip(keys, kinds.items(), strict=True)
  }
  looks["rotation"] = jax.random.uniform(
    rotation_key, exists.shape, maxval=360.0
  )
  return {
    name: jnp.where(exists, values, jnp.zeros_like(values))
    for name, values in looks.items()
  }


def _all_visible(scene: Scene, min_visible_pixels: int) -> jax.Array:
  """Tells whether enough is seen of every object, as a boolean scalar."""
  stride = _COUNT_STRIDE
  px = stride * (np.arange(geometry.IMAGE_WIDTH // stride) + 0.5)
  py = stride * (np.arange(geometry.IMAGE_HEIGHT // stride) + 0.5)
  # [rows, columns] -> [r]
  points = (p.astype(np.float32).reshape(-1) for p in np.meshgrid(px, py))
  ids = ray_tracer.visible_ids(scene, *(jnp.asarray(p) for p in points))
  numbers = jnp.arange(1, scene.shape.shape[0] + 1)
  # [o, r] -> [o]
  counts = jnp.sum(ids[None, :] == numbers[:, None], axis=1)
  enough = counts * stride**2 >= min_visible_pixels
  return jnp.all(enough | (numbers > scene.num_objects))
