"""Batches on the mesh."""

import jax
import numpy as np

from slot_attention import sharding


def test_batch_is_divided_and_whole():
  mesh = sharding.create_mesh()
  assert mesh.size == 4
  rows = np.arange(8.0).reshape(8, 1)
  batch = sharding.shard_batch({"x": rows}, mesh)
  assert batch["x"].shape == (8, 1)
  assert {s.data.shape for s in batch["x"].addressable_shards} == {(2, 1)}
  np.testing.assert_array_equal(batch["x"], rows)
  assert sharding.local_rows(mesh, 8) == slice(0, 8)


def test_to_host_fetches_replicated_arrays():
  mesh = sharding.create_mesh()
  x = jax.jit(
    lambda: jax.numpy.arange(3), out_shardings=sharding.replicated(mesh)
  )()
  np.testing.assert_array_equal(sharding.to_host({"x": x})["x"], [0, 1, 2])
