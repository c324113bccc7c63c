import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from slot_attention import matching

METHODS = sorted(matching.METHODS)


def _costs(kind, shape, seed=0):
  """Returns [b, n, m] float32 costs, or pairs of equal ones if "tied"."""
  rng = np.random.default_rng(seed)
  if kind == "random":
    return rng.random(shape, np.float32)
  if kind == "tied":
    return rng.integers(3, size=shape).astype(np.float32)
  if kind == "constant":
    return np.ones(shape, np.float32)
  # Padded targets: rows from the middle on are the same.
  cost = rng.random(shape, np.float32)
  cost[:, shape[1] // 2 :] = cost[:, shape[1] // 2 : shape[1] // 2 + 1]
  return cost


def _least_cost(cost):
  return [c[optimize.linear_sum_assignment(c)].sum(dtype="f8") for c in cost]


def _cost_of(cost, rows, columns):
  return np.take_along_axis(
    np.take_along_axis(cost, np.asarray(rows)[:, :, None], 1),
    np.asarray(columns)[:, :, None],
    2,
  ).sum((1, 2), dtype="f8")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
  "shape",
  [(16, 10, 10), (16, 10, 14), (16, 10, 7), (8, 1, 5), (8, 5, 1), (1, 1, 1)],
)
@pytest.mark.parametrize("kind", ["random", "tied", "constant", "padded"])
def test_is_a_matching_of_least_cost(method, shape, kind):
  cost = _costs(kind, shape)
  rows, columns = matching.match(cost, method)
  assert rows.shape == columns.shape == (shape[0], min(shape[1:]))
  assert rows.dtype == columns.dtype == jnp.int32
  assert (np.diff(rows, axis=1) > 0).all()
  for row, column in zip(np.asarray(rows), np.asarray(columns), strict=True):
    assert len(set(column)) == len(column)
    assert row.min() >= 0 and row.max() < shape[1]
    assert column.min() >= 0 and column.max() < shape[2]
  np.testing.assert_allclose(
    _cost_of(cost, rows, columns), _least_cost(cost), rtol=1e-6
  )


@pytest.mark.parametrize("method", METHODS)
def test_without_ties_the_pairs_are_those_of_scipy(method):
  cost = _costs("random", (32, 9, 11))
  rows, columns = matching.match(jnp.asarray(cost), method)
  expected = [optimize.linear_sum_assignment(c) for c in cost]
  np.testing.assert_array_equal(np.stack([rows, columns], 1), expected)


@pytest.mark.parametrize("method", METHODS)
def test_large_and_negative_costs(method):
  cost = 1e4 * (_costs("random", (8, 6, 6)) - 0.5)
  pairs = matching.match(jnp.asarray(cost), method)
  np.testing.assert_allclose(
    _cost_of(cost, *pairs), _least_cost(cost), rtol=1e-6
  )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(3, 5, 5), (3, 5, 8), (3, 8, 5)])
def test_not_finite_gives_the_identity_and_spares_the_others(
  method, value, shape
):
  cost = _costs("random", shape)
  expected = matching.match(jnp.asarray(cost), method)
  cost[1, 2, 3] = value
  found = matching.match(cost, method)
  for indices, clean in zip(found, expected, strict=True):
    np.testing.assert_array_equal(indices[1], np.arange(5))
    np.testing.assert_array_equal(indices[::2], clean[::2])


@pytest.mark.parametrize("method", METHODS)
def test_gradient_stops_at_the_cost(method):
  def loss(cost):
    rows, columns = matching.match(cost, method)
    matched = jnp.take_along_axis(
      jnp.take_along_axis(cost, rows[:, :, None], 1), columns[:, :, None], 2
    )
    return matched.sum()

  cost = _costs("random", (2, 3, 3))
  gradient = jax.jit(jax.grad(loss))(cost)
  rows, columns = matching.match(jnp.asarray(cost), method)
  expected = np.zeros(cost.shape)
  for image in range(2):
    expected[image, rows[image], columns[image]] = 1
  np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("method", METHODS)
def test_under_vmap(method):
  cost = _costs("random", (12, 5, 6))
  stacked = jax.vmap(lambda c: jnp.stack(matching.match(c, method)))(
    cost.reshape(3, 4, 5, 6)
  )
  np.testing.assert_array_equal(
    np.moveaxis(stacked, 1, 0).reshape(2, 12, 5),
    matching.match(jnp.asarray(cost), method),
  )


def test_unknown_method_says_which_there_are():
  with pytest.raises(ValueError, match=r"'greedy' is unknown; use one of \["):
    matching.match(jnp.zeros((1, 2, 2)), "greedy")


def test_cost_of_one_image_is_refused():
  with pytest.raises(ValueError, match=r"shape \(2, 3\); pass \[batch"):
    matching.match(jnp.zeros((2, 3)))


def _mesh(names=("data",), shape=(4,)):
  return jax.make_mesh(
    shape, names, axis_types=(jax.sharding.AxisType.Auto,) * len(names)
  )


def _compile_on_four_devices(method, cost):
  sharding = jax.NamedSharding(_mesh(), jax.P("data"))
  function = jax.jit(
    lambda cost: matching.match(cost, method),
    in_shardings=sharding,
    out_shardings=sharding,
  )
  return function.lower(cost).compile()


@pytest.mark.parametrize("method", METHODS)
def test_on_a_mesh_each_device_matches_its_own_images(method):
  cost = _costs("random", (32, 10, 10))
  expected = matching.match(jnp.asarray(cost), "optax")
  with jax.set_mesh(_mesh()):
    compiled = _compile_on_four_devices(method, cost)
    sharded = jax.device_put(cost, jax.NamedSharding(_mesh(), jax.P("data")))
    found = compiled(sharded)
  text = compiled.as_text()
  assert "f32[8,10,10]" in text
  for collected in ("all-gather", "maximal", "f32[32,10,10]"):
    assert collected not in text
  for indices, reference in zip(found, expected, strict=True):
    assert indices.sharding.spec == jax.P("data")
    np.testing.assert_array_equal(indices, reference)


def test_the_check_for_gathering_can_see_one():
  cost = _costs("random", (32, 10, 10))
  text = _compile_on_four_devices("scipy", cost).as_text()  # no set_mesh
  assert "f32[32,10,10]" in text


@pytest.mark.parametrize(
  ("names", "shape", "batch_size"),
  [(("data",), (4,), 6), (("model",), (4,), 8), (("data", "model"), (2, 2), 8)],
)
def test_scipy_on_other_meshes_and_batches(names, shape, batch_size):
  cost = jnp.asarray(_costs("random", (batch_size, 4, 4)))
  expected = matching.match(cost, "scipy")
  with jax.set_mesh(_mesh(names, shape)):
    found = jax.jit(lambda cost: matching.match(cost, "scipy"))(cost)
    eager = matching.match(cost, "scipy")
  np.testing.assert_array_equal(found, expected)
  np.testing.assert_array_equal(eager, expected)


# 32 images, so that a shard of 8 could be divided by 4 once more.
def test_scipy_inside_a_shard_map_of_the_caller():
  cost = jnp.asarray(_costs("random", (32, 4, 4)))
  with jax.set_mesh(_mesh()):
    function = jax.shard_map(
      lambda cost: jnp.stack(matching.match(cost, "scipy"), 1),
      in_specs=jax.P("data"),
      out_specs=jax.P("data"),
    )
    found = jax.jit(function)(cost)
  np.testing.assert_array_equal(
    found, np.stack(matching.match(cost, "scipy"), 1)
  )
