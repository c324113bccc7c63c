"""Makes up records of the Multi-Object Datasets with masks that fit."""

import numpy as np

from slot_attention.data.official import multi_object_specs
from slot_attention.data.records import example_writer


def example(name: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
  """Returns noise, and entities in blocks, some of which are not there."""
  spec = multi_object_specs.SPECS[name]
  arrays = {}
  for feature_name, feature in spec.features.items():
    if feature.dtype == "uint8":
      array = rng.integers(0, 256, feature.shape, np.uint8)
    else:
      array = rng.normal(size=feature.shape).astype(np.float32)
    arrays[feature_name] = array
  height, width, _ = spec.features["image"].shape
  visible = np.zeros(spec.num_entities, bool)
  visible[: 1 + rng.integers(1, spec.num_entities)] = True
  blocks = rng.choice(np.flatnonzero(visible), (height // 4, width // 4))
  blocks.flat[: visible.sum()] = np.flatnonzero(visible)
  labels = np.zeros((height, width), int)
  # [rows, columns] -> [4 * rows, 4 * columns]
  enlarged = np.kron(blocks, np.ones((4, 4), int))
  labels[: enlarged.shape[0], : enlarged.shape[1]] = enlarged
  axis = 2 if spec.entities_last else 0
  ids = np.arange(spec.num_entities).reshape(
    [-1 if i == axis else 1 for i in range(3)]
  )
  mask = np.expand_dims(labels, axis) == ids
  arrays["mask"] = np.where(mask, 255, 0).astype(np.uint8)[..., None]
  if "visibility" in arrays:
    arrays["visibility"] = visible.astype(np.float32)
  return arrays


def examples(name: str, count: int, seed: int = 0):
  """Yields made-up records."""
  rng = np.random.default_rng(seed)
  for _ in range(count):
    yield example(name, rng)


def write(path, name: str, count: int, seed: int = 0):
  """Writes a file of made-up records and returns its path."""
  spec = multi_object_specs.SPECS[name]
  example_writer.write_examples(path, spec, examples(name, count, seed))
  return path
