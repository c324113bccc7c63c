"""What makes runs on CPUs fast: a device for each core, and memory kept.

On CPUs XLA runs many operations on one core, such as convolutions of images
narrower than 128 pixels; with a device for each core all of them work, each on
images of its own. And glibc returns every large array to the system, from which
fresh pages take longer than what is computed in them.
"""

from collections.abc import Sequence
import ctypes
import importlib.metadata
import importlib.util
import math
import os
import platform

from absl import logging
import jax
import ml_collections

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
_TOP_PAD = 2**26
# With fewer for each device, cores lose more by waiting for each other than XLA
# does by itself (Tetrominoes demo, 8 images of 35x35: 37 ms on one, 55 on two;
# object discovery with 4 images of 128x128: 2.3 s on one, 1.4 on two).
_DEVICE_PIXELS = 2**15
# More were not tried; XLA's own threads take what cores are left.
_MAX_DEVICES = 16


def prepare(*configs: ml_collections.ConfigDict) -> None:
  """Prepares a process that will compute on CPUs; does nothing to others.

  To be called before jax looks for its devices. A number of CPU devices that is
  set, by JAX_NUM_CPU_DEVICES or XLA_FLAGS, is left as it is.

  Args:
    configs: what will run; devices divide its batches.
  """
  if _may_find_accelerators():
    return
  _keep_memory()
  if (
    jax.config.jax_num_cpu_devices > 0
    or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
  ):
    return
  cores = num_cores()
  devices = _num_devices(configs, cores)
  if devices < cores:
    logging.info(
      "%d of %d cores are devices: as many as divide the batches, with work "
      "enough for each.",
      devices,
      cores,
    )
  jax.config.update("jax_num_cpu_devices", devices)


def _num_devices(
  configs: Sequence[ml_collections.ConfigDict], cores: int
) -> int:
  """Returns how many cores get images of their own."""
  most, sizes = min(cores, _MAX_DEVICES), []
  for config in configs:
    # Images of one execution in training and in evaluation.
    parts = max(1, config.train.accumulation_steps)
    own = [config.train.batch_size // parts, config.eval.batch_size]
    sizes += own
    pixels = min(own) * math.prod(config.data.resolution)
    if config.data.source == "features":
      pixels = 0  # None is looked at.
    most = min(most, pixels // _DEVICE_PIXELS)
  return max(
    n for n in range(1, max(1, most) + 1) if not any(size % n for size in sizes)
  )


def num_cores() -> int:
  """Returns how many cores this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _may_find_accelerators() -> bool:
  """Returns whether jax could choose another platform, without asking it."""
  platforms = jax.config.jax_platforms
  if platforms:
    return platforms != "cpu"
  plugins = importlib.metadata.entry_points(group="jax_plugins")
  return bool(plugins) or importlib.util.find_spec("libtpu") is not None


def _keep_memory() -> None:
  """Lets malloc take large arrays from what was freed before."""
  if platform.libc_ver()[0] != "glibc":
    return
  libc = ctypes.CDLL(None)
  for parameter, value in (
    (_M_MMAP_MAX, 0),  # Mapped memory is returned at once.
    (_M_TRIM_THRESHOLD, -1),  # Never.
    (_M_TOP_PAD, _TOP_PAD),
    (_M_ARENA_MAX, 1),  # Others than the main one map what is large.
  ):
    if not libc.mallopt(parameter, value):
      logging.warning("mallopt(%d, %d) failed.", parameter, value)
