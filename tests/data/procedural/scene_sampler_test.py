"""CLEVR's rules, checked by brute force."""

import clevr_oracle
import jax
import numpy as np
import pytest

from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import scene_sampler
from slot_attention.data.procedural import scenes


def test_numbers_and_labels_are_uniform():
  drawn = clevr_oracle.clevr_scenes()
  counts = np.array([scene.num_objects for scene in drawn])
  assert set(counts) == set(range(3, 11))
  rows = np.arange(10)[None, :] < counts[:, None]
  for name, choices in (("shape", 3), ("material", 2), ("size", 2)):
    labels = np.stack([getattr(s, name) for s in drawn])[rows]
    shares = np.bincount(labels, minlength=choices) / labels.size
    assert shares.size == choices
    np.testing.assert_allclose(shares, 1 / choices, atol=0.12)
  colors = np.stack([s.color for s in drawn])[rows]
  np.testing.assert_allclose(
    np.bincount(colors) / colors.size, 1 / 8, atol=0.07
  )
  rotation = np.stack([s.rotation for s in drawn])[rows]
  assert 0 <= rotation.min() < 20 and 340 < rotation.max() < 360


def test_jitter_stays_in_range():
  drawn = clevr_oracle.clevr_scenes()
  cameras = np.stack([s.camera for s in drawn]) - clevr_oracle.CAMERA
  assert 0.4 < np.abs(cameras).max() <= 0.5001
  lights = np.stack([s.lights for s in drawn])
  lights = lights - lights.mean(axis=0)
  assert 0.9 < np.abs(lights).max() < 1.4


def test_objects_keep_clear_of_each_other():
  # The `directions` of every CLEVR scene file.
  front, right = (0.754490, -0.656311), (0.656311, 0.754490)
  for scene in clevr_oracle.clevr_scenes():
    count = scene.num_objects
    xy = scene.position[:count, :2].astype(np.float64)
    radius = geometry.RADII[scene.size[:count]]
    assert np.abs(xy).max() <= 3
    np.testing.assert_array_equal(scene.position[:count, 2], radius)
    i, j = np.triu_indices(count, 1)
    difference = xy[i] - xy[j]
    gap = np.linalg.norm(difference, axis=1) - radius[i] - radius[j]
    assert gap.min() > 0.25 - 1e-5
    for axis in (front, right):
      assert np.abs(difference @ axis).min() > 0.4 - 1e-4


def test_masks_and_visible_pixels_agree_with_brute_force():
  drawn = sorted(clevr_oracle.clevr_scenes(), key=lambda s: -s.num_objects)[:4]
  assert {0, 1, 2} == set(np.concatenate([s.shape[:10] for s in drawn]))
  for scene in drawn:
    expected = clevr_oracle.numpy_segmentation(scene)
    found = np.asarray(clevr_oracle.renderer(240, 320)(scene)[1])
    assert np.mean(found != expected) < 2e-5
    counts = np.bincount(expected.ravel(), minlength=scene.num_objects + 1)
    # The sampler counts on a coarse grid.
    assert counts[1 : scene.num_objects + 1].min() >= 160


def test_hidden_objects_are_drawn_again():
  visible = jax.jit(lambda s: scene_sampler._all_visible(s, 200))
  cube = ("cube", "rubber", "large", "red", 0, 0)
  # Behind the cube, as the camera sees it, and to its right.
  hidden = ("sphere", "rubber", "small", "blue", -1.1, 1.0)
  beside = ("sphere", "rubber", "small", "blue", 1.1, 1.3)
  assert visible(clevr_oracle.hand_made([cube, beside]))
  assert not visible(clevr_oracle.hand_made([cube, hidden]))
  assert all(visible(scene) for scene in clevr_oracle.clevr_scenes())


def test_padding_is_zero_and_changes_nothing():
  scene = clevr_oracle.hand_made(
    [("cylinder", "metal", "large", "red", 0.5, 0.5)]
  )
  shorter = clevr_oracle.hand_made(
    [("cylinder", "metal", "large", "red", 0.5, 0.5)], 1
  )
  for longer, short in zip(
    clevr_oracle.renderer(48, 64)(scene),
    clevr_oracle.renderer(48, 64)(shorter),
    strict=True,
  ):
    np.testing.assert_array_equal(longer, short)
  targets = jax.jit(scenes.targets)
  for scene in clevr_oracle.clevr_scenes():
    assert not np.any(scene.position[scene.num_objects :])
    assert not np.any(targets(scene)[scene.num_objects :])


def test_documented_window_holds_all_objects():
  px, py = (
    p[::4, ::4].reshape(-1).astype(np.float32)
    for p in clevr_oracle.pixel_centers()
  )

  def seen_from(key):
    scene = scene_sampler.sample_scene(
      key,
      min_num_objects=3,
      max_num_objects=3,
      position_range=1.5,
      min_visible_pixels=0,
    )
    return ray_tracer.visible_ids(scene, px, py)

  ids = np.asarray(jax.jit(jax.vmap(seen_from))(clevr_oracle.KEYS(128)))
  top, left, height, width = 18, 66, 190, 190
  outside = (py < top) | (py > top + height)
  outside |= (px < left) | (px > left + width)
  assert not ids[:, outside].any()
  assert ids[:, ~outside].any(axis=1).all()


def test_loops_are_bounded(monkeypatch):
  monkeypatch.setattr(scene_sampler, "_MAX_PLACEMENTS", 5)
  monkeypatch.setattr(scene_sampler, "_MAX_ROUNDS", 2)
  scene = scene_sampler.sample_scene(
    jax.random.key(0), min_num_objects=10, min_visible_pixels=0
  )
  assert 1 <= scene.num_objects <= 5
  assert not np.any(scene.position[scene.num_objects :])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"min_num_objects": 0}, "min_num_objects=0"),
    ({"min_num_objects": 11}, "max_num_objects=10"),
    ({"position_range": 1.5}, "use at most 5 objects"),
    ({"position_range": 3.5}, "position_range=3.5"),
    ({"position_range": 0.0}, "position_range=0.0"),
    ({"max_num_objects": 11}, "use at most 10 objects"),
    ({"min_visible_pixels": 401}, "min_visible_pixels=401"),
  ],
)
def test_impossible_scenes_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    scene_sampler.sample_scene(jax.random.key(0), **arguments)
