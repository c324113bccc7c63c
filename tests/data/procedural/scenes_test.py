"""Examples: functions of the key, in the batch contract."""

import clevr_oracle
import jax
import numpy as np

from slot_attention.data.procedural import scenes


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
  for scene in clevr_oracle.clevr_scenes()[:8]:
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
