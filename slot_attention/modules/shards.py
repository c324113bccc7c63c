"""Functions of a batch that each device applies to its own rows."""

from collections.abc import Callable
from typing import Any

import jax

# Arrays [b, ...] -> arrays whose leading axis belongs to the devices.
BatchFunction = Callable[..., Any]


def on_each(
  function: BatchFunction, batch_size: int, num_whole: int = 0
) -> BatchFunction:
  """Keeps a function from gathering a batch that a mesh divides.

  Callbacks, and loops over rows, would collect the whole batch on every device;
  loops that sum over the batch would do so at every turn.

  Args:
    function: of arrays [batch_size, ...], or trees of them.
    batch_size: of the arrays, over all devices.
    num_whole: so many first arguments are whole on every device instead.

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
  rows = jax.P("data")

  def divided(*args: Any) -> Any:
    specs = (jax.P(),) * num_whole + (rows,) * (len(args) - num_whole)
    # Unchecked, as libraries' loops begin with constants, which are of no
    # device.
    return jax.shard_map(
      function, in_specs=specs, out_specs=rows, check_vma=False
    )(*args)

  return divided
