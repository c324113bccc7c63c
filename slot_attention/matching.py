"""Minimum-cost bipartite matching of predictions to targets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import optimize

from slot_attention.modules import shards


# Compiled even when called eagerly: on a mesh, JAX cannot slice the result of
# a callback that is not part of a larger program.
@functools.partial(jax.jit, static_argnames="method")
def match(
  cost: jax.Array, method: str = "optax"
) -> tuple[jax.Array, jax.Array]:
  """Finds a minimum-cost matching for every image of a batch.

  No gradient flows into `cost`: the matching is piecewise constant. Among
  matchings of equal cost the methods may choose differently. An image with a
  NaN or an infinity in its cost is matched as if all its costs were zero, which
  gives the identity; `losses.set_loss` makes its loss NaN.

  Args:
    cost: [b, n, m] float, cost of pairing target n with prediction m.
    method: A key of `METHODS`. "optax" solves on the accelerator; "scipy"
      solves on the host, each device's shard in a callback of its own.

  Returns:
    Rows and columns, both [b, min(n, m)] int32; rows ascend.

  Raises:
    ValueError: If the method is unknown or the cost is not [b, n, m].
  """
  if method not in METHODS:
    raise ValueError(
      f"Matching method {method!r} is unknown; use one of {sorted(METHODS)}."
    )
  if cost.ndim != 3:
    raise ValueError(
      f"The matching cost has shape {cost.shape}; pass [batch, num_targets, "
      "num_predictions]."
    )
  cost = jax.lax.stop_gradient(cost).astype(jnp.float32)
  # SciPy raises at NaN, which inside a callback would end the whole program.
  finite = jnp.isfinite(cost).all(axis=(1, 2), keepdims=True)  # [b, 1, 1]
  # Devices that solved their images together would wait for each other at every
  # turn of the algorithm's loops, or gather the batch for a callback.
  solve = shards.on_each(METHODS[method], len(cost))
  pairs = solve(jnp.where(finite, cost, jnp.zeros_like(cost)))
  return pairs[:, 0], pairs[:, 1]


def _match_optax(cost: jax.Array) -> jax.Array:
  """Matches with optax's Hungarian algorithm, inside the compiled program."""
  rows, columns = jax.vmap(optax.assignment.hungarian_algorithm)(cost)
  # The order of optax's pairs is not documented; sorting settles it.
  order = jnp.argsort(rows, axis=-1)
  rows = jnp.take_along_axis(rows, order, axis=-1)
  columns = jnp.take_along_axis(columns, order, axis=-1)
  return jnp.stack([rows, columns], axis=1).astype(jnp.int32)


def _match_scipy(cost: jax.Array) -> jax.Array:
  """Matches with scipy on the host."""
  batch_size, num_rows, num_columns = cost.shape
  shape = (batch_size, 2, min(num_rows, num_columns))
  return jax.pure_callback(
    _solve_on_host,
    jax.ShapeDtypeStruct(shape, jnp.int32),
    cost,
    vmap_method="broadcast_all",
  )


def _solve_on_host(cost: np.ndarray) -> np.ndarray:
  """Solves [..., n, m] one matrix at a time; returns [..., 2, min(n, m)]."""
  cost = np.asarray(cost)
  leading, matrix = cost.shape[:-2], cost.shape[-2:]
  # [..., n, m] -> [b, n, m]; vmap adds dimensions in front.
  matrices = cost.reshape((int(np.prod(leading)), *matrix))
  pairs = np.empty((len(matrices), 2, min(matrix)), np.int32)
  for index, entries in enumerate(matrices):
    pairs[index] = optimize.linear_sum_assignment(entries)
  return pairs.reshape((*leading, 2, min(matrix)))  # [b, 2, .] -> [..., 2, .]


# [b, n, m] -> [b, 2, min(n, m)] int32.
METHODS = {"optax": _match_optax, "scipy": _match_scipy}
