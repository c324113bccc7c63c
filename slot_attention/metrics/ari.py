"""The adjusted Rand index of segmentations, with and without background."""

import jax
import jax.numpy as jnp

DEGENERATE = ("nan", "sklearn")


def adjusted_rand_index(
  true_ids: jax.Array,
  predicted_ids: jax.Array,
  num_true: int,
  num_predicted: int,
  mask: jax.Array | None = None,
  degenerate: str = "nan",
) -> jax.Array:
  """Computes the adjusted Rand index of every image.

  Same values as `adjusted_rand_index` of google-deepmind's
  multi_object_datasets (Hubert and Arabie, "Comparing partitions", 1985), for
  labels instead of one-hots, including its special cases:

  * 1 if both labellings are constant over ALL points, where masked points
    count with true label 0 and with their predicted label;
  * otherwise 0 / 0 if fewer than two points are left by the mask, or if all
    that are left have one true label and one predicted label. This is NaN,
    except that for 8 % of the point counts up to 224 x 224 the rounding of
    float32 makes it 1 in the second case, in the original as here.

  `degenerate="sklearn"` replaces these two rules by scikit-learn's: 1 wherever
  the two partitions of the unmasked points are identical, even if there is
  only one cluster, one point or none.

  Args:
    true_ids: [b, n] int in [0, num_true).
    predicted_ids: [b, n] int in [0, num_predicted).
    num_true: Number of true labels, static.
    num_predicted: Number of predicted labels, static.
    mask: [b, n] bool, the points that count; None for all.
    degenerate: "nan" for the original's special cases or "sklearn".

  Returns:
    [b] float32, at most 1, about 0 for a random labelling. NaN also where a
    label of a point that counts is outside its range.

  Raises:
    ValueError: If shapes disagree, there are not more points than labels, or
      `degenerate` is unknown.
  """
  _check_arguments(
    true_ids, predicted_ids, num_true, num_predicted, mask, degenerate
  )
  if mask is None:
    mask = jnp.ones(true_ids.shape, bool)
  true_ids = jnp.where(mask, true_ids, 0)
  counts = contingency(true_ids, predicted_ids, num_true, num_predicted, mask)
  value = _index_from_counts(counts)
  if degenerate == "sklearn":
    value = jnp.where(_are_identical_partitions(counts), 1.0, value)
  else:
    single = _is_constant(true_ids) & _is_constant(predicted_ids)
    value = jnp.where(single, 1.0, value)
  # An id out of range has an all-zero one-hot: the counts miss its point.
  complete = counts.sum(axis=(1, 2)) == mask.sum(axis=1)
  return jnp.where(complete, value, jnp.nan)


def foreground_adjusted_rand_index(
  segmentation: jax.Array,
  predicted: jax.Array,
  num_objects: int,
  num_predicted: int,
  degenerate: str = "nan",
) -> jax.Array:
  """Computes the adjusted Rand index over the true foreground of every image.

  Equals the original called with the background's channel taken off the true
  one-hots.

  Args:
    segmentation: [b, ...] int, 0 background, 1 to num_objects the objects.
    predicted: [b, ...] int in [0, num_predicted), of the same shape.
    num_objects: Highest id that can occur in the segmentation, static.
    num_predicted: Number of predicted labels, static.
    degenerate: As in `adjusted_rand_index`.

  Returns:
    [b] float32; see `adjusted_rand_index`. With the default rules an image
    without a visible object is NaN (1 if the prediction is constant), and so
    is one with a single object that the prediction separates perfectly.

  Raises:
    ValueError: As `adjusted_rand_index`.
  """
  batch_size = segmentation.shape[0]
  segmentation = segmentation.reshape(batch_size, -1)  # [b, ...] -> [b, n]
  predicted = predicted.reshape(batch_size, -1)  # [b, ...] -> [b, n]
  return adjusted_rand_index(
    segmentation - 1,
    predicted,
    num_objects,
    num_predicted,
    mask=segmentation != 0,
    degenerate=degenerate,
  )


def both_indices(
  true_ids: jax.Array,
  predicted_ids: jax.Array,
  num_objects: int,
  num_predicted: int,
) -> dict[str, jax.Array]:
  """Computes the index over all pixels and over the objects' pixels.

  Images with one object or none follow scikit-learn's convention, so that no
  image is undefined.

  Args:
    true_ids: [b, n] int, 0 background, 1 to num_objects the objects.
    predicted_ids: [b, n] int in [0, num_predicted).
    num_objects: Highest id that can occur, static.
    num_predicted: Number of predicted labels, static.

  Returns:
    `ari` and `ari_fg`, both [b] float32.
  """
  return {
    "ari": adjusted_rand_index(
      true_ids,
      predicted_ids,
      num_objects + 1,
      num_predicted,
      degenerate="sklearn",
    ),
    "ari_fg": foreground_adjusted_rand_index(
      true_ids,
      predicted_ids,
      num_objects,
      num_predicted,
      degenerate="sklearn",
    ),
  }


def attention_indices(
  segmentation: jax.Array, attention: jax.Array, num_objects: int
) -> dict[str, jax.Array]:
  """Scores attention maps as a segmentation (Slot Attention, section 4.2).

  Args:
    segmentation: [b, h, w] int, 0 background, 1 to num_objects the objects; of
      each cell of the attention's grid the first pixel counts.
    attention: [b, k, h', w'].
    num_objects: Highest id that can occur, static.

  Returns:
    `ari` and `ari_fg` of `both_indices`.
  """
  b, k, *grid = attention.shape
  rows, columns = (
    jnp.arange(small) * full // small
    for small, full in zip(grid, segmentation.shape[1:], strict=True)
  )
  true_ids = segmentation[:, rows[:, None], columns[None, :]]  # [b, h', w']
  predicted_ids = jnp.argmax(attention, axis=1)  # [b, h', w']
  return both_indices(
    true_ids.reshape(b, -1),  # [b, h', w'] -> [b, n]
    predicted_ids.reshape(b, -1),
    num_objects,
    k,
  )


def contingency(
  true_ids: jax.Array,
  predicted_ids: jax.Array,
  num_true: int,
  num_predicted: int,
  mask: jax.Array,
) -> jax.Array:
  """Counts the points of every pair of labels.

  Args:
    true_ids: [b, n] int.
    predicted_ids: [b, n] int.
    num_true: Number of true labels, static.
    num_predicted: Number of predicted labels, static.
    mask: [b, n] bool, the points that count.

  Returns:
    [b, num_true, num_predicted] float32. A point with a label out of its range
    is in none of them, so that the sum tells whether there is one.
  """
  true = jax.nn.one_hot(true_ids, num_true) * mask[:, :, None]
  predicted = jax.nn.one_hot(predicted_ids, num_predicted)
  # Zeros and ones are exact in every format an accelerator may multiply in,
  # and sums below 2^24 are exact in the float32 accumulator.
  return jnp.einsum(
    "bnt,bnp->btp", true, predicted, preferred_element_type=jnp.float32
  )


def _index_from_counts(counts: jax.Array) -> jax.Array:
  """Computes Hubert and Arabie's index [b] from counts [b, true, predicted]."""
  num_points = counts.sum(axis=(1, 2))
  pairs_both = _ordered_pairs(counts).sum(axis=(1, 2))
  pairs_true = _ordered_pairs(counts.sum(axis=2)).sum(axis=1)
  pairs_predicted = _ordered_pairs(counts.sum(axis=1)).sum(axis=1)
  expected = pairs_true * pairs_predicted / _ordered_pairs(num_points)
  maximum = (pairs_true + pairs_predicted) / 2
  return (pairs_both - expected) / (maximum - expected)


def _ordered_pairs(counts: jax.Array) -> jax.Array:
  """Returns the number of ordered pairs of different points."""
  return counts * (counts - 1)


def _are_identical_partitions(counts: jax.Array) -> jax.Array:
  """Whether each label of one side meets at most one of the other; [b]."""
  meets = counts > 0
  return (meets.sum(axis=1) <= 1).all(axis=1) & (meets.sum(axis=2) <= 1).all(
    axis=1
  )


def _is_constant(ids: jax.Array) -> jax.Array:
  """Whether all points [b, n] of an image have one label; [b]."""
  return (ids == ids[:, :1]).all(axis=1)


def _check_arguments(
  true_ids: jax.Array,
  predicted_ids: jax.Array,
  num_true: int,
  num_predicted: int,
  mask: jax.Array | None,
  degenerate: str,
) -> None:
  """Raises unless the arguments of `adjusted_rand_index` fit together."""
  shapes = [true_ids.shape, predicted_ids.shape]
  if mask is not None:
    shapes.append(mask.shape)
  if len(set(shapes)) != 1 or true_ids.ndim != 2:
    raise ValueError(
      f"The adjusted Rand index got arrays of shapes {shapes}; pass labels and "
      "mask of one shape [batch, points]."
    )
  if true_ids.shape[1] <= min(num_true, num_predicted):
    raise ValueError(
      f"The adjusted Rand index of {true_ids.shape[1]} points is not defined "
      f"for {num_true} true and {num_predicted} predicted labels; it needs "
      "more points than labels."
    )
  if degenerate not in DEGENERATE:
    raise ValueError(
      f"degenerate is {degenerate!r}; use one of {list(DEGENERATE)}."
    )
