"""Overlap of predicted segments with the true objects: mBO and mIoU."""

import jax
import jax.numpy as jnp

from slot_attention import matching
from slot_attention.metrics import ari


def overlaps(
  true_ids: jax.Array,
  predicted_ids: jax.Array,
  num_objects: int,
  num_predicted: int,
) -> dict[str, jax.Array]:
  """Computes mean best overlap and matched IoU of every image.

  Both are means over the objects that are visible in the image; the background
  is no object, but its pixels count in the unions. They are those of the
  object-centric learning framework that came with Seitzer et al., "Bridging
  the Gap to Real-World Object-Centric Learning" (ICLR 2023), with its
  `ignore_background`:

  * `mbo`: an object's overlap is the IoU with the predicted segment where it is
    largest, so that one segment may serve several objects (Pont-Tuset et al.,
    "Multiscale Combinatorial Grouping", 2017).
  * `miou`: objects and segments are paired one to one so that the sum of the
    IoUs is largest; an object that is left over counts 0.

  Args:
    true_ids: [b, n] int, 0 background, 1 to num_objects the objects.
    predicted_ids: [b, n] int in [0, num_predicted).
    num_objects: Highest id that can occur, static.
    num_predicted: Number of predicted segments, static.

  Returns:
    `mbo` and `miou`, both [b] float32 in [0, 1]. NaN for images without any
    object, where neither is defined, and for those with an id out of range.
  """
  mask = jnp.ones(true_ids.shape, bool)
  # [b, 1 + o, k] pixels of every pair of segments.
  counts = ari.contingency(
    true_ids, predicted_ids, num_objects + 1, num_predicted, mask
  )
  intersection = counts[:, 1:]  # [b, o, k]
  object_sizes = intersection.sum(axis=2)  # [b, o]
  segment_sizes = counts.sum(axis=1)  # [b, k]
  union = object_sizes[:, :, None] + segment_sizes[:, None, :] - intersection
  # An object that is not visible has IoU 0 with every segment, empty or not.
  iou = intersection / jnp.maximum(union, 1.0)  # [b, o, k]
  num_visible = (object_sizes > 0).sum(axis=1)  # [b]
  is_complete = counts.sum(axis=(1, 2)) == true_ids.shape[1]
  divisor = jnp.where(is_complete & (num_visible > 0), num_visible, jnp.nan)
  return {
    "mbo": iou.max(axis=2).sum(axis=1) / divisor,
    "miou": _largest_total(iou) / divisor,
  }


def _largest_total(iou: jax.Array) -> jax.Array:
  """Returns [b], the sum over the best one-to-one pairs of [b, o, k]."""
  rows, columns = matching.match(-iou)  # [b, min(o, k)] each
  matched = jnp.take_along_axis(iou, rows[:, :, None], axis=1)
  matched = jnp.take_along_axis(matched, columns[:, :, None], axis=2)
  return matched.sum(axis=(1, 2))  # [b, min(o, k), 1] -> [b]
