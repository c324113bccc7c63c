"""CLEVR-style scenes with textured surfaces, as in ClevrTex (Karazija, 2021).

ClevrTex takes photographs of materials. These textures are functions of space,
of six kinds in two random colours each, carved out of the objects as out of
wood or marble; the ground has one too.

Letters: s surfaces (the ground, then objects including padding), r rays.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import scenes

KINDS = ("stripes", "checks", "dots", "marble", "rings", "clouds")
# Of the pattern in the frame of an object of radius 1, and how much larger it
# is on the ground, in metres.
_FREQUENCY = (1.2, 3.0)
_GROUND_SCALE = 0.6
_MIN_CONTRAST = 0.35  # Distance of the two colours, each in [0, 1].
_DARKEST = 0.04
_OCTAVES = 3
_EDGE = 0.08  # Width of soft edges, in periods: less flicker at few pixels.
# Separates these random numbers from those of the scene.
_STREAM = 0x746578


class Textures(NamedTuple):
  """How surfaces look.

  Attributes:
    kind: [s] int32, index into KINDS.
    axes: [s, 3, 3] float32, a rotation times the frequency of the pattern.
    offset: [s, 3] float32, of the pattern.
    warp: [s] float32, how much the pattern is bent, in periods.
    colors: [s, 2, 3] float32 in [0, 1], linear light.
  """

  kind: jax.Array
  axes: jax.Array
  offset: jax.Array
  warp: jax.Array
  colors: jax.Array


def generate(
  key: jax.Array, config: scenes.SceneConfig
) -> dict[str, jax.Array]:
  """Draws one example; it is `scenes.generate`'s with textures.

  Args:
    key: A random key, on which alone the example depends.
    config: A SceneConfig.

  Returns:
    See `scenes.generate`; colours in the target are not those of the picture.
  """
  texture_key = jax.random.fold_in(key, _STREAM)
  return scenes.generate(
    key, config, functools.partial(_add_textures, texture_key)
  )


def _add_textures(key: jax.Array, scene: geometry.Scene) -> dict[str, Any]:
  textures = sample(key, scene.shape.shape[0])
  return {"paint": functools.partial(paint, textures)}


def sample(key: jax.Array, num_objects: int) -> Textures:
  """Draws the textures of the ground and of `num_objects` objects."""
  size = num_objects + 1
  keys = jax.random.split(key, 6)
  low, high = _FREQUENCY
  frequency = jnp.exp(
    jax.random.uniform(
      keys[0], (size,), minval=np.log(low), maxval=np.log(high)
    )
  )
  frequency = frequency.at[0].multiply(_GROUND_SCALE)
  rotation, _ = jnp.linalg.qr(jax.random.normal(keys[1], (size, 3, 3)))
  return Textures(
    kind=jax.random.randint(keys[2], (size,), 0, len(KINDS)),
    axes=rotation * frequency[:, None, None],
    offset=jax.random.uniform(keys[3], (size, 3), maxval=100.0),
    warp=jax.random.uniform(keys[4], (size,), maxval=0.5),
    colors=_draw_colors(keys[5], size),
  )


def _draw_colors(key: jax.Array, size: int) -> jax.Array:
  """Draws pairs of colours [s, 2, 3] that can be told apart."""
  first_key, shift_key = jax.random.split(key)
  first = jax.random.uniform(first_key, (size, 3))
  shift = jax.random.uniform(shift_key, (size, 3), minval=-0.5, maxval=0.5)
  length = jnp.linalg.norm(shift, axis=-1, keepdims=True)
  shift = shift * jnp.maximum(1.0, _MIN_CONTRAST / jnp.maximum(length, 1e-3))
  # Turned inwards where the second colour would lie outside of the cube.
  second = first + shift
  second = jnp.where((second < 0.0) | (second > 1.0), first - shift, second)
  colors = jnp.clip(jnp.stack([first, second], axis=1), 0.0, 1.0)
  # Even in sRGB, as the eye sees them.
  return _DARKEST + (1.0 - _DARKEST) * colors**2.2


def paint(
  textures: Textures, ids: jax.Array, point: geometry.Vector
) -> jax.Array:
  """Colours points; a `scene_shading.Paint`.

  Args:
    textures: Textures of s surfaces.
    ids: [r] int32 in [0, s), 0 for the ground.
    point: Vector of [r], in the frame of the object or of the ground.

  Returns:
    [3, r] float32 in [0, 1].
  """
  # Single numbers for each ray: vectors of length 3 are slow, see
  # scene_geometry.
  position = geometry.Vector(
    *(
      textures.offset[:, i][ids]
      + textures.axes[:, i, 0][ids] * point.x
      + textures.axes[:, i, 1][ids] * point.y
      + textures.axes[:, i, 2][ids] * point.z
      for i in range(3)
    )
  )
  weight = _pattern(textures.kind[ids], textures.warp[ids], position)
  first, second = (
    jnp.stack([textures.colors[:, i, c][ids] for c in range(3)])  # [3, r]
    for i in range(2)
  )
  return first + weight[None, :] * (second - first)


def _pattern(kind: jax.Array, warp: jax.Array, p: geometry.Vector) -> jax.Array:
  """Returns the share [r] of the second colour."""
  cloud = _turbulence(p)  # About 0, mostly within 0.5.
  bent = p.x + warp * cloud
  dot = jnp.sqrt(sum((c - jnp.floor(c) - 0.5) ** 2 for c in (bent, p.y, p.z)))
  ring = jnp.sqrt((p.y % 4.0 - 2.0) ** 2 + (p.z % 4.0 - 2.0) ** 2)
  patterns = (
    _step(_wave(bent)),
    _step(_wave(bent / 2) * _wave(p.y / 2) * _wave(p.z / 2)),
    _step((0.38 - dot) * 4.0),
    0.5 + 0.5 * _wave(bent + 2.0 * cloud),
    0.5 + 0.5 * _wave(2.0 * ring + warp * cloud),
    jnp.clip(0.5 + 1.2 * cloud, 0.0, 1.0),
  )
  return jnp.select([kind == i for i in range(len(KINDS))], patterns)


def _wave(x: jax.Array) -> jax.Array:
  return jnp.sin(2.0 * np.pi * x)


def _step(x: jax.Array) -> jax.Array:
  """Returns 0 below and 1 above 0, with a soft edge."""
  return jnp.clip(0.5 + x / (2.0 * np.pi * _EDGE), 0.0, 1.0)


def _turbulence(p: geometry.Vector) -> jax.Array:
  """Sums noise of several sizes, each half as strong as the one before."""
  return sum(
    0.5**i * _noise(geometry.scaled(2.0**i, p), seed=i) for i in range(_OCTAVES)
  )


def _noise(p: geometry.Vector, seed: int) -> jax.Array:
  """Returns smooth noise [r] in [-1, 1] between random values on a grid."""
  cells = [jnp.floor(c) for c in p]
  weights = [
    w * w * (3.0 - 2.0 * w)
    for w in (c - cell for c, cell in zip(p, cells, strict=True))
  ]
  corners = [cell.astype(jnp.int32).astype(jnp.uint32) for cell in cells]
  total = 0.0
  for corner in np.ndindex(2, 2, 2):
    share = 1.0
    for side, weight in zip(corner, weights, strict=True):
      share = share * (weight if side else 1.0 - weight)
    place = [c + np.uint32(s) for c, s in zip(corners, corner, strict=True)]
    total = total + share * _hash(*place, np.uint32(seed))
  return total


def _hash(
  x: jax.Array, y: jax.Array, z: jax.Array, seed: np.uint32
) -> jax.Array:
  """Returns pseudo-random numbers in [-1, 1) for points of a grid."""
  h = seed * np.uint32(0x27D4EB2F)
  factors = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
  # One after the other: sums of products are alike for opposite corners.
  for coordinate, factor in zip((x, y, z), factors, strict=True):
    h = (h ^ coordinate) * np.uint32(factor)
    h = h ^ (h >> 15)
  h = h * np.uint32(0x2C1B3C6D)
  h = h ^ (h >> 12)
  return (h >> 8).astype(jnp.float32) * np.float32(2.0**-23) - 1.0
