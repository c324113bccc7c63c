"""Small data sets, written once for all tests of the readers."""

from collections.abc import Callable
import dataclasses
import pathlib
import shutil

import multi_object_files
import numpy as np
import pytest

from slot_attention.data import preprocess
from slot_attention.data import tfds_writer

HEIGHT, WIDTH = 24, 36
NUM_TRAIN, NUM_VALIDATION = 40, 11


@dataclasses.dataclass(frozen=True)
class ClevrDirectory:
  data_dir: str
  path: pathlib.Path
  examples: dict[str, list[dict]]


def clevr_features():
  preprocess.import_tensorflow()
  import tensorflow_datasets as tfds

  builder = tfds.builder("clevr:3.1.0", data_dir="/nonexistent")
  return builder.info.features


def random_example(rng: np.random.Generator, number: int) -> dict:
  """Noise whose first pixel says which example it is, and random objects."""
  image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
  image[0, 0] = number
  objects = [
    {
      "color": int(rng.integers(8)),
      "material": int(rng.integers(2)),
      "shape": int(rng.integers(3)),
      "size": int(rng.integers(2)),
      "rotation": np.float32(rng.uniform(0, 360)),
      "3d_coords": rng.uniform(-3.1, 3.1, 3).astype(np.float32),
      "pixel_coords": rng.uniform(0, 100, 3).astype(np.float32),
    }
    for _ in range(3 + number % 8)
  ]
  return {
    "image": image,
    "file_name": f"CLEVR_train_{number:06d}.png",
    "objects": objects,
    "question_answer": [],
  }


@pytest.fixture(scope="session")
def clevr_directory(tmp_path_factory: pytest.TempPathFactory) -> ClevrDirectory:
  data_dir = tmp_path_factory.mktemp("tfds")
  rng = np.random.default_rng(0)
  examples = {
    "train": [random_example(rng, i) for i in range(NUM_TRAIN)],
    "validation": [random_example(rng, 100 + i) for i in range(NUM_VALIDATION)],
  }
  path = tfds_writer.write_tfds_directory(
    data_dir,
    "clevr/3.1.0",
    clevr_features(),
    {k: tfds_writer.Split(len(v), iter(v)) for k, v in examples.items()},
    examples_per_shard=15,
  )
  return ClevrDirectory(str(data_dir), path, examples)


@pytest.fixture(scope="session")
def multi_object_directory(
  tmp_path_factory: pytest.TempPathFactory,
) -> multi_object_files.Directories:
  root = tmp_path_factory.mktemp("multi_object_datasets")
  return multi_object_files.Directories(root)


@pytest.fixture
def copied(
  multi_object_directory: multi_object_files.Directories,
  tmp_path: pathlib.Path,
) -> Callable[..., pathlib.Path]:
  """Copies a directory, which a test may then change."""

  def copy(*args, **kwargs) -> pathlib.Path:
    target = tmp_path / "copy"
    shutil.copytree(
      multi_object_directory(*args, **kwargs),
      target,
      ignore=shutil.ignore_patterns("*.index.npz"),
    )
    return target

  return copy
