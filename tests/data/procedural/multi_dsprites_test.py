"""Multi-dSprites: published scenes, occlusion, and what is drawn."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import official_files
import pytest
import reference_arrays

from slot_attention.data.procedural import multi_dsprites

# Two published scenes: factors, and rows of their label maps as (label, run).
PUBLISHED = [
  (
    {
      "x": [0.70967740, 0.87096775, 0.38709676, 0.41935483, 0.54838711],
      "y": [0.93548387, 0.29032257, 0.51612902, 0.25806451, 0.64516127],
      "shape": [1, 1, 2, 2, 2],
      "scale": [0.7, 0.6, 0.7, 0.6, 0.9],
      "orientation": [0.12083048, 0.0, 1.85273409, 2.89993167, 2.65827060],
      "visible": [True, True, True, True, True],
    },
    {
      22: [(0, 22), (4, 13), (0, 3), (2, 12), (0, 14)],
      28: [(0, 23), (3, 6), (4, 5), (0, 4), (2, 12), (0, 14)],
      34: [(0, 23), (5, 18), (0, 23)],
      40: [(0, 28), (5, 16), (1, 1), (0, 19)],
      46: [(0, 32), (1, 14), (0, 18)],
      52: [(0, 33), (1, 7), (0, 24)],
    },
  ),
  (
    {
      "x": [0.51612902, 0.93548387, 0.12903225, 0.77419353, 0.93548387],
      "y": [0.16129032, 0.41935483, 0.45161289, 0.58064514, 0.06451613],
      "shape": [1, 3, 2, 1, 2],
      "scale": [0.8, 0.8, 0.8, 1.0, 0.6],
      "orientation": [0.72498292, 0.0, 0.24166097, 0.72498292, 0.48332193],
      "visible": [True, True, True, True, False],
    },
    {
      16: [(0, 26), (1, 13), (0, 25)],
      22: [(0, 23), (1, 17), (4, 3), (2, 1), (0, 4), (2, 4), (0, 12)],
      28: [(0, 12), (3, 18), (1, 3), (4, 15), (2, 5), (0, 11)],
      34: [(0, 11), (3, 15), (0, 2), (4, 26), (0, 10)],
      40: [(0, 33), (4, 16), (0, 15)],
      46: [(0, 39), (4, 3), (0, 22)],
    },
  ),
]
LIMITS = {
  "binarized": (2, 3),
  "colored_on_grayscale": (2, 5),
  "colored_on_colored": (1, 4),
}
FACTORS = ("shape", "scale", "orientation", "x", "y")


@functools.cache
def scenes(variant, count=2048):
  config = multi_dsprites.MultiDspritesConfig(variant, *LIMITS[variant])
  generate = jax.jit(jax.vmap(lambda key: multi_dsprites.generate(key, config)))
  keys = jax.random.split(jax.random.key(0), count)
  return jax.device_get(generate(keys))


def draw(factors, colors):
  image, labels = multi_dsprites.render(
    **{name: jnp.asarray(value) for name, value in factors.items()},
    colors=jnp.asarray(colors),
  )
  return np.asarray(image), np.asarray(labels)


def of_record(record):
  """The arguments of `draw` in a record, or in one example of `generate`."""
  factors = {name: record[name][1:] for name in FACTORS}
  factors["shape"] = factors["shape"].astype(np.int32)
  return factors | {"visible": record["visibility"][1:] > 0}, record["color"]


@pytest.mark.parametrize(("factors", "rows"), PUBLISHED)
def test_published_scenes(factors, rows):
  factors = {
    name: np.asarray(value, np.float32) if name != "shape" else value
    for name, value in factors.items()
  } | {"visible": np.asarray(factors["visible"])}
  factors["shape"] = np.asarray(factors["shape"], np.int32)
  colors = np.linspace(0, 1, 18, dtype=np.float32).reshape(6, 3)
  image, labels = draw(factors, colors)
  wrong = sum(
    np.sum(labels[row] != np.repeat(*np.transpose(runs)))
    for row, runs in rows.items()
  )
  assert wrong <= 1
  levels = np.floor(255 * colors).astype(np.uint8)
  np.testing.assert_array_equal(image, levels[labels])


@pytest.mark.parametrize("variant", LIMITS)
def test_real_records_differ_in_two_pixels_at_most(variant):
  records = official_files.real_records(
    f"multi_dsprites_{variant}_first2.tfrecords", f"multi_dsprites_{variant}"
  )
  assert len(records) == 2
  for record in records:
    image, labels = draw(*of_record(record))
    assert image.shape == record["image"].shape
    assert np.sum(labels != record["labels"]) <= 2
    assert np.sum(np.any(image != record["image"], axis=-1)) <= 2


def test_sprites_are_those_of_dsprites():
  path = reference_arrays.find("dsprites_templates/dsprites_templates.npz")
  arrays = np.load(path)
  draw_one = jax.jit(jax.vmap(multi_dsprites._is_inside))
  drawn = draw_one(
    *(arrays[f"frames_{name}"].astype(np.float32) for name in FACTORS)
  )
  wrong = np.sum(np.asarray(drawn) != arrays["frames"], axis=(1, 2))
  assert wrong.mean() < 1.3
  assert np.median(wrong) == 0


def outline(shape, scale, orientation, x, y):
  """The corners of a sprite as a fine polygon [m, 2] in pixels, float64."""
  t = np.linspace(0, 2 * np.pi, 400, endpoint=False)
  if shape == 1:
    corners = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * 9.6
  elif shape == 2:
    corners = np.stack([12.8 * np.cos(t), 7.2 * np.sin(t)], axis=1)
  else:
    up = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    corners = np.stack(
      [0.597 * 16 * np.sin(t) ** 3, -0.663 * up - 1.44], axis=1
    )
  # Counter-clockwise as seen, where y points down.
  c, s = np.cos(orientation), np.sin(orientation)
  turned = scale * corners @ np.array([[c, -s], [s, c]])
  return turned + 16 + 32 * np.array([x, y])


def inside(polygon):
  """Which centres of pixels [64, 64] lie in a polygon, by crossing numbers."""
  y, x = np.indices((64, 64)).reshape(2, -1, 1) + 0.5
  (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
  with np.errstate(divide="ignore", invalid="ignore"):
    crosses = ((y0 > y) != (y1 > y)) & (
      x < x0 + (x1 - x0) * (y - y0) / (y1 - y0)
    )
  return (crosses.sum(axis=1) % 2 == 1).reshape(64, 64)


def test_later_sprites_cover_earlier_ones():
  batch = scenes("colored_on_grayscale")
  wrong = 0
  for i in range(8):
    expected = np.zeros((64, 64), int)
    for k in range(1, batch["num_objects"][i] + 1):
      polygon = outline(*(batch[name][i, k] for name in FACTORS))
      expected[inside(polygon)] = k
    wrong += np.sum(expected != batch["segmentation"][i])
  assert wrong <= 4  # Centres that lie on an outline to within rounding.


@pytest.mark.parametrize("variant", LIMITS)
def test_factors_describe_the_image(variant):
  batch = scenes(variant)
  for i in range(5):
    image, labels = draw(
      *of_record({name: rows[i] for name, rows in batch.items()})
    )
    assert np.sum(labels != batch["segmentation"][i]) <= 1
    levels = np.floor(255 * batch["color"][i]).astype(np.uint8)
    np.testing.assert_array_equal(image, levels[labels])
    np.testing.assert_array_equal(
      batch["image"][i], levels[batch["segmentation"][i]]
    )


@pytest.mark.parametrize("variant", LIMITS)
def test_numbers_and_rows_of_sprites(variant):
  batch = scenes(variant)
  least, most = LIMITS[variant]
  counts = np.bincount(batch["num_objects"], minlength=most + 1)
  expected = 2048 / (most - least + 1)
  assert not counts[:least].any()
  assert np.abs(counts[least:] - expected).max() < 4.5 * np.sqrt(expected)
  np.testing.assert_array_equal(
    batch["visibility"], np.arange(most + 1) <= batch["num_objects"][:, None]
  )
  largest = batch["segmentation"].max(axis=(1, 2))
  # The last sprite is on top, and so never hidden.
  np.testing.assert_array_equal(largest, batch["num_objects"])
  for name in FACTORS:
    assert batch[name].shape == (2048, most + 1)
    assert batch[name].dtype == np.float32
    assert not batch[name][:, 0].any()
  # Absent sprites are filled in.
  assert batch["shape"][:, 1:].min() == 1


def test_factors_take_the_values_of_dsprites():
  batch = scenes("colored_on_grayscale")
  factors = {name: batch[name][:, 1:].ravel() for name in FACTORS}
  count = factors["x"].size
  assert np.bincount(factors["shape"].astype(int))[1:].min() > 0.3 * count
  for name, expected in (
    ("scale", np.arange(5, 11) / 10),
    ("x", np.arange(32) / 31),
    ("y", np.arange(32) / 31),
  ):
    values, counts = np.unique(factors[name], return_counts=True)
    np.testing.assert_allclose(values, expected, atol=1e-6)
    mean = count / len(values)
    assert np.abs(counts - mean).max() < 4.5 * np.sqrt(mean)
  for shape, period in ((1, np.pi / 2), (2, np.pi), (3, 2 * np.pi)):
    angles = factors["orientation"][factors["shape"] == shape]
    expected = np.mod(2 * np.pi * np.arange(39) / 39 + 1e-9, period)
    np.testing.assert_allclose(np.unique(angles), np.sort(expected), atol=1e-5)


def test_colours_of_the_variants():
  binarized = scenes("binarized")
  assert binarized["image"].shape == (2048, 64, 64, 1)
  assert set(np.unique(binarized["image"])) == {0, 255}
  np.testing.assert_array_equal(
    binarized["image"][..., 0] > 0, binarized["segmentation"] > 0
  )
  grayscale = scenes("colored_on_grayscale")["color"]
  assert np.all(grayscale[:, 0] == grayscale[:, 0, :1])
  hsv = np.array(
    [colorsys.rgb_to_hsv(*rgb) for rgb in grayscale[:200, 1:].reshape(-1, 3)]
  )
  assert hsv[:, 1:].min() >= 0.5 - 1e-5
  for column, least in zip(hsv.T, (0, 0.5, 0.5), strict=True):
    np.testing.assert_allclose(
      np.quantile(column, [0.01, 0.25, 0.5, 0.75, 0.99]),
      least + (1 - least) * np.array([0.01, 0.25, 0.5, 0.75, 0.99]),
      atol=0.05,
    )
  colored = scenes("colored_on_colored")["color"].reshape(-1, 3)
  assert np.abs(np.corrcoef(colored.T) - np.eye(3)).max() < 0.05
  np.testing.assert_allclose(colored.mean(axis=0), 0.5, atol=0.02)


def test_scene_is_a_function_of_its_key():
  batch = scenes("colored_on_colored")
  config = multi_dsprites.MultiDspritesConfig("colored_on_colored", 1, 4)
  key = jax.random.split(jax.random.key(0), 2048)[77]
  single = jax.device_get(
    jax.jit(multi_dsprites.generate, static_argnums=1)(key, config)
  )
  for name in FACTORS + ("visibility", "num_objects", "color"):
    np.testing.assert_array_equal(single[name], batch[name][77])
  assert np.sum(single["segmentation"] != batch["segmentation"][77]) <= 1
  assert len({image.tobytes() for image in batch["image"]}) == 2048


@pytest.mark.parametrize("limits", [(0, 3), (3, 2), (2, 4)])
def test_impossible_numbers_are_refused(limits):
  with pytest.raises(ValueError, match=r"need 1 <= .* <= 3, but got"):
    multi_dsprites.MultiDspritesConfig("binarized", *limits)


def test_unknown_variants_are_refused():
  with pytest.raises(ValueError, match="no variant 'gray'; it has binarized"):
    multi_dsprites.MultiDspritesConfig("gray", 1, 2)
