"""What `killing` and other long tests train on: flags of a run by source."""

from collections.abc import Callable
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "oracles")]

TIMEOUT = 3600  # Seconds; nothing takes so long.
_CLEVR = "configs/clevr_set_prediction.py:smoke"
_TETROMINOES = "configs/tetrominoes_object_discovery.py:smoke"
_MOVI = "configs/movi_c_dinosaur.py:smoke"


def environment(cache: pathlib.Path) -> dict[str, str]:
  """Returns that of a process on one device, whose programs are kept."""
  return {
    "JAX_COMPILATION_CACHE_DIR": str(cache / "cache"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
  }


def _prepare(root: pathlib.Path, *arguments: str) -> None:
  subprocess.run(
    [sys.executable, "-m", "slot_attention.data.prepare", *arguments],
    cwd=ROOT,
    env=environment(root.parent),
    check=True,
    timeout=TIMEOUT,
  )


def _procedural(root: pathlib.Path) -> list[str]:
  del root
  return [
    f"--config={_TETROMINOES}",
    "--config.data.procedural.num_train=0",
    "--config.normalization=batch_norm",  # Has running averages to keep.
  ]


def _cached(root: pathlib.Path) -> list[str]:
  del root
  return [f"--config={_TETROMINOES}", "--config.data.procedural.num_train=40"]


def _tfds(root: pathlib.Path) -> list[str]:
  import clevr_files

  if not root.exists():
    clevr_files.write(root)
  return [
    f"--config={_CLEVR}",
    "--config.data.source=clevr",
    f"--config.data.data_dir={root}",
    "--config.data.max_num_objects=10",
    "--config.data.num_targets=10",
    "--config.model.num_slots=10",
    "--config.eval.num_examples=0",
  ]


def _official(root: pathlib.Path) -> list[str]:
  if not root.exists():
    _prepare(
      root,
      "generate",
      "--dataset=tetrominoes",
      f"--output={root}",
      "--num_train=60",
    )
  return [
    f"--config={_TETROMINOES}",
    "--config.data.source=multi_object_datasets",
    f"--config.data.data_dir={root}",
    "--config.data.split_sizes=(40,0,20)",
  ]


def _converted(root: pathlib.Path) -> list[str]:
  published = root.with_name("official")
  command = _official(published)
  if not root.exists():
    _prepare(
      root,
      "convert",
      "--dataset=tetrominoes",
      f"--input={published}/tetrominoes/tetrominoes_train.tfrecords",
      f"--output={root}",
      "--records_per_shard=25",
    )
  return [*command, f"--config.data.data_dir={root}"]


def _folder(root: pathlib.Path) -> list[str]:
  """Images in ClevrTex' layout, with masks; object discovery."""
  import image_trees

  if not root.exists():
    image_trees.clevrtex(root, count=60)
  return [
    f"--config={_TETROMINOES}",
    "--config.data.source=image_folder",
    "--config.data.dataset=clevrtex",
    f"--config.data.data_dir={root}",
    "--config.data.center_crop=0.8",
    "--config.data.max_num_objects=4",  # Of 3 to 5.
    "--config.eval.num_examples=0",
  ]


def _movi(root: pathlib.Path) -> list[str]:
  """Frames of videos, and a tiny random transformer; DINOSAUR."""
  import movi_files

  if not root.exists():
    movi_files.write(root)
  height, width = movi_files.SIZE
  return [
    f"--config={_MOVI}",
    "--config.data.source=movi",
    "--config.data.dataset=movi_c",
    f"--config.data.data_dir={root}",
    f"--config.data.tfds_config={movi_files.CONFIG}",
    f"--config.data.resolution=({height},{width})",
    f"--config.model.vit.image_size={height}",
    "--config.data.max_num_objects=10",
    "--config.data.num_targets=10",
    "--config.eval.num_examples=0",
  ]


def _features(root: pathlib.Path) -> list[str]:
  """What the transformer makes of these frames, computed beforehand."""
  command = _movi(root.with_name("movi"))
  if not root.exists():
    _prepare(
      root,
      "features",
      *command,
      f"--output={root}",
      "--splits=train,test",
      "--batch_size=8",
    )
  return [
    *command,
    "--config.data.features=precomputed",
    f"--config.data.features_dir={root}",
  ]


# Flags of a run by source; files are made in the directory when needed.
SOURCES: dict[str, Callable[[pathlib.Path], list[str]]] = {
  "procedural": _procedural,
  "cached": _cached,
  "tfds": _tfds,
  "official": _official,
  "converted": _converted,
  "folder": _folder,
  "movi": _movi,
  "features": _features,
}
