"""Small data sets, written once for all tests of the readers."""

from collections.abc import Callable
import dataclasses
import pathlib
import shutil

import clevr_files
import movi_files
import multi_object_files
import pytest


@dataclasses.dataclass(frozen=True)
class ClevrDirectory:
  data_dir: str
  path: pathlib.Path
  examples: dict[str, list[dict]]


@pytest.fixture(scope="session")
def clevr_directory(tmp_path_factory: pytest.TempPathFactory) -> ClevrDirectory:
  data_dir = tmp_path_factory.mktemp("tfds")
  path, examples = clevr_files.write(data_dir)
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


@pytest.fixture(scope="session")
def movi_directory(
  tmp_path_factory: pytest.TempPathFactory,
) -> movi_files.Directory:
  return movi_files.write(tmp_path_factory.mktemp("movi"))
