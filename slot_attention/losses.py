"""Losses per image, for the caller to average over the global batch."""

import jax
import jax.numpy as jnp
import optax

from slot_attention import matching as matching_lib


def huber(errors: jax.Array, delta: float = 1.0) -> jax.Array:
  """Computes Huber's loss: quadratic up to delta, linear beyond.

  Args:
    errors: Float array of any shape.
    delta: Absolute error from which on the loss is linear, positive.

  Returns:
    Float32 array of the same shape.
  """
  return optax.losses.huber_loss(errors.astype(jnp.float32), delta=delta)


def pairwise_huber(predictions: jax.Array, targets: jax.Array) -> jax.Array:
  """Computes the mean Huber loss between every target and every prediction.

  Args:
    predictions: [b, m, f] float.
    targets: [b, n, f] float.

  Returns:
    [b, n, m] float32, the mean over the features.
  """
  predictions = predictions.astype(jnp.float32)[:, None, :, :]  # [b, 1, m, f]
  targets = targets.astype(jnp.float32)[:, :, None, :]  # [b, n, 1, f]
  return huber(predictions - targets).mean(axis=-1)


def set_loss(
  predictions: jax.Array, targets: jax.Array, matching: str = "optax"
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  """Computes the permutation-invariant set-prediction loss of every image.

  This is `hungarian_huber_loss` of the original code (Slot Attention paper,
  section 2.3): the mean Huber loss over the features, summed over the matched
  pairs. Padding targets, all zero, take part, so surplus
  slots learn presence 0. With unequal numbers, what stays unmatched adds
  nothing.

  Args:
    predictions: [b, m, f] float.
    targets: [b, n, f] float.
    matching: A key of `matching.METHODS`.

  Returns:
    The loss [b] float32, not averaged over the batch, and the matching
    (target indices, prediction indices), both [b, min(n, m)] int32. Where any
    pair of an image has a non-finite cost, matched or not, its loss is NaN,
    and so is its gradient.

  Raises:
    ValueError: If the shapes disagree or the method is unknown.
  """
  _check_sets(predictions, targets)
  cost = pairwise_huber(*jax.lax.stop_gradient((predictions, targets)))
  rows, columns = matching_lib.match(cost, matching)
  # Only matched pairs carry a gradient, so only they are computed again:
  # the backward pass keeps [b, min(n, m), f] instead of [b, n, m, f].
  predicted = jnp.take_along_axis(predictions, columns[:, :, None], axis=1)
  true = jnp.take_along_axis(targets, rows[:, :, None], axis=1)
  errors = predicted.astype(jnp.float32) - true.astype(jnp.float32)
  per_example = huber(errors).mean(axis=-1).sum(axis=-1)
  finite = jnp.isfinite(cost).all(axis=(1, 2))
  return per_example * jnp.where(finite, 1.0, jnp.nan), (rows, columns)


def mean_squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
  """Computes the mean squared error of every example.

  Args:
    x: [b, ...] float.
    y: Float of the same shape.

  Returns:
    [b] float32, the mean over all but the first axis.

  Raises:
    ValueError: If the shapes differ.
  """
  if x.shape != y.shape:
    raise ValueError(
      f"The mean squared error needs equal shapes, not {x.shape} and {y.shape}."
    )
  errors = x.astype(jnp.float32) - y.astype(jnp.float32)
  return jnp.square(errors).mean(axis=tuple(range(1, x.ndim)))


def _check_sets(predictions: jax.Array, targets: jax.Array) -> None:
  """Raises unless the sets are [b, m, f] and [b, n, f]."""
  shapes = predictions.shape, targets.shape
  if (
    any(len(shape) != 3 for shape in shapes)
    or predictions.shape[0] != targets.shape[0]
    or predictions.shape[2] != targets.shape[2]
  ):
    raise ValueError(
      f"Predictions {shapes[0]} and targets {shapes[1]} are not sets of one "
      "batch; pass [b, num_predictions, f] and [b, num_targets, f]."
    )
