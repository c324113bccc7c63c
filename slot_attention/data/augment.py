"""Changes of whole batches on the devices, alike for every source."""

from collections.abc import Iterator
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention import sharding

Batch = dict[str, jax.Array]

# ITU-R BT.601, as in the papers' PyTorch and TensorFlow code.
_LUMA = (0.299, 0.587, 0.114)
# Separates these random numbers from others that are made of the same seed.
_FLIP_STREAM = 0x666C6970


class AugmentedSource:
  """A source whose training batches are flipped, or whose images are gray.

  Which images are flipped is a function of (seed, step) alone.

  Attributes:
    num_examples: of the source.
  """

  def __init__(
    self,
    source: Any,
    mesh: jax.sharding.Mesh,
    horizontal_flip: bool,
    grayscale: bool,
  ):
    """Wraps a source.

    Args:
      source: a `pipeline.Source`.
      mesh: the devices on which its batches lie.
      horizontal_flip: whether each training image is mirrored, left to right,
        with probability 1/2, together with its segmentation.
      grayscale: whether all images, those of evaluation too, become gray.
    """
    self.num_examples = source.num_examples
    self._source = source
    out_shardings = sharding.batched(mesh)
    self._augment = jax.jit(
      functools.partial(
        _augment, horizontal_flip=horizontal_flip, grayscale=grayscale
      ),
      out_shardings=out_shardings,
    )
    self._grayscale = grayscale
    self._to_gray = jax.jit(_batch_to_gray, out_shardings=out_shardings)

  def train_batches(
    self, batch_size: int, seed: int, start_step: int
  ) -> Iterator[Batch]:
    """See `pipeline.Source`."""
    batches = self._source.train_batches(batch_size, seed, start_step)
    for step, batch in enumerate(batches, start_step):
      yield self._augment(batch, np.uint32(seed), np.uint32(step))

  def eval_batches(self, batch_size: int, num_examples: int) -> Iterator[Batch]:
    """See `pipeline.Source`."""
    for batch in self._source.eval_batches(batch_size, num_examples):
      yield self._to_gray(batch) if self._grayscale else batch


def flip(batch: Batch, is_flipped: jax.Array) -> Batch:
  """Mirrors some images of a batch and their segmentations left to right.

  Args:
    batch: `image` [b, h, w, c] and, if there is one, `segmentation` [b, h, w].
    is_flipped: [b] bool, which ones.

  Returns:
    The batch; what else it holds is unchanged.
  """
  flipped = {
    name: jnp.where(
      # [b] -> [b, 1, ...]
      is_flipped.reshape(-1, *[1] * (batch[name].ndim - 1)),
      jnp.flip(batch[name], axis=2),
      batch[name],
    )
    for name in ("image", "segmentation")
    if name in batch
  }
  return {**batch, **flipped}


def to_gray(image: jax.Array) -> jax.Array:
  """Replaces colours by their luma.

  Args:
    image: [b, h, w, 3] in [-1, 1].

  Returns:
    [b, h, w, 3] of the same type, three equal channels of 0.299 red +
    0.587 green + 0.114 blue (ITU-R BT.601).
  """
  weights = jnp.asarray(_LUMA, image.dtype).reshape(1, 1, 1, 3)
  luma = jnp.sum(image * weights, axis=-1, keepdims=True)  # [b, h, w, 1]
  # Rounding can carry the sum beyond white.
  return jnp.repeat(jnp.clip(luma, -1.0, 1.0), 3, axis=-1)


def _augment(
  batch: Batch,
  seed: jax.Array,
  step: jax.Array,
  horizontal_flip: bool,
  grayscale: bool,
) -> Batch:
  if horizontal_flip:
    key = jax.random.fold_in(jax.random.key(seed), _FLIP_STREAM)
    key = jax.random.fold_in(key, step)
    batch = flip(
      batch, jax.random.bernoulli(key, 0.5, batch["image"].shape[:1])
    )
  return _batch_to_gray(batch) if grayscale else batch


def _batch_to_gray(batch: Batch) -> Batch:
  return {**batch, "image": to_gray(batch["image"])}
