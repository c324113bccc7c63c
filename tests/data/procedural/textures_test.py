"""Pictures are checked by eye as well: see BUILD_NOTES.md."""

import clevr_oracle
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import textures


@pytest.fixture(scope="module")
def batch():
  """The scenes of `clevr_oracle.small_batch`, textured."""
  generate = jax.jit(
    jax.vmap(lambda key: textures.generate(key, clevr_oracle.SMALL))
  )
  return jax.device_get(generate(clevr_oracle.KEYS(clevr_oracle.BATCH)))


@pytest.fixture(scope="module")
def sampled():
  """Textures of 600 surfaces."""
  return jax.jit(textures.sample, static_argnums=1)(jax.random.key(0), 599)


@pytest.fixture(scope="module")
def painted(sampled):
  """Colours [3, 600, 400] of each surface at points of a cube of 2 metres."""
  points = np.random.default_rng(0).uniform(-1, 1, (3, 400))
  point = geometry.Vector(
    *(jnp.asarray(np.tile(x, 600), jnp.float32) for x in points)
  )
  ids = jnp.repeat(jnp.arange(600), 400)
  colors = jax.jit(textures.paint)(sampled, ids, point)
  return np.asarray(colors).reshape(3, 600, 400)


def test_scenes_are_the_same_but_for_their_colours(batch):
  plain = clevr_oracle.small_batch()
  for name in ("segmentation", "target", "num_objects"):
    np.testing.assert_array_equal(batch[name], plain[name])
  for image, other in zip(batch["image"], plain["image"], strict=True):
    assert (image != other).any(axis=-1).mean() > 0.9


def test_same_key_gives_same_example_and_others_differ(batch):
  assert len({x.tobytes() for x in batch["image"]}) == clevr_oracle.BATCH


def test_every_kind_varies_between_its_two_colours(sampled, painted):
  first, second = np.moveaxis(np.asarray(sampled.colors), 1, 0)  # [s, 3]
  low, high = np.minimum(first, second), np.maximum(first, second)
  colors = np.moveaxis(painted, 0, -1)  # [s, points, 3]
  assert (colors >= low[:, None] - 1e-5).all()
  assert (colors <= high[:, None] + 1e-5).all()
  span = (second - first)[:, None]
  share = ((colors - first[:, None]) * span).sum(-1) / (span**2).sum(-1)
  for i, kind in enumerate(textures.KINDS):
    of_kind = share[np.asarray(sampled.kind) == i]
    assert len(of_kind) > 60
    assert of_kind.std(axis=1).mean() > 0.12, kind
    assert 0.15 < of_kind.mean() < 0.75, kind


def test_colours_can_be_told_apart(sampled):
  first, second = np.moveaxis(np.asarray(sampled.colors), 1, 0)
  assert min(first.min(), second.min()) > 0.03 and first.max() <= 1.0
  srgb = [((x - 0.04) / 0.96) ** (1 / 2.2) for x in (first, second)]
  distance = np.linalg.norm(srgb[0] - srgb[1], axis=-1)
  assert distance.min() > 0.1 and (distance > 0.34).mean() > 0.95


def test_noise_is_smooth_and_balanced():
  rng = np.random.default_rng(1)
  points = rng.uniform(-50, 50, (3, 20_000)).astype(np.float32)
  noise = jax.jit(lambda p: textures._noise(geometry.Vector(*p), 0))
  values = np.asarray(noise(jnp.asarray(points)))
  moved = np.asarray(noise(jnp.asarray(points + np.float32(1e-3))))
  assert np.abs(values).max() <= 1
  assert abs(values.mean()) < 0.02 and 0.2 < values.std() < 0.45
  assert np.abs(values - moved).max() < 0.02
  grid = np.stack(np.meshgrid(*[np.arange(-9, 9)] * 3)).reshape(3, -1)
  corners = np.asarray(noise(jnp.asarray(grid, jnp.float32)))
  assert abs(corners.mean()) < 0.03
  assert corners.std() == pytest.approx(1 / np.sqrt(3), rel=0.03)
  assert len(np.unique(corners)) > 0.99 * corners.size


def test_patterns_are_fixed_to_the_surface(sampled):
  """A point has one colour wherever it is asked for."""
  ids = jnp.array([3, 0, 3, 5])
  x = jnp.array([0.1, 0.7, 0.1, 0.1])
  colors = textures.paint(sampled, ids, geometry.Vector(x, x, -x))
  np.testing.assert_array_equal(colors[:, 0], colors[:, 2])
  assert (colors[:, 0] != colors[:, 3]).any()
