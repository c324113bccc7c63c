"""What a benchmark runs on: its name, and what it can do at best."""

from collections.abc import Callable
import importlib.metadata
import os
import platform
import resource
import sys
from typing import Any

from absl import logging
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention import cpu
from slot_attention import sharding
from slot_attention.benchmarking import measure

# Sides of the matrices; larger ones are left out where one takes long already.
MATRIX_SIZES = (1024, 2048, 4096, 8192)
COPIED_BYTES = 2**28  # Per device, far more than caches hold.
_LONG_SECONDS = 0.1
_GROUPS, _GROUP_SIZE = 5, 4


def describe(mesh: jax.sharding.Mesh) -> dict[str, Any]:
  """Names devices, processor and versions; load is the last minute's."""
  device = mesh.devices.flat[0]
  return {
    "platform": device.platform,
    "device_kind": device.device_kind,
    "num_devices": mesh.size,
    "processor": _processor(),
    "num_cores": cpu.num_cores(),
    "load": os.getloadavg()[0],
    "python": platform.python_version(),
  } | {
    name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax")
  }


class Yardstick:
  """A product of matrices of the size that the machine is best at.

  Attributes:
    rate: `matrix_rate`, by which the size was chosen.
    flops: of one product, over all devices.
    multiply: dispatches one.
  """

  def __init__(self, mesh: jax.sharding.Mesh, dtype: str):
    """Measures `matrix_rate` on the devices of the mesh."""
    self.rate = matrix_rate(mesh, dtype)
    self.flops = _product_flops(mesh, self.rate["size"])
    self.multiply = _multiplications(mesh, dtype, self.rate["size"])

  def fill(self, seconds: float) -> int:
    """Returns how many products take about so long, at least one."""
    return max(1, round(seconds * self.rate["flops_per_second"] / self.flops))


def matrix_rate(mesh: jax.sharding.Mesh, dtype: str) -> dict[str, Any]:
  """Multiplies square matrices on every device.

  Args:
    mesh: the devices.
    dtype: of the matrices.

  Returns:
    `flops_per_second` of all devices, the best of the sizes' medians, `size`,
    the side of the matrices it was found with, and `dtype`.
  """
  best = {"flops_per_second": 0.0}
  for size in MATRIX_SIZES:
    logging.info("Multiplying %s matrices of side %d.", dtype, size)
    call = _multiplications(mesh, dtype, size)
    seconds = measure.in_groups(call, _GROUPS, _GROUP_SIZE)
    median = float(np.median(seconds))
    rate = _product_flops(mesh, size) / median
    if rate > best["flops_per_second"]:
      best = {"flops_per_second": rate, "size": size, "dtype": dtype}
    if median > _LONG_SECONDS:
      break
  return best


def copy_rate(mesh: jax.sharding.Mesh) -> float:
  """Adds one to a large array in place, on every device.

  Args:
    mesh: the devices.

  Returns:
    Bytes read and written per second, of all devices: the median.
  """
  logging.info("Copying %d MiB per device.", COPIED_BYTES // 2**20)
  place = sharding.batched(mesh)
  zeros = jax.jit(
    lambda: jnp.zeros((mesh.size * COPIED_BYTES // 4,), jnp.float32),
    out_shardings=place,
  )
  add = jax.jit(lambda x: x + 1, donate_argnums=0, out_shardings=place)
  seconds = measure.in_groups(_repeat(add, zeros()), _GROUPS, _GROUP_SIZE)
  return 2.0 * COPIED_BYTES * mesh.size / float(np.median(seconds))


def used_memory(mesh: jax.sharding.Mesh) -> dict[str, int | None]:
  """Returns the most bytes in use so far in this process.

  Args:
    mesh: the devices.

  Returns:
    `device_peak`, of the device that had most; None where the backend does not
    count, as on CPUs; `process_peak`, the resident memory of the process, in
    which compilation, data and, on CPUs, the arrays lie.
  """
  statistics = [d.memory_stats() or {} for d in mesh.local_devices]
  peaks = [s["peak_bytes_in_use"] for s in statistics if s]
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  unit = 1 if sys.platform == "darwin" else 1024
  return {"device_peak": max(peaks, default=None), "process_peak": peak * unit}


def _product_flops(mesh: jax.sharding.Mesh, size: int) -> float:
  return 2.0 * size**3 * mesh.size


def _multiplications(
  mesh: jax.sharding.Mesh, dtype: str, size: int
) -> measure.Call:
  """Every call multiplies the last result by the same matrix."""
  rows, whole = sharding.batched(mesh), sharding.replicated(mesh)

  def draw() -> tuple[jax.Array, jax.Array]:
    keys = jax.random.split(jax.random.key(0))
    left = jax.random.normal(keys[0], (mesh.size * size, size), dtype)
    # So that products stay as large as they are.
    right = jax.random.normal(keys[1], (size, size), dtype) / size**0.5
    return left, right.astype(dtype)

  left, right = jax.jit(draw, out_shardings=(rows, whole))()
  multiply = jax.jit(jnp.matmul, out_shardings=rows)
  return _repeat(lambda x: multiply(x, right), left)


def _repeat(
  function: Callable[[jax.Array], jax.Array], value: jax.Array
) -> measure.Call:
  """Returns a call that applies the function to its own last result."""

  def call() -> jax.Array:
    nonlocal value
    value = function(value)
    return value

  return call


def _processor() -> str:
  """Returns the processor's name, where the system tells it."""
  try:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
      names = [line for line in file if line.startswith("model name")]
  except OSError:
    names = []
  return names[0].split(":")[1].strip() if names else platform.processor()
