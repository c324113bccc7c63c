"""Procedural batches: functions of (seed, step), on any devices."""

import itertools

import jax
import numpy as np
import pytest

from slot_attention import configuration
from slot_attention import sharding
from slot_attention.data import pipeline


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


def _batches(count, num_train=16, start=0, seed=0, devices=4, batch_size=8):
  source = pipeline.open_source(_config(num_train), "train", _mesh(devices))
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
  source = pipeline.open_source(_config(), "train", _mesh())
  batch = next(source.train_batches(8, 0, 0))
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
  source = pipeline.open_source(_config(), "validation", _mesh())
  batches = list(source.eval_batches(8, 10))
  valid = np.concatenate([batch["valid"] for batch in batches])
  np.testing.assert_array_equal(valid, [True] * 10 + [False] * 6)
  targets = np.concatenate([batch["target"] for batch in batches])
  assert len(set(targets[:10, 0, 0].tolist())) == 10
  again = next(source.eval_batches(4, 10))
  np.testing.assert_array_equal(again["target"], batches[0]["target"][:4])


def test_splits_differ_and_unknown_ones_are_named():
  targets = [
    next(pipeline.open_source(_config(), split, _mesh()).eval_batches(8, 8))[
      "target"
    ]
    for split in ("train", "train_eval", "validation")
  ]
  for one, other in itertools.combinations(targets, 2):
    assert np.abs(one - other).max() > 0
  with pytest.raises(ValueError, match="train, train_eval, validation"):
    pipeline.open_source(_config(), "test", _mesh())
