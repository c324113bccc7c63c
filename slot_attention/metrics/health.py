"""Whether slots are used, and whether what they cover depends on the image.

The known failure of Slot Attention is a segmentation into stripes or other
fixed regions, the same for every image (paper A, section 4.1). It needs no
labels to be seen: the segmentations of different images then agree.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from slot_attention.metrics import ari

NAMES = ("slot_entropy", "dead_slots", "mask_similarity")

# Segmentations of unrelated images that agree more than this are fixed ones:
# runs on Tetrominoes that found stripes had 0.60 to 0.70, the others at most
# 0.39 (BUILD_NOTES.md).
MAX_SIMILARITY = 0.5
# A model with a slot or two to spare leaves that many empty.
MAX_DEAD_SHARE = 0.7


def slot_health(
  labels: jax.Array, num_slots: int, valid: jax.Array
) -> dict[str, jax.Array]:
  """Measures how a batch's images are divided among the slots.

  Args:
    labels: [b, n] int in [0, num_slots), the slot that each pixel belongs to.
    num_slots: k, static.
    valid: [b] bool, False for padding, which is all at the end.

  Returns:
    [b] float32 each:
    `slot_entropy`: of the slots' shares of the pixels, over log k: 1 where all
      have equal shares, 0 where one has all.
    `dead_slots`: slots without a pixel.
    `mask_similarity`: adjusted Rand index between the labels of an image and
      those of the next one: about 0 if they have nothing to do with each other,
      1 if both are divided alike, whatever the order of the slots. NaN in a
      batch with a single image.
  """
  shares = jax.nn.one_hot(labels, num_slots).mean(axis=1)  # [b, k]
  entropy = -jnp.sum(jax.scipy.special.xlogy(shares, shares), axis=1)
  count = jnp.sum(valid)
  following = (jnp.arange(labels.shape[0]) + 1) % jnp.maximum(count, 1)
  similarity = ari.adjusted_rand_index(
    labels,
    jnp.take(labels, following, axis=0),
    num_slots,
    num_slots,
    degenerate="sklearn",
  )
  return {
    "slot_entropy": entropy / jnp.log(max(num_slots, 2)),
    "dead_slots": jnp.sum(shares == 0, axis=1).astype(jnp.float32),
    "mask_similarity": jnp.where(count > 1, similarity, jnp.nan),
  }


def warnings(scalars: Mapping[str, float], num_slots: int) -> list[str]:
  """Says what is wrong with a model's slots.

  Args:
    scalars: means of `slot_health` over a split.
    num_slots: k.

  Returns:
    Sentences, none for a healthy model.
  """
  sentences = []
  similarity = scalars.get("mask_similarity", 0.0)
  dead = scalars.get("dead_slots", 0.0)
  if similarity > MAX_SIMILARITY:
    sentences.append(
      "The slots hardly depend on the image: the segmentations of different "
      f"images agree (eval/mask_similarity {similarity:.2f}), as with stripes "
      "or other fixed regions; look at the figures, and if this stays, start "
      "again with another seed or a longer optimizer.warmup_steps."
    )
  if dead > MAX_DEAD_SHARE * num_slots:
    sentences.append(
      f"Of {num_slots} slots, {dead:.1f} cover nothing on average "
      "(eval/dead_slots): hardly any slot competes; look at the figures."
    )
  return sentences
