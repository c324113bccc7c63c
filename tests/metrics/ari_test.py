import itertools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.metrics import ari

GOLDEN = np.load(
  pathlib.Path(__file__).parents[1] / "data" / "google_tf_metrics.npz"
)
CASES = GOLDEN["ari_cases"].tolist()

_jitted = jax.jit(
  ari.adjusted_rand_index,
  static_argnames=("num_true", "num_predicted", "degenerate"),
)
_jitted_foreground = jax.jit(
  ari.foreground_adjusted_rand_index,
  static_argnames=("num_objects", "num_predicted", "degenerate"),
)


def _case(name):
  true = GOLDEN[f"ari/{name}/true_mask"]
  predicted = GOLDEN[f"ari/{name}/pred_mask"]
  return true, predicted, GOLDEN[f"ari/{name}/value"]


def _pair_counting(true, predicted):
  """Computes the index from its definition over all pairs of points."""
  pairs = list(itertools.combinations(range(len(true)), 2))
  same_true = np.array([true[i] == true[j] for i, j in pairs])
  same_predicted = np.array([predicted[i] == predicted[j] for i, j in pairs])
  expected = same_true.sum() * same_predicted.sum() / len(pairs)
  maximum = (same_true.sum() + same_predicted.sum()) / 2
  both = (same_true & same_predicted).sum()
  return (both - expected) / (maximum - expected)


@pytest.mark.parametrize("case", CASES)
def test_values_of_the_original(case):
  true, predicted, expected = _case(case)
  value = _jitted(
    true.argmax(-1),
    predicted.argmax(-1),
    num_true=true.shape[-1],
    num_predicted=predicted.shape[-1],
    mask=true.any(-1),
  )
  assert value.shape == expected.shape and value.dtype == jnp.float32
  # NaN only where the original has it: equal_nan is the default.
  np.testing.assert_allclose(value, expected, atol=2e-6)


@pytest.mark.parametrize("case", [c for c in CASES if "fg_only" in c])
def test_foreground_values_of_the_original(case):
  true, predicted, expected = _case(case)
  segmentation = np.where(true.any(-1), true.argmax(-1) + 1, 0)
  value = _jitted_foreground(
    segmentation.reshape(-1, 24, 24),
    predicted.argmax(-1).reshape(-1, 24, 24),
    num_objects=true.shape[-1],
    num_predicted=predicted.shape[-1],
  )
  np.testing.assert_allclose(value, expected, atol=2e-6)


def test_definition_over_pairs():
  rng = np.random.default_rng(0)
  true = rng.integers(3, size=(4, 30))
  predicted = np.where(rng.random((4, 30)) < 0.6, true, rng.integers(5))
  value = _jitted(true, predicted, num_true=3, num_predicted=5)
  np.testing.assert_allclose(
    value, list(map(_pair_counting, true, predicted)), atol=1e-5
  )


def test_masked_points_do_not_count():
  rng = np.random.default_rng(0)
  true, predicted = rng.integers(4, size=(2, 3, 50))
  mask = np.arange(50) < 30
  value = _jitted(
    true,
    predicted,
    num_true=4,
    num_predicted=4,
    mask=np.broadcast_to(mask, (3, 50)),
  )
  np.testing.assert_allclose(
    value,
    _jitted(true[:, :30], predicted[:, :30], num_true=4, num_predicted=4),
    atol=1e-6,
  )


def test_float32_is_enough_for_large_images():
  rng = np.random.default_rng(0)
  true = rng.integers(11, size=(2, 224 * 224))
  predicted = np.where(rng.random(true.shape) < 0.8, true, 0)
  value = _jitted(true, predicted, num_true=11, num_predicted=11)
  for image in range(2):
    counts = np.zeros((11, 11))
    np.add.at(counts, (true[image], predicted[image]), 1)
    both, a, b = (
      (x * (x - 1)).sum() for x in (counts, counts.sum(0), counts.sum(1))
    )
    expected = a * b / (true.shape[1] * (true.shape[1] - 1))
    exact = (both - expected) / ((a + b) / 2 - expected)
    np.testing.assert_allclose(value[image], exact, atol=2e-6)


# Name: true labels (0 background), predicted labels, original, scikit-learn.
SPECIAL = {
  "nothing there": ([0] * 6, [0, 0, 1, 1, 2, 2], np.nan, 1.0),
  "nothing there, one cluster": ([0] * 6, [2] * 6, 1.0, 1.0),
  "one pixel": ([0, 0, 1, 0, 0, 0], [0, 1, 2, 1, 0, 0], np.nan, 1.0),
  "one object, found": ([0, 0, 0, 1, 1, 1], [0, 1, 1, 2, 2, 2], np.nan, 1.0),
  "one object, all one": ([0, 0, 0, 1, 1, 1], [1] * 6, 1.0, 1.0),
  "one object, not the first": ([0, 0, 0, 2, 2, 2], [1] * 6, np.nan, 1.0),
  "one object, split": ([0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 2, 2], 0.0, 0.0),
  "two objects, joined": ([0, 0, 1, 1, 2, 2], [0, 1, 2, 2, 2, 2], 0.0, 0.0),
  "two objects, found": ([0, 0, 1, 1, 2, 2], [2, 2, 0, 0, 1, 1], 1.0, 1.0),
}


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("degenerate", ari.DEGENERATE)
def test_special_cases(name, degenerate):
  true, predicted, original, sklearn = SPECIAL[name]
  value = _jitted_foreground(
    np.array([true]),
    np.array([predicted]),
    num_objects=2,
    num_predicted=3,
    degenerate=degenerate,
  )
  expected = original if degenerate == "nan" else sklearn
  np.testing.assert_array_equal(value, [expected])


def test_one_cluster_whose_pairs_round_to_one():
  # float32: x * x / x != x for x = 154 * 153.
  true = np.array([[0] * 10 + [1] * 154])
  value = _jitted_foreground(true, true, num_objects=2, num_predicted=3)
  np.testing.assert_array_equal(value, [1])


@pytest.mark.parametrize("bad", [-1, 3])
@pytest.mark.parametrize("which", [0, 1])
def test_label_out_of_range_is_nan_for_its_image_alone(which, bad):
  labels = np.random.default_rng(0).integers(3, size=(2, 2, 20))
  labels[which, 0, 7] = bad
  value = _jitted(*labels, num_true=3, num_predicted=3)
  np.testing.assert_array_equal(np.isnan(value), [True, False])
  mask = np.ones((2, 20), bool)
  mask[0, 7] = False
  value = _jitted(*labels, num_true=3, num_predicted=3, mask=mask)
  assert np.isfinite(value).all()


def test_bad_arguments_are_named():
  ids = jnp.zeros((2, 20), jnp.int32)
  with pytest.raises(ValueError, match=r"\(2, 20\), \(2, 19\)"):
    ari.adjusted_rand_index(ids, ids[:, 1:], 3, 3)
  with pytest.raises(ValueError, match=r"one shape \[batch, points\]"):
    ari.adjusted_rand_index(ids, ids, 3, 3, mask=ids[0] == 0)
  with pytest.raises(
    ValueError, match=r"20 points .* 21 true and 20 predicted"
  ):
    ari.adjusted_rand_index(ids, ids, 21, 20)
  with pytest.raises(ValueError, match="'zero'; use one of"):
    ari.adjusted_rand_index(ids, ids, 3, 3, degenerate="zero")
