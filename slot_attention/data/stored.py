"""A training split in the devices' memory, which costs the host no time."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention import sharding
from slot_attention.data import pipeline
from slot_attention.data import preprocess
from slot_attention.data import progress

_CHUNK = 256  # Examples read at a time.


@dataclasses.dataclass(frozen=True)
class StoredSource(pipeline.HostSource):
  """Reads a split once, and then gives the same batches as `HostSource`.

  Every device holds all examples, with images and masks of 8 bits; of each
  batch only the numbers of its examples come from the host.
  """

  def train_batches(
    self, batch_size: int, seed: int, start_step: int
  ) -> Iterator[pipeline.Batch]:
    """See `pipeline.Source`.

    Raises:
      ValueError: the images are not of 8 bits.
    """
    examples = self._examples
    for rows in self.reader.train_positions(batch_size, seed, start_step):
      yield self._draw(examples, rows.astype(np.int32))

  @functools.cached_property
  def _examples(self) -> dict[str, jax.Array]:
    whole = sharding.replicated(self.mesh)
    examples = {
      # Every process has read all; none asks the others for its part.
      name: jax.make_array_from_callback(rows.shape, whole, rows.__getitem__)
      for name, rows in _read(self.reader).items()
    }
    logging.info(
      "%d examples take %.2f GiB of each device.",
      self.num_examples,
      sum(x.nbytes for x in examples.values()) / 2**30,
    )
    return examples

  @functools.cached_property
  def _draw(self) -> Any:
    return jax.jit(_take, out_shardings=sharding.batched(self.mesh))


def _read(reader: pipeline.Reader) -> dict[str, np.ndarray]:
  """Reads all examples of a split, in the order of their numbers."""
  size, start = reader.num_examples, 0
  done = progress.Progress(size, "examples read")
  stored: dict[str, np.ndarray] = {}
  for batch in reader.eval_batches(_CHUNK, slice(0, _CHUNK), None):
    stop = min(start + _CHUNK, size)
    for name, rows in batch.items():
      if name == "valid":
        continue
      packed = _pack(name, rows[: stop - start])
      if name not in stored:
        stored[name] = np.empty((size, *packed.shape[1:]), packed.dtype)
      # Labels beyond 8 bits may come late.
      dtype = np.promote_types(stored[name].dtype, packed.dtype)
      stored[name] = stored[name].astype(dtype, copy=False)
      stored[name][start:stop] = packed
    for _ in range(start, stop):
      done.count()
    start = stop
  return stored


def _pack(name: str, rows: np.ndarray) -> np.ndarray:
  """Returns the rows of an array of a batch in 8 bits where that is exact."""
  if name == "image" and rows.dtype != np.uint8:
    levels = np.rint((rows + 1) * np.float32(127.5)).astype(np.uint8)
    if not np.array_equal(preprocess.to_signed(levels), rows):
      raise ValueError(
        "config.data.keep_on_devices is True, but images are not of 8 bits "
        "after resizing; convert the data set to config.data.resolution with "
        "`python -m slot_attention.data.prepare convert`, or leave the key out."
      )
    return levels
  if name == "segmentation" and rows.max() <= np.iinfo(np.uint8).max:
    return rows.astype(np.uint8)
  return rows


def _take(examples: Mapping[str, jax.Array], rows: jax.Array) -> pipeline.Batch:
  """Returns the batch of the examples with these numbers, int32 [b]."""
  batch = jax.tree.map(lambda x: jnp.take(x, rows, axis=0), dict(examples))
  return pipeline.widen(batch)
