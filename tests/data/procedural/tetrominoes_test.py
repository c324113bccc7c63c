"""Tetrominoes: the images of the published files, and fair scenes."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import official_files
import pytest

from slot_attention.data.procedural import tetrominoes

CONFIG = tetrominoes.TetrominoesConfig()
# Scenes of the published file: shapes, x, y, colours, and checksums of the
# image and of the label map as uint8.
PUBLISHED = [
  ([6, 5, 15], [22, 11, 24], [0, 19, 20], "YGB", 1638077011, 894522988),
  ([9, 14, 5], [12, 17, 0], [3, 20, 19], "YCY", 3608541095, 858734269),
  ([13, 5, 2], [12, 22, 4], [3, 4, 22], "MGM", 3350876614, 2305947048),
  ([18, 17, 13], [3, 15, 15], [2, 4, 19], "CRB", 2819898952, 243079164),
  ([7, 19, 16], [16, 9, 2], [25, 7, 20], "CGB", 3409575269, 79420686),
  ([12, 7, 18], [2, 13, 0], [0, 1, 23], "GCM", 144544914, 3370315240),
  ([15, 15, 3], [25, 5, 17], [12, 5, 7], "RYC", 348937301, 3847247497),
  ([10, 3, 2], [16, 25, 1], [5, 16, 25], "GMC", 2629858599, 2129583038),
]
RGB = {
  "R": (1, 0, 0),
  "G": (0, 1, 0),
  "B": (0, 0, 1),
  "Y": (1, 1, 0),
  "M": (1, 0, 1),
  "C": (0, 1, 1),
}


@functools.cache
def scenes(count=4096, seed=0):
  generate = jax.jit(jax.vmap(lambda key: tetrominoes.generate(key, CONFIG)))
  keys = jax.random.split(jax.random.key(seed), count)
  return jax.device_get(generate(keys))


def draw(shape, x, y, color):
  image, labels = tetrominoes.render(
    *(jnp.asarray(v, jnp.int32) for v in (shape, x, y)),
    jnp.asarray(color, jnp.float32),
  )
  return np.asarray(image), np.asarray(labels)


@pytest.mark.parametrize("scene", PUBLISHED)
def test_published_scenes_are_drawn_to_the_bit(scene):
  *factors, colors, image_sum, label_sum = scene
  image, labels = draw(*factors, [RGB[c] for c in colors])
  assert image.dtype == np.uint8 and image.shape == (35, 35, 3)
  assert labels.dtype == np.int32 and labels.shape == (35, 35)
  assert zlib.crc32(image.tobytes()) == image_sum
  assert zlib.crc32(labels.astype(np.uint8).tobytes()) == label_sum


def test_a_block_is_lit_from_above_and_the_right():
  image, labels = draw([19], [2], [3], [[1, 0, 0]])
  np.testing.assert_array_equal(
    image[2:7, 3:8, 0],
    [
      [191, 255, 255, 255, 223],
      [127, 159, 159, 159, 191],
      [127, 159, 159, 159, 191],
      [127, 159, 159, 159, 191],
      [95, 63, 63, 63, 127],
    ],
  )
  assert labels.sum() == labels[2:12, 3:13].sum() == 100
  assert not image[..., 1:].any()


def test_all_real_records_are_drawn_to_the_bit():
  records = official_files.real_records(
    "tetrominoes_first10.tfrecords", "tetrominoes"
  )
  assert len(records) == 10
  for record in records:
    factors = (record[name][1:] for name in ("shape", "x", "y", "color"))
    image, labels = draw(*factors)
    np.testing.assert_array_equal(image, record["image"])
    np.testing.assert_array_equal(labels, record["labels"])


def test_three_whole_pieces_that_do_not_overlap():
  batch = scenes()
  for piece in (1, 2, 3):
    areas = (batch["segmentation"] == piece).sum(axis=(1, 2))
    np.testing.assert_array_equal(areas, 100)
  assert batch["segmentation"].max() == 3
  np.testing.assert_array_equal(batch["num_objects"], 3)


def test_factors_describe_the_image():
  batch = scenes()
  for i in range(20):
    factors = (batch[name][i, 1:] for name in ("shape", "x", "y", "color"))
    image, labels = draw(*factors)
    np.testing.assert_array_equal(image, batch["image"][i])
    np.testing.assert_array_equal(labels, batch["segmentation"][i])
    for piece in (1, 2, 3):
      rows, columns = np.nonzero(labels == piece)
      assert rows.min() == batch["x"][i, piece]
      assert columns.min() == batch["y"][i, piece]
  for name in ("x", "y", "shape", "color"):
    assert not batch[name][:, 0].any()
    assert batch[name].dtype == np.float32
  np.testing.assert_array_equal(batch["visibility"], np.ones((4096, 4)))


def test_scene_is_a_function_of_its_key():
  batch = scenes()
  key = jax.random.split(jax.random.key(0), 4096)[77]
  single = jax.device_get(
    jax.jit(tetrominoes.generate, static_argnums=1)(key, CONFIG)
  )
  for name, rows in batch.items():
    np.testing.assert_array_equal(single[name], rows[77])
  assert len({image.tobytes() for image in batch["image"]}) == 4096


def test_shapes_and_colours_are_uniform():
  batch = scenes()
  shapes = batch["shape"][:, 1:].astype(int)
  counts = np.bincount(shapes.ravel(), minlength=20)
  assert set(np.flatnonzero(counts)) == set(range(2, 20)) - {8}
  expected = shapes.size / 17
  spread = np.sqrt(expected)
  assert np.abs(counts[counts > 0] - expected).max() < 4.5 * spread
  codes = (batch["color"][:, 1:] @ [1, 2, 4]).astype(int)
  counts = np.bincount(codes.ravel(), minlength=8)
  assert counts[0] == counts[7] == 0
  expected = codes.size / 6
  assert np.abs(counts[1:7] - expected).max() < 4.5 * np.sqrt(expected)
  # Independent of each other: a scene repeats shapes and colours.
  assert np.mean(shapes[:, 0] == shapes[:, 1]) == pytest.approx(
    1 / 17, abs=0.02
  )
  assert np.mean(codes[:, 0] == codes[:, 1]) == pytest.approx(1 / 6, abs=0.03)


def test_places_are_uniform_over_scenes_without_overlap():
  # Three squares: how many places of the others each place of one allows.
  side = 35 - 10 + 1
  places = np.stack(np.indices((side, side)), -1).reshape(-1, 2)
  distance = np.abs(places[:, None] - places[None]).max(axis=-1)
  apart = (distance >= 10).astype(np.float64)
  ways = ((apart @ apart) * apart).sum(axis=1)
  # [26 * 26] -> [26, 26] -> [26]
  rows = ways.reshape(side, side).sum(axis=1) / ways.sum()
  shape_ids = jnp.full((3,), 19)
  sample = jax.jit(
    jax.vmap(lambda key: tetrominoes._sample_places(key, shape_ids))
  )
  for x in sample(jax.random.split(jax.random.key(5), 20_000)):
    counts = np.stack([np.bincount(v, minlength=side) for v in np.asarray(x).T])
    expected = np.broadcast_to(20_000 * rows, counts.shape)
    # 25 degrees of freedom: a mean of 25, and 60 is passed once in 10,000.
    assert np.all(((counts - expected) ** 2 / expected).sum(axis=1) < 60)


def test_pieces_reach_all_borders_and_may_touch():
  ids = scenes()["segmentation"]
  assert all(
    edge.any() for edge in (ids[:, 0], ids[:, -1], ids[:, :, 0], ids[:, :, -1])
  )
  left, right = ids[:, :, :-1], ids[:, :, 1:]
  assert np.any((left > 0) & (right > 0) & (left != right))


def test_another_number_of_pieces_is_refused():
  with pytest.raises(ValueError, match="have 3 objects, but got"):
    tetrominoes.TetrominoesConfig(2, 3)
