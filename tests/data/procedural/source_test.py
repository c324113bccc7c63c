"""Procedural batches: functions of (seed, step), on any devices."""

import functools
import itertools

import jax
import numpy as np
import pytest

from slot_attention import configuration
from slot_attention import sharding
from slot_attention.data import pipeline
from slot_attention.data.official import multi_object_specs
from slot_attention.data.procedural import multi_dsprites
from slot_attention.data.procedural import source as source_lib
from slot_attention.data.procedural import tetrominoes

# The sets without targets, and how many objects they have.
OFFICIAL = {
  "tetrominoes": (3, 3),
  "multi_dsprites_binarized": (2, 3),
  "multi_dsprites_colored_on_grayscale": (2, 4),
  "multi_dsprites_colored_on_colored": (1, 4),
}


def _official_config(dataset, num_train=24):
  config = configuration.get_default().data
  config.source = "procedural"
  config.dataset = dataset
  spec = multi_object_specs.SPECS[dataset]
  config.resolution = spec.features["image"].shape[:2]
  config.min_num_objects, config.max_num_objects = OFFICIAL[dataset]
  config.procedural.num_train = num_train
  return config


def _config(num_train=16):
  config = configuration.get_default().data
  config.source = "procedural"
  config.resolution = (16, 16)
  config.min_num_objects = 1
  config.max_num_objects = 2
  config.num_targets = 4
  config.procedural.num_train = num_train
  config.procedural.min_visible_pixels = 0
  config.procedural.antialias = 1
  return config


def _mesh(devices=4):
  return jax.sharding.Mesh(
    np.asarray(jax.devices()[:devices]),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
  )


@functools.cache
def _source(split="train", num_train=16, devices=4):
  """Opened once: every source compiles its own programs."""
  return pipeline.open_source(_config(num_train), split, _mesh(devices))


def _batches(count, num_train=16, start=0, seed=0, devices=4, batch_size=8):
  source = _source(num_train=num_train, devices=devices)
  batches = source.train_batches(batch_size, seed, start)
  return [
    jax.tree.map(np.asarray, batch)
    for batch in itertools.islice(batches, count)
  ]


def test_batch_follows_the_contract():
  (batch,) = _batches(1)
  assert batch["image"].shape == (8, 16, 16, 3)
  assert batch["image"].dtype == np.float32
  assert -1 <= batch["image"].min() < batch["image"].max() <= 1
  assert batch["segmentation"].shape == (8, 16, 16)
  assert batch["segmentation"].dtype == np.int32
  assert batch["target"].shape == (8, 4, 19)
  assert set(batch["num_objects"]) <= {1, 2}
  np.testing.assert_array_equal(
    batch["target"][..., 18].sum(axis=1), batch["num_objects"]
  )
  assert batch["segmentation"].max() <= 2


def test_batches_lie_over_the_devices():
  batch = next(_source().train_batches(8, 0, 0))
  assert batch["image"].sharding.is_equivalent_to(
    sharding.batched(_mesh()), batch["image"].ndim
  )


@pytest.mark.parametrize("num_train", [0, 16])
def test_start_anywhere_on_any_number_of_devices(num_train):
  whole = _batches(5, num_train)
  later = _batches(2, num_train, start=3, devices=1)
  for expected, actual in zip(whole[3:], later, strict=True):
    for name in ("segmentation", "target", "num_objects"):
      np.testing.assert_array_equal(actual[name], expected[name])
    np.testing.assert_allclose(actual["image"], expected["image"], atol=0.01)


@pytest.mark.parametrize("num_train", [0, 16])
def test_order_depends_on_the_seed(num_train):
  (one,), (other,) = (_batches(1, num_train, seed=s) for s in (0, 1))
  assert np.abs(one["target"] - other["target"]).max() > 0


def test_an_epoch_shows_every_example_once_and_the_next_in_another_order():
  # 16 examples in batches of 12: the second batch crosses the epochs' border.
  batches = _batches(4, batch_size=12)
  coordinates = np.concatenate([b["target"][:, 0, 0] for b in batches])
  first, second = coordinates[:16], coordinates[16:32]
  assert len(set(first)) == 16
  assert set(first) == set(second)
  assert list(first) != list(second)


def test_stream_does_not_repeat():
  batches = _batches(4, num_train=0)
  coordinates = np.concatenate([b["target"][:, 0, 0] for b in batches])
  assert len(set(coordinates)) == 32


def test_evaluation_is_padded_and_marked():
  source = _source("validation")
  batches = list(source.eval_batches(8, 10))
  valid = np.concatenate([batch["valid"] for batch in batches])
  np.testing.assert_array_equal(valid, [True] * 10 + [False] * 6)
  targets = np.concatenate([batch["target"] for batch in batches])
  assert len(set(targets[:10, 0, 0].tolist())) == 10
  again = next(source.eval_batches(4, 10))
  np.testing.assert_array_equal(again["target"], batches[0]["target"][:4])


def test_splits_differ_and_unknown_ones_are_named():
  targets = [
    next(_source(split).eval_batches(8, 8))["target"]
    for split in ("train", "train_eval", "validation", "test")
  ]
  for one, other in itertools.combinations(targets, 2):
    assert np.abs(one - other).max() > 0
  with pytest.raises(ValueError, match="train, train_eval, validation, test"):
    pipeline.open_source(_config(), "dev", _mesh())


def test_drawing_never_changes():
  # Runs that are continued by a later version see the same scenes.
  for num_train, counts, x in (
    (0, [1, 2, 2, 1, 2, 2, 2, 2], [-1.1171, -0.2320, -2.7648]),
    (16, [1, 1, 1, 1, 1, 1, 2, 1], [0.8707, 1.4686, -0.1695]),
  ):
    (batch,) = _batches(1, num_train, start=2, seed=3)
    np.testing.assert_array_equal(batch["num_objects"], counts)
    first = batch["target"][:3, 0, 0] * 6 - 3
    np.testing.assert_allclose(first, x, atol=1e-4)


@pytest.mark.parametrize("dataset", OFFICIAL)
def test_batches_of_official_sets_follow_the_contract(dataset):
  config = _official_config(dataset)
  source = pipeline.open_source(config, "train", _mesh())
  batch = jax.device_get(next(source.train_batches(8, 0, 0)))
  size = config.resolution
  assert set(batch) == {"image", "segmentation", "num_objects"}
  assert batch["image"].shape == (8, *size, 3)
  assert batch["image"].dtype == np.float32
  # What is compiled may multiply by a rounded 1 / 255.
  assert -1 <= batch["image"].min() < batch["image"].max() <= 1 + 1e-6
  assert batch["segmentation"].shape == (8, *size)
  assert batch["segmentation"].dtype == np.int32
  assert batch["num_objects"].dtype == np.int32
  # The last object is never hidden.
  np.testing.assert_array_equal(
    batch["segmentation"].max(axis=(1, 2)), batch["num_objects"]
  )
  least, most = OFFICIAL[dataset]
  assert least <= batch["num_objects"].min()
  assert batch["num_objects"].max() <= most


@pytest.mark.parametrize("num_train", [0, 24])
@pytest.mark.parametrize("dataset", ["tetrominoes", "multi_dsprites_binarized"])
def test_official_sets_start_anywhere_on_any_devices(dataset, num_train):
  config = _official_config(dataset, num_train)
  sources = (pipeline.open_source(config, "train", _mesh(n)) for n in (4, 1))
  whole, later = (
    list(itertools.islice(source.train_batches(8, 1, start), count))
    for source, start, count in zip(sources, (0, 2), (4, 2), strict=True)
  )
  for expected, actual in zip(whole[2:], later, strict=True):
    for name in ("segmentation", "num_objects", "image"):
      np.testing.assert_array_equal(actual[name], expected[name])
  assert np.abs(whole[0]["image"] - whole[1]["image"]).max() > 0


def test_stored_scene_is_a_function_of_seed_split_and_number():
  config = _official_config("tetrominoes")
  config.procedural.seed = 7
  source = pipeline.open_source(config, "test", _mesh())
  batches = list(source.eval_batches(16, 20))
  np.testing.assert_array_equal(batches[1]["valid"], np.arange(16) < 4)
  key = jax.random.fold_in(jax.random.key(7), 3)
  example = tetrominoes.generate(
    jax.random.fold_in(key, 18), tetrominoes.TetrominoesConfig()
  )
  np.testing.assert_array_equal(
    batches[1]["segmentation"][2], example["segmentation"]
  )
  image = (np.asarray(batches[1]["image"][2]) + 1) * 127.5
  np.testing.assert_array_equal(np.round(image), example["image"])


def test_more_scenes_than_one_chunk():
  generator = source_lib.GENERATORS["tetrominoes"]
  config = _official_config("tetrominoes", generator.chunk + 4)
  source = pipeline.open_source(config, "train", _mesh())
  batches = itertools.islice(source.train_batches(108, 0, 0), 19)
  ids = np.concatenate([batch["segmentation"] for batch in batches])
  assert len({scene.tobytes() for scene in ids}) == generator.chunk + 4


def test_one_channel_becomes_three_equal_ones():
  config = _official_config("multi_dsprites_binarized")
  source = pipeline.open_source(config, "validation", _mesh())
  (batch,) = source.eval_batches(8, 8)
  image, ids = np.asarray(batch["image"]), np.asarray(batch["segmentation"])
  for channel in range(3):
    np.testing.assert_array_equal(image[..., channel] > 0, ids > 0)
  np.testing.assert_allclose(np.abs(image), 1, atol=1e-6)


def test_every_variant_and_no_other_set_has_a_generator():
  assert len(multi_dsprites.VARIANTS) == 3
  ray_traced = {"clevr", "clevr_mirror", "clevrtex"}
  assert set(source_lib.GENERATORS) == {*ray_traced, *OFFICIAL}
  config = _config()
  config.dataset = "objects_room"
  with pytest.raises(ValueError, match="'objects_room', which has no procedur"):
    pipeline.open_source(config, "train", _mesh())


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["clevr_mirror", "clevrtex"])
def test_scenes_with_mirrors_and_textures_by_name(dataset):
  config = _config(num_train=0)
  config.dataset = dataset
  source = pipeline.open_source(config, "train", _mesh())
  first = next(source.train_batches(4, 0, 3))
  again = next(source.train_batches(4, 0, 3))
  assert first["image"].shape == (4, 16, 16, 3)
  assert first["segmentation"].shape == (4, 16, 16)
  assert first["target"].shape == (4, 4, 19)
  assert -1 <= first["image"].min() < first["image"].max() <= 1
  for name, values in first.items():
    np.testing.assert_array_equal(values, again[name])
