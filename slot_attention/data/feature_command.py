"""`python -m slot_attention.data.prepare features`."""

from collections.abc import Callable
import os

from absl import flags
from absl import logging
import jax
import ml_collections
from ml_collections import config_flags
import numpy as np

from slot_attention import sharding
from slot_attention.data import feature_identity
from slot_attention.data import feature_writer
from slot_attention.data import pipeline

_RECORDS_PER_SHARD = 240  # 290 MB of a ViT-B/8, and lost when killed.


def define_flags() -> None:
  """Defines what only this subcommand has."""
  config_flags.DEFINE_config_file(
    "config", None, "features: config whose images and transformer to take."
  )
  flags.DEFINE_list(
    "splits", ["train", "validation"], "features: of these splits."
  )
  flags.DEFINE_integer("batch_size", 64, "features: images at a time.", 1)
  flags.DEFINE_integer("host", 0, "features: which of num_hosts this is.", 0)
  flags.DEFINE_integer(
    "num_hosts",
    1,
    "features: how many run this command, each with its host.",
    1,
  )


def run(values: flags.FlagValues) -> None:
  """Writes the features of all splits that are asked for.

  Args:
    values: of the flags.

  Raises:
    configuration.ConfigError: the config cannot work.
    ValueError: the images have no files.
  """
  # Here alone data know what networks are.
  from slot_attention import config_validation

  config, mesh = values.config, sharding.create_mesh()
  config_validation.validate(config)
  if values.batch_size % mesh.size:
    raise ValueError(
      f"--batch_size={values.batch_size} is not divisible by the {mesh.size} "
      "devices of this host."
    )
  data, vit = (
    feature_identity.describe_data(config.data),
    feature_identity.describe_vit(config.model.vit),
  )
  extract = create_extractor(config.model.vit, mesh)
  for split in values.splits:
    job = feature_writer.Job(
      reader=_open_reader(config.data, split, mesh),
      extract=extract,
      data=data,
      vit=vit,
      split=split,
      batch_size=values.batch_size,
      records_per_shard=values.records_per_shard or _RECORDS_PER_SHARD,
    )
    path = feature_writer.write_features(
      job,
      os.path.join(values.output, split),
      values.host,
      values.num_hosts,
    )
    logging.info("Features of split %s are in %s.", split, path)


def create_extractor(
  vit: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> Callable[[np.ndarray], jax.Array]:
  """Returns a function of images that runs on all devices of this host.

  Args:
    vit: `config.model.vit`.
    mesh: the devices.

  Returns:
    [b, h, w, 3] float32 in [-1, 1] -> [b, n, c] float16.
  """
  from slot_attention import features

  rows = sharding.batched(mesh)
  weights = jax.device_put(features.load_vit(vit), sharding.replicated(mesh))

  @jax.jit
  def compute(weights: dict, images: jax.Array) -> jax.Array:
    return features.extract_features(weights, images, vit)

  return lambda images: compute(weights, jax.device_put(images, rows))


def _open_reader(
  config: ml_collections.ConfigDict, split: str, mesh: jax.sharding.Mesh
) -> pipeline.Reader:
  if config.source == "procedural":
    raise ValueError(
      "config.data.source is procedural, whose images are drawn anew by every "
      "run; write them with `prepare generate` first."
    )
  return pipeline.SOURCES[config.source](config, split, mesh).reader
