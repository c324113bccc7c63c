import pathlib

import numpy as np
import pytest
import scipy.linalg

from slot_attention.metrics import fid

REFERENCE = pathlib.Path(__file__).parents[1] / "data"


def statistics(features, batch_size=7):
  result = fid.FeatureStatistics.empty(features.shape[1])
  for start in range(0, len(features), batch_size):
    result.update(features[start : start + batch_size])
  return result


def textbook(first, second):
  """The formula as it is printed, with scipy's root."""
  covariances = [np.cov(x, rowvar=False) for x in (first, second)]
  root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
  shift = first.mean(axis=0) - second.mean(axis=0)
  return shift @ shift + np.trace(sum(covariances) - 2 * root.real)


def random_features(seed, count, size, rank=None):
  rng = np.random.default_rng(seed)
  mixing = rng.normal(size=(rank or size, size))
  return rng.normal(size=(count, rank or size)) @ mixing + rng.normal(size=size)


def test_is_the_published_codes_value():
  with np.load(REFERENCE / "slate_torch_frechet.npz") as arrays:
    first, second = arrays["features1"], arrays["features2"]
    expected = float(arrays["value"])
  distance = fid.frechet_distance(statistics(first), statistics(second))
  assert distance == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("rank", [None, 5])
def test_is_the_textbooks_value(rank):
  """Also for fewer images than features, when covariances are singular."""
  first, second = (random_features(i, 40, 16, rank) for i in range(2))
  distance = fid.frechet_distance(statistics(first), statistics(second))
  assert distance == pytest.approx(textbook(first, second), rel=1e-5)


def test_of_a_set_and_itself_is_zero():
  features = random_features(0, 50, 8)
  same = fid.frechet_distance(statistics(features), statistics(features[::-1]))
  assert 0 <= same < 1e-9 * np.var(features, axis=0).sum()


def test_of_two_known_gaussians():
  """Of one dimension: squares of the differences of means and deviations."""
  first, second = np.array([[-1.0], [1.0]]), np.array([[1.0], [7.0]])
  distance = fid.frechet_distance(statistics(first), statistics(second))
  assert distance == pytest.approx((4 - 0) ** 2 + 2 * (3 - 1) ** 2)


def test_batches_do_not_matter_nor_does_a_large_offset():
  features = random_features(1, 100, 6) + 1e6
  whole = statistics(features, 100)
  np.testing.assert_allclose(whole.mean, features.mean(axis=0), rtol=1e-14)
  for size in (1, 9):
    parts = statistics(features, size)
    parts.update(features[:0])
    assert parts.count == 100
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(
      parts.covariance(), np.cov(features, rowvar=False), rtol=1e-6, atol=1e-6
    )


def colors(images):
  """Stands for a network: mean and deviation of each channel."""
  images = np.asarray(images)
  parts = (images.mean(axis=(1, 2)), images.std(axis=(1, 2)))
  return np.concatenate(parts, axis=1)


def test_accumulates_valid_rows_of_every_set_and_clips_generated_images():
  rng = np.random.default_rng(0)
  sets = rng.uniform(-1, 1, (3, 20, 4, 4, 3)).astype(np.float32)
  sets[1, 0] *= 3
  sets[2, 5] *= 2
  distance = fid.FrechetInceptionDistance(colors, 2, size=6)
  valid = np.arange(8) < 4
  for start in (0, 8, 16):
    padded = np.zeros((3, 8, 4, 4, 3), np.float32)
    rows = sets[:, start : start + 8]
    padded[:, : rows.shape[1]] = rows
    distance.update(padded[0], padded[1:], valid if start == 16 else None)
  assert distance.count == 20
  real, *generated = (colors(np.clip(images, -1, 1)) for images in sets)
  expected = [textbook(real, features) for features in generated]
  assert distance.results() == pytest.approx(expected, rel=1e-4)
  assert expected[0] != pytest.approx(expected[1], rel=0.1)


@pytest.mark.parametrize(("count", "number"), [(6, 1), (7, 0)])
def test_few_images_are_told(count, number):
  """Of n images the covariance has rank n - 1."""
  distance = fid.FrechetInceptionDistance(colors, size=6)
  images = np.random.default_rng(0).uniform(-1, 1, (count, 4, 4, 3))
  distance.update(images, [images])
  covariance = statistics(colors(images)).covariance()
  assert np.linalg.matrix_rank(covariance) == count - 1
  sentences = distance.warnings()
  assert len(sentences) == number
  if number:
    assert "is of 6 images" in sentences[0]
    assert "rank 5 in 6 dimensions" in sentences[0]


def test_what_cannot_be_compared():
  distance = fid.FrechetInceptionDistance(colors, size=6)
  images = np.zeros((1, 4, 4, 3))
  distance.update(images, [images])
  with pytest.raises(ValueError, match="covariance of 1 images"):
    distance.results()
  with pytest.raises(ValueError, match="not finite"):
    distance.update(images * np.nan, [images])
