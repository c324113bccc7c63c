import types

import jax
import movi_files
import numpy as np
import pytest

from slot_attention import config_validation
from slot_attention import configuration
from slot_attention import features as features_lib
from slot_attention import sharding
from slot_attention.data import feature_command
from slot_attention.data import pipeline

pytest.importorskip("tensorflow")

BATCH = 8


def get_config(data_dir):
  config = configuration.get_dinosaur()
  config.data.source, config.data.dataset = "movi", "movi_c"
  config.data.data_dir = str(data_dir)
  config.data.tfds_config = movi_files.CONFIG
  config.data.resolution = movi_files.SIZE
  vit = config.model.vit
  vit.init, vit.image_size, vit.patch_size = "random", 16, 4
  vit.width, vit.depth, vit.num_heads = 8, 1, 2
  return config


def run(config, output, **values):
  defaults = {
    "config": config,
    "output": str(output),
    "splits": ["train", "validation"],
    "batch_size": BATCH,
    "host": 0,
    "num_hosts": 1,
    "records_per_shard": None,
  }
  feature_command.run(types.SimpleNamespace(**(defaults | values)))


@pytest.fixture(scope="module")
def config(movi_directory, tmp_path_factory):
  output = tmp_path_factory.mktemp("features")
  config = get_config(movi_directory.data_dir)
  run(config, output)
  config.data.features_dir = str(output)
  return config


def test_same_features_as_on_the_fly(config):
  """The same frames in the same order, on four devices."""
  mesh, vit = sharding.create_mesh(), config.model.vit
  weights = features_lib.load_vit(vit)
  config.data.features = "on_the_fly"
  images = pipeline.open_source(config.data, "validation", mesh, vit)
  config.data.features = "precomputed"
  stored = pipeline.open_source(config.data, "validation", mesh, vit)
  count = images.num_examples
  assert stored.num_examples == count == 4 * movi_files.NUM_FRAMES
  pairs = zip(
    images.eval_batches(BATCH, count),
    stored.eval_batches(BATCH, count),
    strict=True,
  )
  for seen, found in pairs:
    valid = np.asarray(seen["valid"])
    np.testing.assert_array_equal(found["valid"], valid)
    for name in ("image", "segmentation", "num_objects"):
      np.testing.assert_array_equal(found[name], seen[name], err_msg=name)
    expected = features_lib.extract_features(weights, seen["image"], vit)
    assert found["features"].shape == (BATCH, 16, 8)
    assert found["features"].dtype == np.float16
    assert found["features"].sharding == sharding.batched(mesh)
    np.testing.assert_allclose(
      np.asarray(found["features"], np.float32)[valid],
      np.asarray(expected, np.float32)[valid],
      atol=2e-3,
    )


def test_training_needs_no_images(config):
  mesh = sharding.create_mesh()
  config.data.features, config.data.data_dir = "precomputed", "/nowhere"
  source = pipeline.open_source(config.data, "train", mesh, config.model.vit)
  assert source.num_examples == 6 * movi_files.NUM_FRAMES
  batch = next(source.train_batches(BATCH, 0, 3))
  assert set(batch) == {"features", "segmentation", "num_objects"}
  assert isinstance(batch["features"], jax.Array)


def test_what_cannot_be_done(movi_directory, tmp_path):
  config = get_config(movi_directory.data_dir)
  with pytest.raises(
    ValueError, match="--batch_size=6 is not divisible by the"
  ):
    run(config, tmp_path, batch_size=6)
  config.data.source, config.data.dataset = "procedural", "clevr"
  with pytest.raises(
    ValueError, match="procedural, whose images are drawn anew"
  ):
    run(config, tmp_path)


@pytest.mark.parametrize(
  "values, message",
  [
    ({"dataset": "clevr"}, "one of movi_c, movi_d where data.source is movi"),
    ({"source": "multi_object_datasets"}, "none of movi_c, movi_d where data"),
    (
      {"features": "precomputed", "horizontal_flip": True},
      "data.horizontal_flip is True; it must be False where data.features is",
    ),
  ],
)
def test_configs_that_cannot_work(values, message):
  config = get_config("")
  config_validation.validate(config)
  config.data.update(values)
  with pytest.raises(configuration.ConfigError, match=message):
    config_validation.validate(config)
