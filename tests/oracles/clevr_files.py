"""A small prepared CLEVR directory whose pictures are noise."""

import pathlib

import numpy as np

from slot_attention.data import preprocess
from slot_attention.data.tfds import tfds_writer

HEIGHT, WIDTH = 24, 36
NUM_TRAIN, NUM_VALIDATION = 40, 11


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


def write(data_dir: pathlib.Path) -> tuple[pathlib.Path, dict[str, list[dict]]]:
  """Writes clevr/3.1.0 and returns its path, and the examples by split."""
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
  return path, examples
