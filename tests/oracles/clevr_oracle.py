"""Scenes for tests, and a ray caster in float64 numpy to check them by."""

import functools

import jax
import numpy as np

from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import scene_sampler
from slot_attention.data.procedural import scenes

SMALL = scenes.SceneConfig(
  resolution=(24, 24),
  window=(42, 96, 128, 128),
  min_num_objects=1,
  max_num_objects=3,
  position_range=0.8,
  antialias=1,
)
BATCH = 8
KEYS = functools.partial(jax.random.split, jax.random.key(3))
CAMERA = np.array([7.48113, -6.50764, 5.34367])
LIGHTS = np.array(
  [[6.4, -2.9, 4.3], [-4.7, -4.0, 3.0], [-1.2, 2.6, 5.8]], np.float32
)
# sRGB bytes of CLEVR's properties.json, by name.
RGB = {
  "gray": (87, 87, 87),
  "red": (173, 35, 35),
  "blue": (42, 75, 215),
  "green": (29, 105, 20),
  "brown": (129, 74, 25),
  "purple": (129, 38, 192),
  "cyan": (41, 208, 208),
  "yellow": (255, 238, 51),
}


generate_batch = jax.jit(jax.vmap(lambda key: scenes.generate(key, SMALL)))


@functools.cache
def small_batch():
  return jax.device_get(generate_batch(KEYS(BATCH)))


@functools.cache
def clevr_scenes(count=64):
  """Scenes of CLEVR's own kind, one after the other as numpy."""
  batch = jax.device_get(
    jax.jit(jax.vmap(scene_sampler.sample_scene))(KEYS(count))
  )
  return [jax.tree.map(lambda v, i=i: v[i], batch) for i in range(count)]


@functools.cache
def renderer(height, width, window=(0, 0, 240, 320), antialias=1):
  return jax.jit(
    functools.partial(
      ray_tracer.render,
      height=height,
      width=width,
      window=window,
      antialias=antialias,
    )
  )


def hand_made(objects, num_rows=10):
  """A scene of (shape, material, size, color, x, y) with names."""
  names = (
    geometry.SHAPES,
    geometry.MATERIALS,
    geometry.SIZES,
    geometry.COLORS,
  )
  kinds = np.zeros((4, num_rows), np.int32)
  position = np.zeros((num_rows, 3), np.float32)
  for i, (*labels, x, y) in enumerate(objects):
    kinds[:, i] = [
      n.index(label) for n, label in zip(names, labels, strict=True)
    ]
    position[i] = x, y, geometry.RADII[kinds[2, i]]
  return geometry.Scene(
    *kinds,
    position=position,
    rotation=np.linspace(0, 1, num_rows, dtype=np.float32),
    num_objects=np.int32(len(objects)),
    camera=CAMERA.astype(np.float32),
    lights=LIGHTS,
  )


def numpy_directions(camera, px, py):
  """Unit view directions in float64, from a look-at matrix."""
  forward = -camera / np.linalg.norm(camera)
  right = np.cross(forward, [0.0, 0.0, 1.0])
  right /= np.linalg.norm(right)
  up = np.cross(right, forward)
  u, v = (px - 160) / 350, (120 - py) / 350
  directions = forward + u[..., None] * right + v[..., None] * up
  return directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def pixel_centers(height=240, width=320, window=(0, 0, 240, 320)):
  top, left, window_height, window_width = window
  py = top + (np.arange(height) + 0.5) * window_height / height
  px = left + (np.arange(width) + 0.5) * window_width / width
  return np.meshgrid(px, py)


def numpy_distance(shape, radius, rotation, origin, directions):
  """Distance to one object at the origin, by the textbook; inf if missed."""
  if shape == 1:
    b = directions @ origin
    root = np.emath.sqrt(b * b - origin @ origin + radius**2)
    return np.where(np.isreal(root), -b - np.real(root), np.inf)
  if shape == 0:
    c, s = np.cos(rotation), np.sin(rotation)
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    t = (
      np.array([-1, 1])[:, None, None, None] * 0.965 * radius - turn @ origin
    ) / (directions @ turn.T)
    near, far = t.min(0).max(-1), t.max(0).min(-1)
    return np.where(near < far, near, np.inf)
  a = (directions[..., :2] ** 2).sum(-1)
  b = directions[..., :2] @ origin[:2]
  root = np.emath.sqrt(b * b - a * (origin[:2] @ origin[:2] - radius**2))
  wall = np.where(np.isreal(root), (-b - np.real(root)) / a, np.inf)
  height = origin[2] + wall * directions[..., 2]
  wall = np.where(np.abs(height) <= radius, wall, np.inf)
  lid = (radius - origin[2]) / directions[..., 2]
  at = origin[:2] + lid[..., None] * directions[..., :2]
  lid = np.where((at**2).sum(-1) <= radius**2, lid, np.inf)
  return np.minimum(wall, lid)


def numpy_segmentation(scene):
  """The masks at 320 x 240 by brute force in float64."""
  camera = scene.camera.astype(np.float64)
  directions = numpy_directions(camera, *pixel_centers())
  distances = [np.full(directions.shape[:2], 1e9)]
  for i in range(scene.num_objects):
    distances.append(
      numpy_distance(
        scene.shape[i],
        float(geometry.RADII[scene.size[i]]),
        float(scene.rotation[i]),
        camera - scene.position[i].astype(np.float64),
        directions,
      )
    )
  return np.argmin(distances, axis=0)
