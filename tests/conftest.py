"""Every test sees four CPU devices and no silent rank promotion."""

import atexit
from collections.abc import Iterator
import dataclasses
import fcntl
import gc
import json
import os
import pathlib
import shutil
import tempfile
from types import ModuleType

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most programs run once or a few times, so that optimizing them takes longer
# than it saves, and XLA's older code generator is done in half the time. Flags
# that are set outside win.
os.environ["XLA_FLAGS"] = (
  "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
  + os.environ.get("XLA_FLAGS", "")
  + " --xla_force_host_platform_device_count=4"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Tests and the processes they start compile the same programs again and again.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  _CACHE = tempfile.mkdtemp(prefix="slot_attention_test_")
  atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import pytest

from configs import clevr_object_discovery
from configs import clevr_set_prediction
from slot_attention import train

jax.config.update("jax_numpy_rank_promotion", "raise")
# What is imported stays: collecting garbage need not look at it every time.
gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _forget_programs() -> Iterator[None]:
  """Frees what a module compiled, which no other needs."""
  yield
  jax.clear_caches()
  gc.collect()


@dataclasses.dataclass(frozen=True)
class FinishedRun:
  """A run that tests read and must not change.

  Attributes:
    workdir: its directory.
    scalars: what `train.train_and_evaluate` returned.
  """

  workdir: pathlib.Path
  scalars: dict[str, float]


def _run_once(
  factory: pytest.TempPathFactory, worker_id: str, module: ModuleType
) -> FinishedRun:
  """Trains a config's smoke variant, once for the workers of pytest-xdist."""
  root = factory.getbasetemp()
  if worker_id != "master":
    root = root.parent  # All workers have this one.
  path = root / f"finished_{module.__name__}"
  scalars = path / "scalars.json"
  path.mkdir(exist_ok=True)
  with open(path / "lock", "w", encoding="utf-8") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not scalars.exists():
      result = train.train_and_evaluate(
        module.get_config("smoke"), str(path / "run")
      )
      scalars.write_text(json.dumps(result), encoding="utf-8")
  return FinishedRun(
    path / "run", json.loads(scalars.read_text(encoding="utf-8"))
  )


@pytest.fixture(scope="session")
def object_discovery_run(
  tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> FinishedRun:
  return _run_once(tmp_path_factory, worker_id, clevr_object_discovery)


@pytest.fixture(scope="session")
def set_prediction_run(
  tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> FinishedRun:
  return _run_once(tmp_path_factory, worker_id, clevr_set_prediction)
