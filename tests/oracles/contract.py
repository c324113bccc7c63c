"""Readers as models see them: with the types of the data's contract."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from slot_attention.data import pipeline


class Widened:
  """A reader that does on the host what `HostSource` does on devices."""

  def __init__(self, reader: pipeline.Reader):
    self._reader = reader

  def __getattr__(self, name: str) -> Any:
    return getattr(self._reader, name)

  def train_batches(self, *args) -> Iterator[dict[str, np.ndarray]]:
    """See `pipeline.Reader`."""
    return map(widen, self._reader.train_batches(*args))

  def eval_batches(self, *args) -> Iterator[dict[str, np.ndarray]]:
    """See `pipeline.Reader`."""
    return map(widen, self._reader.eval_batches(*args))


def widen(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """See `pipeline.widen`."""
  return jax.device_get(pipeline.widen(batch))
