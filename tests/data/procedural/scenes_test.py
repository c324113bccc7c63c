"""Procedural CLEVR scenes: rules, geometry, looks and reproducibility."""

import colorsys
import functools

import jax
import numpy as np
import pytest

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


def test_same_key_gives_same_example_and_others_differ():
  batch, reverse = small_batch(), generate_batch(KEYS(BATCH)[::-1])
  for name, rows in batch.items():
    np.testing.assert_array_equal(rows, np.asarray(reverse[name])[::-1])
  assert len({image.tobytes() for image in batch["image"]}) == BATCH


def test_batch_contract():
  batch = small_batch()
  assert batch["image"].shape == (BATCH, 24, 24, 3)
  assert batch["image"].dtype == np.uint8
  assert batch["segmentation"].shape == (BATCH, 24, 24)
  assert batch["segmentation"].dtype == np.int32
  assert batch["target"].shape == (BATCH, 3, 19)
  assert batch["target"].dtype == np.float32
  assert batch["num_objects"].dtype == np.int32
  assert set(batch["num_objects"]) <= {1, 2, 3}
  for ids, count in zip(
    batch["segmentation"], batch["num_objects"], strict=True
  ):
    assert set(np.unique(ids)) == set(range(count + 1))


def test_single_example_equals_row_of_batch():
  generate = jax.jit(lambda key: scenes.generate(key, SMALL))
  batch = small_batch()
  for i, key in enumerate(KEYS(BATCH)):
    example = jax.device_get(generate(key))
    for name in ("segmentation", "target", "num_objects"):
      np.testing.assert_array_equal(example[name], batch[name][i])
    np.testing.assert_allclose(
      example["image"].astype(int), batch["image"][i].astype(int), atol=1
    )


def test_four_devices_equal_one():
  assert jax.device_count() >= 4
  mesh = jax.make_mesh(
    (4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
  )
  sharding = jax.NamedSharding(mesh, jax.P("data"))
  batch = generate_batch(jax.device_put(KEYS(BATCH), sharding))
  assert len(batch["image"].sharding.device_set) == 4
  for name in ("segmentation", "target", "num_objects"):
    np.testing.assert_array_equal(batch[name], small_batch()[name])
  difference = np.asarray(batch["image"], int) - small_batch()["image"]
  assert np.abs(difference).max() <= 1


def test_numbers_and_labels_are_uniform():
  drawn = clevr_scenes()
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
  drawn = clevr_scenes()
  cameras = np.stack([s.camera for s in drawn]) - CAMERA
  assert 0.4 < np.abs(cameras).max() <= 0.5001
  lights = np.stack([s.lights for s in drawn])
  lights = lights - lights.mean(axis=0)
  assert 0.9 < np.abs(lights).max() < 1.4


def test_objects_keep_clear_of_each_other():
  # The `directions` of every CLEVR scene file.
  front, right = (0.754490, -0.656311), (0.656311, 0.754490)
  for scene in clevr_scenes():
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
  drawn = sorted(clevr_scenes(), key=lambda s: -s.num_objects)[:4]
  assert {0, 1, 2} == set(np.concatenate([s.shape[:10] for s in drawn]))
  for scene in drawn:
    expected = numpy_segmentation(scene)
    found = np.asarray(renderer(240, 320)(scene)[1])
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
  assert visible(hand_made([cube, beside]))
  assert not visible(hand_made([cube, hidden]))
  assert all(visible(scene) for scene in clevr_scenes())


def test_padding_is_zero_and_changes_nothing():
  scene = hand_made([("cylinder", "metal", "large", "red", 0.5, 0.5)])
  shorter = hand_made([("cylinder", "metal", "large", "red", 0.5, 0.5)], 1)
  for longer, short in zip(
    renderer(48, 64)(scene), renderer(48, 64)(shorter), strict=True
  ):
    np.testing.assert_array_equal(longer, short)
  for scene in clevr_scenes():
    assert not np.any(scene.position[scene.num_objects :])
    assert not np.any(np.asarray(scenes.targets(scene))[scene.num_objects :])


@pytest.mark.parametrize(
  ("height", "width", "window"),
  [
    (240, 320, (0, 0, 240, 320)),
    (160, 240, ray_tracer.TFDS_WINDOW),
  ],
)
def test_sphere_covers_its_analytic_projection(height, width, window):
  scene = hand_made(
    [
      ("sphere", "rubber", "large", "red", -1.0, 1.5),
      ("sphere", "metal", "small", "blue", 1.5, -0.5),
    ]
  )
  ids = np.asarray(renderer(height, width, window)(scene)[1])
  px, py = pixel_centers(height, width, window)
  directions = numpy_directions(CAMERA, px, py)
  coordinates = np.asarray(ray_tracer.pixel_coordinates(scene))
  for i, radius in enumerate((0.7, 0.35)):
    center = scene.position[i] - CAMERA
    distance = np.linalg.norm(center)
    # A sphere is seen within a cone around its centre.
    cone = np.arccos(directions @ center / distance)
    inside = cone < np.arcsin(radius / distance)
    assert np.mean((ids == i + 1) != inside) < 2e-5
    assert inside.sum() > 50
    nearest = np.hypot(px - coordinates[i, 0], py - coordinates[i, 1]).argmin()
    assert ids.ravel()[nearest] == i + 1
    forward = -CAMERA / np.linalg.norm(CAMERA)
    np.testing.assert_allclose(coordinates[i, 2], center @ forward, rtol=1e-5)


def test_projected_centers_fall_on_unoccluded_spheres():
  checked = 0
  for scene in sorted(clevr_scenes(), key=lambda s: s.num_objects)[:16]:
    count = scene.num_objects
    ids = np.asarray(renderer(240, 320)(scene)[1])
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
  scene = clevr_scenes()[0]
  image, ids = renderer(240, 320)(scene)
  window = (60, 100, 96, 128)
  part, part_ids = renderer(96, 128, window)(scene)
  assert np.unique(part_ids).size > 2
  np.testing.assert_array_equal(part_ids, ids[60:156, 100:228])
  np.testing.assert_allclose(
    np.asarray(part, int), np.asarray(image, int)[60:156, 100:228], atol=1
  )


def test_antialiasing_averages_light_not_bytes():
  scene = hand_made(
    [
      ("cube", "rubber", "large", "cyan", 0, 0),
      ("cylinder", "metal", "small", "red", 1.2, -0.6),
    ]
  )
  image, ids = renderer(24, 32, antialias=2)(scene)
  fine, fine_ids = (np.asarray(v) for v in renderer(48, 64)(scene))
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


def test_targets_decode_to_the_scene():
  for scene in clevr_scenes()[:8]:
    rows = np.asarray(scenes.targets(scene))
    count = scene.num_objects
    position = rows[:count, :3].astype(np.float64) * 6 - 3
    np.testing.assert_allclose(position, scene.position[:count], atol=1e-6)
    parts = np.split(rows[:count], [3, 5, 7, 10, 18], axis=1)[1:5]
    names = ("size", "material", "shape", "color")
    for name, part in zip(names, parts, strict=True):
      np.testing.assert_array_equal(part.sum(axis=1), 1)
      np.testing.assert_array_equal(
        part.argmax(axis=1), getattr(scene, name)[:count]
      )
    np.testing.assert_array_equal(rows[:, 18], np.arange(10) < count)


def object_pixels(*objects):
  image, ids = renderer(48, 64)(hand_made(objects))
  image, ids = np.asarray(image, np.float64), np.asarray(ids)
  return image, ids


@pytest.mark.parametrize("material", geometry.MATERIALS)
def test_objects_have_their_color(material):
  for name in geometry.COLORS:
    image, ids = object_pixels(("sphere", material, "large", name, 0, 0))
    found = colorsys.rgb_to_hsv(*image[ids == 1].mean(axis=0) / 255)
    wanted = colorsys.rgb_to_hsv(*np.array(RGB[name]) / 255)
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


def test_documented_window_holds_all_objects():
  px, py = (p[::4, ::4].reshape(-1).astype(np.float32) for p in pixel_centers())

  def seen_from(key):
    scene = scene_sampler.sample_scene(
      key,
      min_num_objects=3,
      max_num_objects=3,
      position_range=1.5,
      min_visible_pixels=0,
    )
    return ray_tracer.visible_ids(scene, px, py)

  ids = np.asarray(jax.jit(jax.vmap(seen_from))(KEYS(128)))
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


def test_impossible_pictures_are_refused():
  scene = hand_made([])
  with pytest.raises(ValueError, match="antialias=0"):
    ray_tracer.render(scene, height=4, width=4, antialias=0)
  with pytest.raises(ValueError, match="window="):
    ray_tracer.render(scene, height=4, width=4, window=(0, 0, 0, 5))
