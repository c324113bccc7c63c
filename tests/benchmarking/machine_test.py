"""Rates of the machine, on four devices and with small arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention import sharding
from slot_attention.benchmarking import machine
from slot_attention.benchmarking import measure


@pytest.fixture
def mesh():
  return sharding.create_mesh()


def test_matrix_rate_is_the_best_size_of_all_devices(mesh, monkeypatch):
  seconds = {8: [4.0, 2.0, 3.0], 16: [4.0, 4.0, 5.0], 32: [99.0] * 3, 64: [1.0]}
  asked = []

  def in_groups(call, *_):
    result = call()
    assert result.dtype == jnp.bfloat16
    assert result.sharding.spec == jax.sharding.PartitionSpec("data")
    assert result.shape[0] == mesh.size * result.shape[1]
    asked.append(result.shape[1])
    return seconds[result.shape[1]]

  monkeypatch.setattr(machine, "MATRIX_SIZES", tuple(seconds))
  monkeypatch.setattr(machine, "_LONG_SECONDS", 50.0)
  monkeypatch.setattr(measure, "in_groups", in_groups)
  assert machine.matrix_rate(mesh, "bfloat16") == {
    "flops_per_second": 4 * 2 * 16**3 / 4.0,
    "size": 16,
    "dtype": "bfloat16",
  }
  assert asked == [8, 16, 32]  # What takes long is the last one.


def test_yardstick_is_the_product_of_the_best_size(mesh, monkeypatch):
  rate = {"flops_per_second": 4e6, "size": 16, "dtype": "float32"}
  monkeypatch.setattr(machine, "matrix_rate", lambda *_: rate)
  yardstick = machine.Yardstick(mesh, "float32")
  assert yardstick.rate == rate
  assert yardstick.flops == 4 * 2 * 16**3
  assert yardstick.multiply().shape == (4 * 16, 16)
  # A product takes 8.192 ms at that rate.
  assert [yardstick.fill(seconds) for seconds in (0, 0.01, 0.04)] == [1, 1, 5]


def test_products_stay_as_large_as_they_are(mesh):
  call = machine._multiplications(mesh, "float32", 64)
  for _ in range(20):
    result = call()
  assert 0.01 < np.std(np.asarray(result)) < 100


def test_copies_are_read_and_written(mesh, monkeypatch):
  monkeypatch.setattr(machine, "COPIED_BYTES", 2**10)
  monkeypatch.setattr(
    measure, "in_groups", lambda call, *_: [call().nbytes, 0.5, 0.1]
  )
  assert machine.copy_rate(mesh) == 4 * 2 * 2**10 / 0.5


def test_memory_of_the_process(mesh):
  before = machine.used_memory(mesh)
  assert before["device_peak"] is None  # CPUs do not count.
  held = np.ones(2**26, np.uint8)
  grown = machine.used_memory(mesh)["process_peak"] - before["process_peak"]
  assert held.nbytes // 2 <= grown or before["process_peak"] > 2 * held.nbytes


def test_description(mesh):
  description = machine.describe(mesh)
  assert description["num_devices"] == 4
  assert description["platform"] == "cpu"
  assert description["jax"] == jax.__version__
  assert description["num_cores"] >= 1
