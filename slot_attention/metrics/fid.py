"""The Frechet distance between two sets of images (Heusel et al., 2017).

Sets are compared by mean and covariance of their features, which are
accumulated in float64 batch by batch. With the features of
`modules.inception.InceptionV3` and its published weights the distance is the
FID; with others it must not be called so.
"""

from collections.abc import Callable
import dataclasses

import numpy as np


@dataclasses.dataclass
class FeatureStatistics:
  """Mean and covariance of features, a batch at a time.

  Attributes:
    count: features so far.
    mean: [d] float64.
    scatter: [d, d] float64, sum of the outer products of the deviations from
      the mean.
  """

  count: int
  mean: np.ndarray
  scatter: np.ndarray

  @classmethod
  def empty(cls, size: int) -> "FeatureStatistics":
    """Returns the statistics of no features [size]."""
    return cls(0, np.zeros(size), np.zeros((size, size)))

  def update(self, features: np.ndarray) -> None:
    """Adds features [n, d]; the order of batches changes rounding only.

    Raises:
      ValueError: a feature is not finite.
    """
    features = np.asarray(features, np.float64)
    if not np.isfinite(features).all():
      raise ValueError(
        "Features of images are not finite; look at the images, which may hold "
        "NaN or infinity."
      )
    count = len(features)
    if not count:
      return
    mean = features.mean(axis=0)
    centered = features - mean
    total = self.count + count
    shift = mean - self.mean
    # Chan et al.: no difference of large sums.
    self.scatter += centered.T @ centered
    self.scatter += np.outer(shift, shift) * (self.count * count / total)
    self.mean = self.mean + shift * (count / total)
    self.count = total

  def covariance(self) -> np.ndarray:
    """Returns the unbiased covariance [d, d].

    Raises:
      ValueError: there are fewer than two features.
    """
    if self.count < 2:
      raise ValueError(
        f"A covariance of {self.count} images was asked for; it takes two or "
        "more."
      )
    return self.scatter / (self.count - 1)


def frechet_distance(
  first: FeatureStatistics, second: FeatureStatistics
) -> float:
  """Computes |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

  The trace of the root is that of (S1^(1/2) S2 S1^(1/2))^(1/2), which is real
  and needs no small constant on the diagonals.

  Args:
    first: of at least two features [d].
    second: likewise.

  Returns:
    The squared Frechet distance of two Gaussians, 0 or more.
  """
  covariances = first.covariance(), second.covariance()
  values, vectors = np.linalg.eigh(covariances[0])
  root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
  product = root @ covariances[1] @ root
  # Symmetric but for rounding.
  values = np.linalg.eigvalsh((product + product.T) / 2)
  trace = np.sqrt(np.maximum(values, 0.0)).sum()
  shift = first.mean - second.mean
  distance = (
    shift @ shift
    + np.trace(covariances[0])
    + np.trace(covariances[1])
    - 2.0 * trace
  )
  return float(max(distance, 0.0))


class FrechetInceptionDistance:
  """Accumulates the distance between real and generated images.

    distance = fid.FrechetInceptionDistance(features)
    for batch in batches:
      distance.update(batch["image"], reconstruction, batch["valid"])
    scalars["fid"] = distance.result()

  Attributes:
    count: pairs of images so far.
  """

  def __init__(
    self, features: Callable[[np.ndarray], np.ndarray], size: int = 2048
  ):
    """Starts with no images.

    Args:
      features: maps images [b, h, w, 3] in [-1, 1] to features [b, size], as
        `convert.inception.load` returns it.
      size: of a feature.
    """
    self._features = features
    self._real = FeatureStatistics.empty(size)
    self._fake = FeatureStatistics.empty(size)

  @property
  def count(self) -> int:
    """Returns the number of pairs of images so far."""
    return self._real.count

  def update(
    self,
    images_real: np.ndarray,
    images_fake: np.ndarray,
    valid: np.ndarray | None = None,
  ) -> None:
    """Adds a batch.

    Args:
      images_real: [b, h, w, 3] in [-1, 1].
      images_fake: [b, h, w, 3] in [-1, 1]; values beyond are clipped, as in a
        file.
      valid: [b] bool, False for padding; None for all.
    """
    rows = slice(None) if valid is None else np.asarray(valid, bool)
    fake = np.clip(np.asarray(images_fake), -1.0, 1.0)
    # Padded rows go through the network too, so that it is compiled once.
    self._real.update(np.asarray(self._features(images_real))[rows])
    self._fake.update(np.asarray(self._features(fake))[rows])

  def result(self) -> float:
    """Returns the distance; it is too large for few images.

    Raises:
      ValueError: there are fewer than two images.
    """
    return frechet_distance(self._real, self._fake)
