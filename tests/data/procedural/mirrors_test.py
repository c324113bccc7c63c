import clevr_oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.data.procedural import mirrors
from slot_attention.data.procedural import scene_geometry as geometry

CAMERA = jnp.asarray(clevr_oracle.CAMERA, jnp.float32)


@pytest.fixture(scope="module")
def batch():
  """The scenes of `clevr_oracle.small_batch`, before a mirror."""
  generate = jax.jit(
    jax.vmap(lambda key: mirrors.generate(key, clevr_oracle.SMALL))
  )
  return jax.device_get(generate(clevr_oracle.KEYS(clevr_oracle.BATCH)))


@pytest.fixture(scope="module")
def places():
  """Mirrors [200] by range of positions."""
  keys = jax.random.split(jax.random.key(0), 200)
  place = jax.jit(
    jax.vmap(mirrors.place, in_axes=(0, None, None)), static_argnums=2
  )
  return {
    size: jax.device_get(place(keys, CAMERA, size)) for size in (3.0, 1.5, 0.8)
  }


def test_scenes_are_the_same_but_for_the_mirror(batch):
  plain = clevr_oracle.small_batch()
  for name in ("segmentation", "target", "num_objects"):
    np.testing.assert_array_equal(batch[name], plain[name])
  changed = (batch["image"] != plain["image"]).any(axis=-1)
  assert changed.any(axis=(1, 2)).sum() > 4  # The window is narrow.
  assert not changed.all()
  # Above the middle of the picture, and not on objects.
  assert not changed[batch["segmentation"] > 0].any()
  assert not changed[:, 16:].any()


def test_mirror_is_where_the_published_ones_are(places):
  mirror = places[3.0]
  assert -7 <= mirror.foot.x.min() < -6 and -1 < mirror.foot.x.max() <= 0
  np.testing.assert_allclose(mirror.foot.y, 5.3)
  assert (mirror.foot.z == 0).all()
  length = np.sqrt(sum(x**2 for x in mirror.normal))
  np.testing.assert_allclose(length, 1, rtol=1e-5)
  assert (mirror.normal.z == 0).all()


@pytest.mark.parametrize("size", [3.0, 1.5, 0.8])
def test_no_object_touches_it(places, size):
  mirror = places[size]
  # Corners of large cubes at the border.
  reach = size + 0.7 * np.sqrt(2) * 0.965
  border = np.linspace(-reach, reach, 41)
  x, y = (v.ravel()[:, None] for v in np.meshgrid(border, border))
  normal, foot = mirror.normal, mirror.foot
  ahead = (x - foot.x) * normal.x + (y - foot.y) * normal.y
  aside = (y - foot.y) * normal.x - (x - foot.x) * normal.y
  assert (ahead[np.abs(aside) < mirror.half_width] > 0).all()


def test_rays_are_those_of_the_camera_behind_the_mirror(places):
  mirror = jax.tree.map(lambda v: jnp.asarray(v[3]), places[3.0])
  scene = clevr_oracle.hand_made([("cube", "rubber", "large", "red", 0, 0)])
  px, py = (
    jnp.asarray(x, jnp.float32).ravel()
    for x in clevr_oracle.pixel_centers(60, 80)
  )
  rays = geometry.camera_rays(CAMERA, px, py)
  objects = geometry.solids(scene)
  turned, inside = jax.jit(lambda r: mirror.reflect(objects, r))(rays)
  assert 50 < inside.sum() < px.size / 2
  outside = ~inside
  for old, new in zip(
    jax.tree.leaves(rays.direction),
    jax.tree.leaves(turned.direction),
    strict=True,
  ):
    np.testing.assert_array_equal(old[outside], new[outside])
  normal = np.array(mirror.normal)
  camera = np.asarray(CAMERA)
  foot = np.array(mirror.foot)
  behind = camera - 2 * normal * ((camera - foot) @ normal)
  start = np.stack(turned.origin, axis=-1)[inside]
  way = np.stack(turned.direction, axis=-1)[inside]
  # From the camera's image through the mirror, on one line, away from it.
  apart = np.cross(start - behind, way)
  assert np.abs(apart).max() < 1e-3 * np.abs(way).max() * 20
  assert (way @ normal > 0).all()
  np.testing.assert_allclose((start - foot) @ normal, 0, atol=1e-4)
  assert (start[:, 2] > 0).all() and (start[:, 2] < 5).all()
  assert (np.linalg.norm((start - foot)[:, :2], axis=1) < 2.5 + 1e-4).all()


def test_camera_sees_the_middle_of_the_scene_in_it(places):
  mirror = places[3.0]
  toward = np.stack(mirror.foot[:2]) - np.asarray(CAMERA)[:2, None]  # [2, n]
  normal = np.stack(mirror.normal[:2])
  turned = toward - 2 * (toward * normal).sum(axis=0) * normal
  home = -np.stack(mirror.foot[:2])
  sine = (turned[0] * home[1] - turned[1] * home[0]) / (
    np.linalg.norm(turned, axis=0) * np.linalg.norm(home, axis=0)
  )
  np.testing.assert_allclose(sine, 0, atol=1e-4)
