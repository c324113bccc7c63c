"""Functions of a batch that each device applies to its own rows."""

from collections.abc import Callable

import jax

# Arrays [b, ...] -> arrays whose leading axis belongs to the devices.
BatchFunction = Callable[..., jax.Array]


def on_each(function: BatchFunction, batch_size: int) -> BatchFunction:
  """Keeps a function from gathering a batch that a mesh divides.

  Callbacks, and loops over rows, would collect the whole batch on every device.

  Args:
    function: of arrays [batch_size, ...].
    batch_size: of the arrays, over all devices.

  Returns:
    The function itself, or, where `jax.set_mesh` set a mesh whose axis "data"
    divides the batch, one that applies it to each device's rows and puts the
    results behind each other.
  """
  mesh = jax.sharding.get_abstract_mesh()
  axis_types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
  # Inside a shard_map the axis is Manual and the batch is local already.
  if axis_types.get("data") in (None, jax.sharding.AxisType.Manual):
    return function
  if batch_size % mesh.shape["data"]:
    return function
  spec = jax.P("data")
  # Unchecked, as libraries' loops begin with constants, which are of no device.
  return jax.shard_map(function, in_specs=spec, out_specs=spec, check_vma=False)
