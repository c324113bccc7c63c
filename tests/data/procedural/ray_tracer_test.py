"""Pictures and masks against an independent ray caster."""

import colorsys

import clevr_oracle
import numpy as np
import pytest

from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_geometry as geometry


@pytest.mark.parametrize(
  ("height", "width", "window"),
  [
    (240, 320, (0, 0, 240, 320)),
    (160, 240, ray_tracer.TFDS_WINDOW),
  ],
)
def test_sphere_covers_its_analytic_projection(height, width, window):
  scene = clevr_oracle.hand_made(
    [
      ("sphere", "rubber", "large", "red", -1.0, 1.5),
      ("sphere", "metal", "small", "blue", 1.5, -0.5),
    ]
  )
  ids = np.asarray(clevr_oracle.renderer(height, width, window)(scene)[1])
  px, py = clevr_oracle.pixel_centers(height, width, window)
  directions = clevr_oracle.numpy_directions(clevr_oracle.CAMERA, px, py)
  coordinates = np.asarray(ray_tracer.pixel_coordinates(scene))
  for i, radius in enumerate((0.7, 0.35)):
    center = scene.position[i] - clevr_oracle.CAMERA
    distance = np.linalg.norm(center)
    # A sphere is seen within a cone around its centre.
    cone = np.arccos(directions @ center / distance)
    inside = cone < np.arcsin(radius / distance)
    assert np.mean((ids == i + 1) != inside) < 2e-5
    assert inside.sum() > 50
    nearest = np.hypot(px - coordinates[i, 0], py - coordinates[i, 1]).argmin()
    assert ids.ravel()[nearest] == i + 1
    forward = -clevr_oracle.CAMERA / np.linalg.norm(clevr_oracle.CAMERA)
    np.testing.assert_allclose(coordinates[i, 2], center @ forward, rtol=1e-5)


def test_projected_centers_fall_on_unoccluded_spheres():
  checked = 0
  for scene in sorted(clevr_oracle.clevr_scenes(), key=lambda s: s.num_objects)[
    :16
  ]:
    count = scene.num_objects
    ids = np.asarray(clevr_oracle.renderer(240, 320)(scene)[1])
    coordinates = np.asarray(ray_tracer.pixel_coordinates(scene))[:count]
    px, py, depth = coordinates.T
    for i in np.flatnonzero(scene.shape[:count] == 1):
      near = np.hypot(px - px[i], py - py[i]) < 80
      seen = 0 <= px[i] < 320 and 0 <= py[i] < 240
      if seen and not np.any(near & (depth < depth[i])):
        assert ids[int(py[i]), int(px[i])] == i + 1
        checked += 1
  assert checked >= 8


def test_window_equals_crop():
  scene = clevr_oracle.clevr_scenes()[0]
  image, ids = clevr_oracle.renderer(240, 320)(scene)
  window = (60, 100, 96, 128)
  part, part_ids = clevr_oracle.renderer(96, 128, window)(scene)
  assert np.unique(part_ids).size > 2
  np.testing.assert_array_equal(part_ids, ids[60:156, 100:228])
  np.testing.assert_allclose(
    np.asarray(part, int), np.asarray(image, int)[60:156, 100:228], atol=1
  )


def test_antialiasing_averages_light_not_bytes():
  scene = clevr_oracle.hand_made(
    [
      ("cube", "rubber", "large", "cyan", 0, 0),
      ("cylinder", "metal", "small", "red", 1.2, -0.6),
    ]
  )
  image, ids = clevr_oracle.renderer(24, 32, antialias=2)(scene)
  fine, fine_ids = (np.asarray(v) for v in clevr_oracle.renderer(48, 64)(scene))
  fine = fine / 255
  linear = np.where(
    fine <= 0.04045, fine / 12.92, ((fine + 0.055) / 1.055) ** 2.4
  )
  # [24, 2, 32, 2, 3] -> [24, 32, 3]
  linear = linear.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3))
  expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
  np.testing.assert_allclose(image, expected, atol=1.1)
  # [24, 2, 32, 2] -> [24, 32, 4], the ids in the quarters of each pixel
  quarters = fine_ids.reshape(24, 2, 32, 2).swapaxes(1, 2).reshape(24, 32, 4)
  plain = (quarters == quarters[..., :1]).all(axis=-1)
  assert 0.8 < plain.mean() < 1
  np.testing.assert_array_equal(np.asarray(ids)[plain], quarters[plain][:, 0])


def object_pixels(*objects):
  image, ids = clevr_oracle.renderer(48, 64)(clevr_oracle.hand_made(objects))
  image, ids = np.asarray(image, np.float64), np.asarray(ids)
  return image, ids


@pytest.mark.parametrize("material", geometry.MATERIALS)
def test_objects_have_their_color(material):
  for name in geometry.COLORS:
    image, ids = object_pixels(("sphere", material, "large", name, 0, 0))
    found = colorsys.rgb_to_hsv(*image[ids == 1].mean(axis=0) / 255)
    wanted = colorsys.rgb_to_hsv(*np.array(clevr_oracle.RGB[name]) / 255)
    if name == "gray":
      assert found[1] < 0.06
    else:
      turn = abs(found[0] - wanted[0])
      assert min(turn, 1 - turn) < 0.04, name
      assert found[1] > 0.2


def test_metal_shines_and_rubber_does_not():
  for shape in ("sphere", "cylinder"):
    metal, ids = object_pixels((shape, "metal", "large", "gray", 0, 0))
    rubber, _ = object_pixels((shape, "rubber", "large", "gray", 0, 0))
    metal, rubber = metal[ids == 1], rubber[ids == 1]
    assert metal.mean() < rubber.mean() - 5
    if shape == "sphere":
      assert metal.max() > rubber.max() + 40


def test_metal_mirrors_its_neighbor():
  def metal_pixels(color):
    image, ids = object_pixels(
      ("sphere", "metal", "large", "gray", 0, 0),
      ("cube", "rubber", "large", color, 1.0, 1.2),
    )
    return image[ids == 1]

  change = metal_pixels("red") - metal_pixels("blue")
  assert change[:, 0].max() > 8 and change[:, 2].min() < -8


def test_objects_throw_shadows_on_the_ground():
  empty, _ = object_pixels()
  image, ids = object_pixels(("cube", "rubber", "large", "red", 0, 0))
  change = (image - empty)[ids == 0]
  assert change.max() <= 0
  assert 0.02 < np.mean(change.mean(axis=-1) < -8) < 0.3


def test_impossible_pictures_are_refused():
  scene = clevr_oracle.hand_made([])
  with pytest.raises(ValueError, match="antialias=0"):
    ray_tracer.render(scene, height=4, width=4, antialias=0)
  with pytest.raises(ValueError, match="window="):
    ray_tracer.render(scene, height=4, width=4, window=(0, 0, 0, 5))
