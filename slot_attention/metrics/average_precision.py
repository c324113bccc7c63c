"""Average precision of predicted CLEVR objects, and attribute accuracy."""

from collections.abc import Sequence

import numpy as np

# Layout of the 19 features of an object; one-hots follow the data set's order.
COORDINATES = slice(0, 3)
ATTRIBUTES = {
  "size": slice(3, 5),
  "material": slice(5, 7),
  "shape": slice(7, 10),
  "color": slice(10, 18),
}
PRESENCE = 18
NUM_FEATURES = 19

# Coordinates are stored as (x + 3) / 6; distances are in the scene's units.
COORDINATE_RANGE = np.float32(6.0)
# The search for the nearest object starts here, so nothing farther is found.
MAX_DISTANCE = np.float32(10000.0)

THRESHOLDS = (np.inf, 1.0, 0.5, 0.25, 0.125, 0.0625)


def average_precision(
  predictions: np.ndarray,
  targets: np.ndarray,
  thresholds: Sequence[float] = THRESHOLDS,
) -> dict[float, float]:
  """Computes the average precision at several distance thresholds.

  Same values as `average_precision_clevr` of the original code (Slot Attention
  paper, section 4.2): all predictions of the whole set form one ranking by
  presence. A prediction looks for the nearest object of its image whose four
  attributes equal its own; it is a hit if that object is strictly nearer than
  the threshold and no prediction ranked higher has taken it. Equal presences
  rank the later prediction first, so the result does not depend on the
  processor, unlike the original's unstable sort.

  Args:
    predictions: [n, k, 19] float, all images of the evaluated set.
    targets: [n, o, 19] float, padded with zero rows.
    thresholds: Distances in scene units, infinity for any distance.

  Returns:
    The average precision in [0, 1] for every threshold. NaN if the set has no
    object at all or a prediction is not finite.

  Raises:
    ValueError: If the shapes are not as above.
  """
  predictions, targets = _as_object_sets(predictions, targets)
  num_objects = targets[..., PRESENCE].sum(dtype=np.float64)
  if num_objects == 0 or not np.isfinite(predictions).all():
    return {threshold: float("nan") for threshold in thresholds}
  distance, found = _nearest_equal_object(predictions, targets)
  order = np.argsort(predictions[..., PRESENCE].ravel(), kind="stable")[::-1]
  distance, found = distance[order], found[order]
  return {
    threshold: _area_under_envelope(
      _first_hits(found, distance < threshold), num_objects
    )
    for threshold in thresholds
  }


def attribute_accuracy(
  predictions: np.ndarray,
  targets: np.ndarray,
  rows: np.ndarray,
  columns: np.ndarray,
) -> dict[str, float]:
  """Computes how many real objects have their attributes predicted.

  Args:
    predictions: [n, k, 19] float.
    targets: [n, o, 19] float, padded with zero rows.
    rows: [n, min(o, k)] int, target indices of a matching.
    columns: [n, min(o, k)] int, the prediction matched to each of them.

  Returns:
    Fractions in [0, 1] of the real objects whose "size", "material", "shape",
    "color" and "all" four are right. A real object left without a prediction
    counts as wrong. NaN if there is no real object.

  Raises:
    ValueError: If the shapes of the sets are not as above.
  """
  predictions, targets = _as_object_sets(predictions, targets)
  num_real = np.count_nonzero(targets[..., PRESENCE])
  if num_real == 0:
    return dict.fromkeys((*ATTRIBUTES, "all"), float("nan"))
  true = np.take_along_axis(targets, np.asarray(rows)[..., None], axis=1)
  predicted = np.take_along_axis(
    predictions, np.asarray(columns)[..., None], axis=1
  )
  real = true[..., PRESENCE] != 0
  right = {
    name: real & (_label(predicted, name) == _label(true, name))
    for name in ATTRIBUTES
  }
  right["all"] = np.logical_and.reduce(list(right.values()))
  return {name: float(hits.sum() / num_real) for name, hits in right.items()}


def _as_object_sets(
  predictions: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns both as float32, or raises if they are not sets of objects."""
  # float32 as the original: in another precision a distance could fall on the
  # other side of a threshold.
  predictions = np.asarray(predictions, np.float32)
  targets = np.asarray(targets, np.float32)
  if (
    any(
      x.ndim != 3 or x.shape[2] != NUM_FEATURES for x in (predictions, targets)
    )
    or predictions.shape[0] != targets.shape[0]
  ):
    raise ValueError(
      f"Predictions {predictions.shape} and targets {targets.shape} are not "
      f"sets of objects of the same images; pass [n, k, {NUM_FEATURES}] and "
      f"[n, o, {NUM_FEATURES}]."
    )
  return predictions, targets


def _label(objects: np.ndarray, name: str) -> np.ndarray:
  """Returns the class of an attribute, the first one among equals."""
  return objects[..., ATTRIBUTES[name]].argmax(axis=-1)


def _attribute_codes(objects: np.ndarray) -> np.ndarray:
  """Returns one number per object, equal where all four attributes are."""
  codes = np.zeros(objects.shape[:-1], np.int16)
  for name, features in ATTRIBUTES.items():
    codes *= features.stop - features.start
    codes += _label(objects, name).astype(np.int16)
  return codes


def _nearest_equal_object(
  predictions: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Finds for every prediction the nearest object of equal attributes.

  Args:
    predictions: [n, k, 19] float32.
    targets: [n, o, 19] float32.

  Returns:
    The distance [n * k] float32, infinite where there is no such object, and
    the index of the object in the whole set [n * k] int64.
  """
  # [n, k, 1] == [n, 1, o] -> [n, k, o]
  equal = (
    _attribute_codes(predictions)[:, :, None]
    == _attribute_codes(targets)[:, None, :]
  )
  equal &= (targets[..., PRESENCE] != 0)[:, None, :]
  image, predicted, true = np.nonzero(equal)
  offsets = (
    targets[image, true, COORDINATES]
    - predictions[image, predicted, COORDINATES]
  ) * COORDINATE_RANGE  # [pairs, 3]
  distances = np.full(equal.shape, np.inf, np.float32)
  distances[image, predicted, true] = np.linalg.norm(offsets, axis=-1)
  distances[distances >= MAX_DISTANCE] = np.inf
  num_images, num_targets = targets.shape[:2]
  nearest = distances.argmin(axis=-1)  # [n, k]; the first among equals
  distance = np.take_along_axis(distances, nearest[..., None], axis=-1)
  found = np.arange(num_images)[:, None] * num_targets + nearest
  return distance.ravel(), found.ravel()  # [n, k, 1], [n, k] -> [n * k]


def _first_hits(found: np.ndarray, near: np.ndarray) -> np.ndarray:
  """Marks the near predictions that are the first to find their object.

  Args:
    found: [p] int, the object each prediction finds, in the ranking's order.
    near: [p] bool, whether it is near enough.

  Returns:
    [p] bool.
  """
  candidates = np.flatnonzero(near)
  _, first = np.unique(found[candidates], return_index=True)
  hits = np.zeros(found.shape, bool)
  hits[candidates[first]] = True
  return hits


def _area_under_envelope(hits: np.ndarray, num_objects: float) -> float:
  """Computes the area under the falling envelope of precision over recall.

  Args:
    hits: [p] bool, in the ranking's order.
    num_objects: Number of objects in the whole set, positive.

  Returns:
    The area; both curves are rounded to float32 as in the original.
  """
  num_hits = np.cumsum(hits)
  precision = (num_hits / np.arange(1, len(hits) + 1)).astype(np.float32)
  recall = (num_hits / num_objects).astype(np.float32)
  recall = np.concatenate([[0.0], recall, [1.0]]).astype(np.float64)
  precision = np.concatenate([precision, [0.0]]).astype(np.float64)
  envelope = np.maximum.accumulate(precision[::-1])[::-1]
  return float(np.sum(np.diff(recall) * envelope))
