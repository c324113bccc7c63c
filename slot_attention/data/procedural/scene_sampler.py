"""Draws random CLEVR scenes by the rules of CLEVR's own generator.

The rules (clevr-dataset-gen, render_images.py): objects are placed one after
the other, each up to 50 times, until it keeps clear of those before it; if one
finds no place, or if in the end one is hidden, all are drawn again.
"""

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_geometry

Scene = scene_geometry.Scene

# Nominal positions, to which every scene adds jitter, all in metres.
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

# Least gap between the surfaces of two objects, all taken as upright discs.
_MIN_GAP = 0.25
# Least distance along the directions right and front of the picture.
_MIN_MARGIN = 0.4
# CLEVR takes these directions from the camera before it is moved.
_FRONT = _CAMERA[:2] / np.linalg.norm(_CAMERA[:2])
_RIGHT = np.array([-_FRONT[1], _FRONT[0]])
_MAX_TRIES = 50

# Coordinates are multiples of this. Then they, and the targets made from them,
# have no rounding that a compiler may do in one way or another.
_GRID = 2.0**-12
# Visible pixels are counted in every n-th row and column of the picture.
_COUNT_STRIDE = 4
# Attempts at a scene before it is returned as it is.
_MAX_STEPS = 10_000
_MAX_ROUNDS = 200


def sample_scene(
  key: jax.Array,
  *,
  min_num_objects: int = 3,
  max_num_objects: int = 10,
  position_range: float = 3.0,
  min_visible_pixels: int = 200,
) -> Scene:
  """Draws a scene."""
  keys = jax.random.split(key, 4)
  num_objects = jax.random.randint(
    keys[0], (), min_num_objects, max_num_objects + 1
  )
  camera = _jittered(keys[1], _CAMERA, _CAMERA_JITTER)
  lights = _jittered(keys[2], _LIGHTS, _LIGHT_JITTER)

  def draw(state):
    count, good, _ = state
    wanted = jnp.where(good, 0, num_objects)
    new_key = jax.random.fold_in(keys[3], count)
    position, size, placed = _place(
      jax.random.fold_in(new_key, 0), wanted, max_num_objects, position_range
    )
    scene = Scene(
      **_appearance(jax.random.fold_in(new_key, 1), size, placed),
      position=position,
      num_objects=placed,
      camera=camera,
      lights=lights,
    )
    good = placed == num_objects
    if min_visible_pixels:
      good &= _all_visible(scene, min_visible_pixels)
    return count + 1, good, scene

  def unfinished(state):
    count, good, _ = state
    return ~good & (count < _MAX_ROUNDS)

  return jax.lax.while_loop(unfinished, draw, draw((jnp.int32(0), False, None)))


def _jittered(key, nominal, jitter):
  return nominal + jitter * jax.random.uniform(
    key, nominal.shape, minval=-1.0, maxval=1.0
  )


def _place(key, num_objects, max_num_objects, position_range):
  slots = jnp.arange(max_num_objects)
  radii = jnp.asarray(scene_geometry.RADII)

  def place_next(state):
    step, index, x, y, size = state
    bits = jax.random.bits(jax.random.fold_in(key, step), (_MAX_TRIES + 1,))
    new_size = (bits[-1] >> 31).astype(int)
    new_x, new_y = _coordinates(bits[:-1], position_range)
    free = slots[:, None] >= index
    gap = radii[new_size] + radii[size] + _MIN_GAP
    dx = new_x[None, :] - x[:, None]
    dy = new_y[None, :] - y[:, None]
    free |= (
      (dx * dx + dy * dy >= (gap * gap)[:, None])
      & (jnp.abs(dx * _RIGHT[0] + dy * _RIGHT[1]) >= _MIN_MARGIN)
      & (jnp.abs(dx * _FRONT[0] + dy * _FRONT[1]) >= _MIN_MARGIN)
    )
    free = jnp.all(free, axis=0)
    first = jnp.argmax(free)
    here = slots == index
    return (
      step + 1,
      jnp.where(free[first], index + 1, 0),
      jnp.where(here, new_x[first], x),
      jnp.where(here, new_y[first], y),
      jnp.where(here, new_size, size),
    )

  def unfinished(state):
    return (state[1] < num_objects) & (state[0] < _MAX_STEPS)

  zero = jnp.int32(0)
  zeros = jnp.zeros(max_num_objects)
  start = zero, zero, zeros, zeros, jnp.zeros(max_num_objects, int)
  _, placed, x, y, size = jax.lax.while_loop(unfinished, place_next, start)
  position = jnp.stack([x, y, radii[size]], axis=-1)
  exists = slots < placed
  position = jnp.where(exists[:, None], position, 0.0)
  return position, jnp.where(exists, size, 0), placed


def _coordinates(bits, position_range):
  scale = np.float32(position_range / 2**16)
  high, low = bits >> 16, bits & 0xFFFF
  return tuple(
    scale * (2 * half.astype(int) + 1 - 2**16).astype(jnp.float32)
    for half in (high, low)
  )


def _appearance(key, size, num_objects):
  keys = jax.random.split(key, 4)
  o = size.shape[0]
  exists = jnp.arange(o) < num_objects
  draw = lambda k, n: jnp.where(exists, jax.random.randint(k, (o,), 0, n), 0)
  rotation = jax.random.uniform(keys[3], (o,), maxval=360.0)
  return dict(
    shape=draw(keys[0], 3),
    material=draw(keys[1], 2),
    color=draw(keys[2], 8),
    size=size,
    rotation=jnp.where(exists, rotation, 0.0),
  )


def _all_visible(scene: Scene, min_visible_pixels: int) -> jax.Array:
  s = _COUNT_STRIDE
  py, px = jnp.meshgrid(
    s * (jnp.arange(240 // s) + 0.5),
    s * (jnp.arange(320 // s) + 0.5),
    indexing="ij",
  )
  ids = ray_tracer.visible_ids(scene, px.reshape(-1), py.reshape(-1))
  wanted = jnp.arange(1, scene.shape.shape[0] + 1)
  counts = jnp.sum(ids[None, :] == wanted[:, None], axis=1)
  return jnp.all(
    (counts * s * s >= min_visible_pixels) | (wanted > scene.num_objects)
  )
