"""The device mesh, and how batches and states lie on it."""

from collections.abc import Mapping
import itertools
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

P = jax.sharding.PartitionSpec


def create_mesh(num_devices: int | None = None) -> jax.sharding.Mesh:
  """Returns a mesh of all devices of all hosts with the one axis "data".

  `jax.make_mesh` would default to Explicit axes, under which folding slots into
  the batch does not trace, and may interleave the hosts' devices.

  Args:
    num_devices: so many of them only, the first ones.

  Returns:
    The mesh.

  Raises:
    ValueError: there are not so many.
  """
  devices = jax.devices()
  if num_devices is not None and not 1 <= num_devices <= len(devices):
    raise ValueError(
      f"{num_devices} devices are asked for, but this run sees "
      f"{len(devices)}; use from 1 to {len(devices)}."
    )
  return jax.sharding.Mesh(
    np.asarray(devices[:num_devices]),
    ("data",),
    axis_types=(jax.sharding.AxisType.Auto,),
  )


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """Every device holds the whole array."""
  return jax.sharding.NamedSharding(mesh, P())


def batched(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """The leading axis is divided over the devices."""
  return jax.sharding.NamedSharding(mesh, P("data"))


def local_rows(mesh: jax.sharding.Mesh, batch_size: int) -> slice:
  """Returns which rows of a global batch this host must provide.

  Args:
    mesh: all devices.
    batch_size: rows of the global batch, a multiple of the number of devices.

  Returns:
    One contiguous slice of range(batch_size).

  Raises:
    ValueError: this host's devices are not neighbours in the mesh.
  """
  indices = batched(mesh).addressable_devices_indices_map((batch_size,))
  slices = sorted(
    index[0].indices(batch_size)[:2] for index in indices.values()
  )
  for (_, stop), (start, _) in itertools.pairwise(slices):
    if stop != start:
      raise ValueError(
        f"Process {jax.process_index()} holds rows {slices} of a batch of "
        f"{batch_size}, which are not contiguous; order the mesh by process."
      )
  return slice(slices[0][0], slices[-1][1])


def shard_batch(
  batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh
) -> dict[str, jax.Array]:
  """Turns this host's rows into global arrays.

  Args:
    batch: arrays [local rows, ...] in the order of `local_rows`.
    mesh: all devices.

  Returns:
    Arrays [global rows, ...] divided over the mesh's "data" axis.
  """
  place = batched(mesh)
  return {
    name: jax.make_array_from_process_local_data(place, np.asarray(rows))
    for name, rows in batch.items()
  }


def to_host(tree: Any) -> Any:
  """Fetches replicated arrays as numpy arrays (no communication)."""
  return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


def all_agree(value: bool) -> bool:
  """Returns whether a statement holds on every process."""
  if jax.process_count() == 1:
    return value
  return bool(multihost_utils.process_allgather(np.array(value)).all())
