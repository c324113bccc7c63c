"""Examples: functions of the key, in the batch contract."""

import clevr_oracle
import jax
import jax.numpy as jnp
import numpy as np
import official_files
import pytest

from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import scenes

# What the files of CLEVR with masks call things, from 1.
FILE_NAMES = {
  "shape": ("sphere", "cylinder", "cube"),
  "material": ("rubber", "metal"),
  "size": ("large", "small"),
  "color": (
    "red",
    "cyan",
    "green",
    "blue",
    "brown",
    "gray",
    "purple",
    "yellow",
  ),
}
OWN_NAMES = {
  "shape": geometry.SHAPES,
  "material": geometry.MATERIALS,
  "size": geometry.SIZES,
  "color": geometry.COLORS,
}
# Where the cameras of the first two published records are, found by a fit to
# their pixel coordinates; the largest error is 0.5 pixels.
REAL_CAMERAS = (
  (7.355394, -6.493087, 5.410289),
  (7.423684, -6.855334, 5.448625),
)


def test_same_key_gives_same_example_and_others_differ():
  batch, reverse = (
    clevr_oracle.small_batch(),
    clevr_oracle.generate_batch(clevr_oracle.KEYS(clevr_oracle.BATCH)[::-1]),
  )
  for name, rows in batch.items():
    np.testing.assert_array_equal(rows, np.asarray(reverse[name])[::-1])
  assert (
    len({image.tobytes() for image in batch["image"]}) == clevr_oracle.BATCH
  )


def test_batch_contract():
  batch = clevr_oracle.small_batch()
  assert batch["image"].shape == (clevr_oracle.BATCH, 24, 24, 3)
  assert batch["image"].dtype == np.uint8
  assert batch["segmentation"].shape == (clevr_oracle.BATCH, 24, 24)
  assert batch["segmentation"].dtype == np.int32
  assert batch["target"].shape == (clevr_oracle.BATCH, 3, 19)
  assert batch["target"].dtype == np.float32
  assert batch["num_objects"].dtype == np.int32
  assert set(batch["num_objects"]) <= {1, 2, 3}
  for ids, count in zip(
    batch["segmentation"], batch["num_objects"], strict=True
  ):
    assert set(np.unique(ids)) == set(range(count + 1))


def test_single_example_equals_row_of_batch():
  generate = jax.jit(lambda key: scenes.generate(key, clevr_oracle.SMALL))
  batch = clevr_oracle.small_batch()
  for i, key in enumerate(clevr_oracle.KEYS(clevr_oracle.BATCH)):
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
  batch = clevr_oracle.generate_batch(
    jax.device_put(clevr_oracle.KEYS(clevr_oracle.BATCH), sharding)
  )
  assert len(batch["image"].sharding.device_set) == 4
  for name in ("segmentation", "target", "num_objects"):
    np.testing.assert_array_equal(batch[name], clevr_oracle.small_batch()[name])
  difference = (
    np.asarray(batch["image"], int) - clevr_oracle.small_batch()["image"]
  )
  assert np.abs(difference).max() <= 1


def test_targets_decode_to_the_scene():
  targets = jax.jit(scenes.targets)
  for scene in clevr_oracle.clevr_scenes()[:8]:
    rows = np.asarray(targets(scene))
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


def scene_of_record(record, camera):
  """The Scene that a record of CLEVR with masks describes."""
  count = int(record["visibility"].sum()) - 1
  rows = slice(1, count + 1)
  looks = {
    name: jnp.asarray(
      [
        OWN_NAMES[name].index(FILE_NAMES[name][i - 1])
        for i in record[name][rows]
      ]
    )
    for name in FILE_NAMES
  }
  position = np.stack([record[axis][rows] for axis in "xyz"], axis=1)
  return geometry.Scene(
    position=jnp.asarray(position),
    rotation=jnp.asarray(record["rotation"][rows]),
    num_objects=jnp.int32(count),
    camera=jnp.asarray(camera, jnp.float32),
    lights=jnp.asarray(clevr_oracle.LIGHTS),
    **looks,
  )


def test_mask_factors_name_the_objects():
  mask_factors = jax.jit(scenes.mask_factors)
  pixel_coordinates = jax.jit(ray_tracer.pixel_coordinates)
  for scene in clevr_oracle.clevr_scenes()[:8]:
    factors = jax.device_get(mask_factors(scene))
    count = scene.num_objects
    pixels = np.asarray(pixel_coordinates(scene))[:count]
    for name, names in FILE_NAMES.items():
      assert factors[name].dtype == np.uint8
      actual = [names[i - 1] for i in factors[name][1 : count + 1]]
      indices = getattr(scene, name)[:count]
      assert actual == [OWN_NAMES[name][i] for i in indices]
    for i, axis in enumerate("xyz"):
      np.testing.assert_array_equal(
        factors[axis][1 : count + 1], scene.position[:count, i]
      )
    placed = factors["pixel_coords"][1 : count + 1]
    np.testing.assert_array_equal(placed[:, :2], np.round(pixels[:, :2]))
    np.testing.assert_array_equal(placed[:, 2], pixels[:, 2])
    np.testing.assert_array_equal(factors["visibility"], np.arange(11) <= count)
    for name, column in factors.items():
      assert column.shape[0] == 11
      if name != "visibility":
        assert not column[0].any() and not column[count + 1 :].any()


def test_real_records_are_described_and_drawn_alike():
  records = official_files.real_records(
    "clevr_with_masks_first2.tfrecords", "clevr"
  )
  for record, camera in zip(records, REAL_CAMERAS, strict=True):
    scene = scene_of_record(record, camera)
    factors = jax.device_get(scenes.mask_factors(scene))
    assert factors.keys() == record.keys() - {"image", "mask", "labels"}
    for name, column in factors.items():
      assert column.dtype == record[name].dtype
      np.testing.assert_allclose(column, record[name], rtol=0, atol=0.01)
    image, ids = jax.device_get(clevr_oracle.renderer(240, 320)(scene))
    assert np.mean(ids == record["labels"]) > 0.995
    for i in range(1, int(scene.num_objects) + 1):
      pixels = (ids == i) & (record["labels"] == i)
      # The lights of the real scene are not known.
      np.testing.assert_allclose(
        image[pixels].mean(axis=0),
        record["image"][pixels].mean(axis=0),
        atol=16,
      )


def test_example_with_masks():
  generate = jax.jit(scenes.generate_with_masks, static_argnums=1)
  key = clevr_oracle.KEYS(clevr_oracle.BATCH)[0]
  example = jax.device_get(generate(key, clevr_oracle.SMALL))
  batch = clevr_oracle.small_batch()
  np.testing.assert_array_equal(
    example["segmentation"], batch["segmentation"][0]
  )
  assert example["num_objects"] == batch["num_objects"][0]
  assert example["visibility"].sum() == example["num_objects"] + 1
  np.testing.assert_allclose(
    example["x"][1 : example["num_objects"] + 1],
    batch["target"][0, : example["num_objects"], 0] * 6 - 3,
    atol=1e-5,
  )


def test_records_have_room_for_ten_objects():
  config = scenes.SceneConfig(max_num_objects=11)
  with pytest.raises(ValueError, match="max_num_objects=11 must be at most 10"):
    scenes.generate_with_masks(jax.random.key(0), config)
