"""Devices and memory of runs on CPUs, in processes of their own."""

import json
import os
import subprocess
import sys

import pytest

from configs import clevr_object_discovery
from slot_attention import cpu

_REPORT = """
import json, os, sys
import jax, jax.numpy as jnp
from configs import clevr_set_prediction
from slot_attention import cpu

def resident():
  with open("/proc/self/statm") as file:
    return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

config = clevr_set_prediction.get_config()
config.train.batch_size, config.eval.batch_size = 12, 24
cpu.num_cores = lambda: 8
if "prepare" in sys.argv:
  cpu.prepare(config)
num_devices = jax.device_count()
ones = jax.jit(lambda: jnp.ones((2**26,), jnp.float32)).lower().compile()
before = resident()
x = jax.block_until_ready(ones())  # 256 MiB
x.delete()
print(json.dumps([num_devices, (resident() - before) / 2**20]))
"""


def _report(*arguments, **environment):
  kept = {
    name: value
    for name, value in os.environ.items()
    if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "JAX_PLATFORMS")
  }
  process = subprocess.run(
    [sys.executable, "-c", _REPORT, *arguments],
    env={**kept, "JAX_PLATFORMS": "cpu", **environment},
    capture_output=True,
    text=True,
  )
  assert not process.returncode, process.stderr
  return json.loads(process.stdout.splitlines()[-1])


def test_cores_become_devices_and_memory_is_kept():
  num_devices, kept_mebibytes = _report("prepare")
  assert num_devices == 6  # Of eight: the largest divisor of 12 and 24.
  assert kept_mebibytes > 200
  num_devices, kept_mebibytes = _report()
  assert num_devices == 1
  assert kept_mebibytes < 100


@pytest.mark.parametrize(
  "environment",
  [
    {"JAX_NUM_CPU_DEVICES": "2"},
    {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
  ],
)
def test_a_number_that_is_set_stays(environment):
  assert _report("prepare", **environment)[0] == 2


@pytest.mark.parametrize(
  ("cores", "train", "evaluation", "accumulation", "resolution", "expected"),
  [
    (2, 64, 64, 1, (128, 128), 2),
    (8, 4, 8, 1, (128, 128), 2),  # Two images are work enough for a device.
    (8, 64, 64, 4, (128, 128), 8),
    (6, 64, 64, 1, (128, 128), 4),
    (8, 8, 512, 1, (35, 35), 1),
    (8, 15, 64, 1, (128, 128), 1),
    (64, 64, 64, 1, (128, 128), 16),
    (8, 0, 0, 0, (128, 128), 1),  # What validation will refuse.
  ],
)
def test_devices_divide_batches_and_have_work(
  cores, train, evaluation, accumulation, resolution, expected
):
  config = clevr_object_discovery.get_config()
  config.train.batch_size, config.eval.batch_size = train, evaluation
  config.train.accumulation_steps = accumulation
  config.data.resolution = resolution
  assert cpu._num_devices([config], cores) == expected


def test_devices_divide_the_batches_of_all_configs():
  configs = [clevr_object_discovery.get_config() for _ in range(2)]
  for config, size in zip(configs, (8, 12), strict=True):
    config.train.batch_size = config.eval.batch_size = size
  assert cpu._num_devices(configs, 8) == 4
  configs[1].data.source = "features"
  assert cpu._num_devices(configs, 8) == 1


def test_accelerators_are_left_alone(monkeypatch):
  def fail(*_):
    raise AssertionError

  monkeypatch.setattr(cpu, "_keep_memory", fail)
  monkeypatch.setattr(cpu.jax.config, "update", fail)
  monkeypatch.setattr(cpu, "_may_find_accelerators", lambda: True)
  cpu.prepare(clevr_object_discovery.get_config())
