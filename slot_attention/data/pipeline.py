"""Batches as global device arrays, whatever the source.

The order of examples is a function of (seed, step) alone: no state is saved,
and a run that starts at step s reads nothing of the steps before.
"""

from collections.abc import Iterator, Mapping
import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import sharding
from slot_attention.data import augment
from slot_attention.data import preprocess

Batch = dict[str, jax.Array]


class Source(Protocol):
  """One split of one data set.

  Attributes:
    num_examples: examples in the split, or None where it has no end.
  """

  num_examples: int | None

  def train_batches(
    self, batch_size: int, seed: int, start_step: int
  ) -> Iterator[Batch]:
    """Yields batches without end, beginning with that of `start_step`."""

  def eval_batches(self, batch_size: int, num_examples: int) -> Iterator[Batch]:
    """Yields the first examples once; `valid` [b] is False where padded."""


def open_source(
  config: ml_collections.ConfigDict,
  split: str,
  mesh: jax.sharding.Mesh,
  vit: ml_collections.ConfigDict | None = None,
) -> Source:
  """Opens a split of the source that `config.source` names.

  Args:
    config: `config.data` of a run.
    split: "train", "train_eval", "validation" or, where the source has it,
      "test".
    mesh: the devices on which batches shall lie.
    vit: `config.model.vit`; features that were computed beforehand must be of
      this transformer.

  Returns:
    The source. Batches follow the contract: `image` float32 in [-1, 1],
    `num_objects` and, where the data has masks, `segmentation`, where it has
    properties, `target` [b, config.num_targets, 19]; or `features` [b, n, c]
    float16 where config.features is "precomputed", see `data.features`.
  """
  if config.features == "precomputed":
    from slot_attention.data import features

    reader = features.open_features(config, split, vit)
    return _on_devices(reader, config, split, mesh)
  source = SOURCES[config.source](config, split, mesh)
  if config.horizontal_flip or config.grayscale:
    return augment.AugmentedSource(
      source, mesh, config.horizontal_flip, config.grayscale
    )
  return source


@dataclasses.dataclass(frozen=True)
class HostSource:
  """Moves a reader's host-local numpy batches to the devices.

  What the reader leaves in 8 bits travels so.

  Attributes:
    reader: yields the rows it is asked for of each global batch.
    mesh: the devices.
  """

  reader: "Reader"
  mesh: jax.sharding.Mesh

  @property
  def num_examples(self) -> int:
    """Returns the number of examples in the split."""
    return self.reader.num_examples

  def train_batches(
    self, batch_size: int, seed: int, start_step: int
  ) -> Iterator[Batch]:
    """See `Source`."""
    rows = sharding.local_rows(self.mesh, batch_size)
    for batch in self.reader.train_batches(batch_size, seed, start_step, rows):
      yield self._place(batch)

  def eval_batches(self, batch_size: int, num_examples: int) -> Iterator[Batch]:
    """See `Source`."""
    rows = sharding.local_rows(self.mesh, batch_size)
    for batch in self.reader.eval_batches(
      batch_size, rows, num_examples or None
    ):
      yield self._place(batch)

  def _place(self, batch: Mapping[str, np.ndarray]) -> Batch:
    return widen(sharding.shard_batch(batch, self.mesh))


def widen(batch: Mapping[str, Any]) -> dict[str, Any]:
  """Gives a reader's batch the types of the contract, on devices.

  Args:
    batch: `image` float32 in [-1, 1] or uint8 levels, `segmentation` of any
      integers.

  Returns:
    The batch, with `image` float32 in [-1, 1], to the bit what
    `preprocess.normalize_image` gives, and `segmentation` int32.
  """
  result = dict(batch)
  if "image" in batch and batch["image"].dtype == np.uint8:
    result["image"] = _to_signed(batch["image"])
  if "segmentation" in batch and batch["segmentation"].dtype != np.int32:
    result["segmentation"] = _to_int32(batch["segmentation"])
  return result


@jax.jit
def _to_signed(levels: jax.Array) -> jax.Array:
  # XLA would multiply by the inverse of a divisor that it sees is one number,
  # and last bits would differ from those of tensorflow.
  white = jnp.full(levels.shape, preprocess.WHITE)
  return preprocess.to_signed(levels, jax.lax.optimization_barrier(white))


@jax.jit
def _to_int32(labels: jax.Array) -> jax.Array:
  return labels.astype(jnp.int32)


class Reader(Protocol):
  """A split read on the host; `rows` is this host's part of a global batch.

  Batches are as `widen` takes them.
  """

  num_examples: int

  def train_batches(
    self, batch_size: int, seed: int, start_step: int, rows: slice
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yields this host's rows of each global batch, without end."""

  def eval_batches(
    self, batch_size: int, rows: slice, num_examples: int | None
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yields one pass, padded, with `valid`."""

  def train_positions(
    self, batch_size: int, seed: int, start_step: int
  ) -> Iterator[np.ndarray]:
    """Yields places [b] in that pass of the rows of each global batch."""


def _on_devices(
  reader: Reader,
  config: ml_collections.ConfigDict,
  split: str,
  mesh: jax.sharding.Mesh,
) -> Source:
  """Moves batches, or once the whole training split, to the devices."""
  if config.keep_on_devices and split == "train":
    from slot_attention.data import stored

    return stored.StoredSource(reader, mesh)
  return HostSource(reader, mesh)


def _clevr(
  config: ml_collections.ConfigDict, split: str, mesh: jax.sharding.Mesh
) -> Source:
  from slot_attention.data import clevr

  reader = clevr.open_clevr(
    data_dir=config.data_dir or None,
    split=split,
    download=config.download,
    min_num_objects=config.min_num_objects,
    max_num_objects=config.max_num_objects,
    resolution=config.resolution,
    crop=tuple(config.crop) or None,
    num_targets=config.num_targets,
    interpolation=config.interpolation,
  )
  return _on_devices(reader, config, split, mesh)


def _multi_object_datasets(
  config: ml_collections.ConfigDict, split: str, mesh: jax.sharding.Mesh
) -> Source:
  from slot_attention.data import multi_object_datasets

  reader = multi_object_datasets.open_dataset(
    dataset=config.dataset,
    data_dir=config.data_dir,
    split=split,
    split_sizes=tuple(config.split_sizes),
    min_num_objects=config.min_num_objects,
    max_num_objects=config.max_num_objects,
    resolution=tuple(config.resolution),
    crop=tuple(config.crop),
    interpolation=config.interpolation,
  )
  return _on_devices(reader, config, split, mesh)


def _image_folder(
  config: ml_collections.ConfigDict, split: str, mesh: jax.sharding.Mesh
) -> Source:
  from slot_attention.data import image_folders

  view = image_folders.View(
    resolution=tuple(config.resolution),
    center_crop=config.center_crop,
    crop=tuple(config.crop),
    interpolation=config.interpolation,
  )
  reader = image_folders.open_dataset(
    dataset=config.dataset,
    data_dir=config.data_dir,
    split=split,
    view=view,
    variant=config.variant,
    min_num_objects=config.min_num_objects,
    max_num_objects=config.max_num_objects,
  )
  return _on_devices(reader, config, split, mesh)


def _movi(
  config: ml_collections.ConfigDict, split: str, mesh: jax.sharding.Mesh
) -> Source:
  from slot_attention.data import movi

  reader = movi.open_movi(
    dataset=config.dataset,
    data_dir=config.data_dir,
    split=split,
    view=movi.View(
      resolution=tuple(config.resolution),
      crop=tuple(config.crop),
      interpolation=config.interpolation,
    ),
    tfds_config=config.tfds_config,
    min_num_objects=config.min_num_objects,
    max_num_objects=config.max_num_objects,
  )
  return _on_devices(reader, config, split, mesh)


def _procedural(
  config: ml_collections.ConfigDict, split: str, mesh: jax.sharding.Mesh
) -> Source:
  from slot_attention.data.procedural import source

  return source.ProceduralSource(config, split, mesh)


SOURCES = {
  "clevr": _clevr,
  "image_folder": _image_folder,
  "movi": _movi,
  "multi_object_datasets": _multi_object_datasets,
  "procedural": _procedural,
}
