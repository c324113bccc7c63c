"""The Frechet distance between two sets of images (Heusel et al., 2017).

Sets are compared by mean and covariance of their features, which are
accumulated in float64 batch by batch. With the features of
`modules.inception.InceptionV3` and its published weights the distance is the
FID; with others it must not be called so.
"""

from collections.abc import Callable, Sequence
import dataclasses

import jax
import jax.numpy as jnp
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
  """Accumulates how far sets of generated images are from the real ones.

    distance = fid.FrechetInceptionDistance(features)
    for batch in batches:
      distance.update(batch["image"], [generated], valid)
    (scalars["fid"],) = distance.results()

  Attributes:
    count: real images so far, and generated ones of every set.
  """

  def __init__(
    self,
    features: Callable[[jax.Array], jax.Array],
    num_sets: int = 1,
    size: int = 2048,
  ):
    """Starts with no images.

    Args:
      features: maps images [b, h, w, 3] in [-1, 1] to features [b, size], as
        `convert.inception.load` returns it.
      num_sets: sets of generated images, all compared with the same real ones.
      size: of a feature.
    """
    self._features = features
    self._real = FeatureStatistics.empty(size)
    self._generated = [FeatureStatistics.empty(size) for _ in range(num_sets)]

  @property
  def count(self) -> int:
    """Returns the number of real images so far."""
    return self._real.count

  def update(
    self,
    real: jax.Array,
    generated: Sequence[jax.Array],
    valid: np.ndarray | None = None,
  ) -> None:
    """Adds a batch.

    Args:
      real: [b, h, w, 3] in [-1, 1].
      generated: [b, h, w, 3] in [-1, 1], of every set; values beyond are
        clipped, as in a file.
      valid: [b] bool, False for padding; None for all.
    """
    rows = slice(None) if valid is None else np.asarray(valid, bool)
    sets = [self._real, *self._generated]
    for statistics, images in zip(sets, [real, *generated], strict=True):
      # Padded rows go through the network too, so that it is compiled once.
      features = self._features(jnp.clip(images, -1.0, 1.0))
      statistics.update(np.asarray(features)[rows])

  def results(self) -> list[float]:
    """Returns the distance of every set; it is too large for few images.

    Raises:
      ValueError: there are fewer than two images.
    """
    return [frechet_distance(self._real, one) for one in self._generated]

  def warnings(self) -> list[str]:
    """Says in a sentence if the images are too few for their features."""
    size = len(self._real.mean)
    if self.count > size:
      return []
    return [
      f"The FID is of {self.count} images, whose covariances have at most rank "
      f"{self.count - 1} in {size} dimensions: it is too large, and comparable "
      f"with that of as many images only; take more than {size:,} images."
    ]
