"""Writes procedural scenes as the files of the Multi-Object Datasets."""

from collections.abc import Callable, Hashable, Iterator
import dataclasses
import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.official import multi_object_specs
from slot_attention.data.procedural import multi_dsprites
from slot_attention.data.procedural import scenes
from slot_attention.data.procedural import tetrominoes
from slot_attention.data.records import example_writer

Example = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Generator:
  """Scenes of one data set.

  Attributes:
    spec: of its files, a key of multi_object_specs.SPECS.
    generate: draws one scene from a key and what `configure` returns.
    configure: takes the least and the largest number of objects.
    num_objects: these numbers in the published files.
    chunk: scenes drawn at a time.
  """

  spec: str
  generate: Callable[[jax.Array, Hashable], dict[str, jax.Array]]
  configure: Callable[[int, int], Hashable]
  num_objects: tuple[int, int]
  chunk: int


def generate(
  dataset: str,
  output: str | os.PathLike,
  num_examples: int,
  seed: int = 0,
  min_num_objects: int | None = None,
  max_num_objects: int | None = None,
) -> pathlib.Path:
  """Writes procedural scenes as one file of the Multi-Object Datasets.

  Scene i is a function of (seed, i), so a larger file begins with the scenes of
  a smaller one. It is the same scene on other machines, up to rounding in the
  images of CLEVR.

  Args:
    dataset: a key of DATASETS.
    output: the directory below which the file gets its published path.
    num_examples: number of scenes.
    seed: which scenes.
    min_num_objects: least number of objects in a scene, without the background;
      None for that of the published scenes.
    max_num_objects: largest number, likewise.

  Returns:
    The path of the file.

  Raises:
    FileExistsError: the file is there already.
    ValueError: there is no such data set, there cannot be so many objects, or
      no scene was asked for.
  """
  if dataset not in DATASETS:
    raise ValueError(
      f"There are no procedural scenes of {dataset!r}; choose one of "
      f"{', '.join(DATASETS)}."
    )
  generator = DATASETS[dataset]
  spec = multi_object_specs.SPECS[generator.spec]
  least, most = generator.num_objects
  config = generator.configure(
    least if min_num_objects is None else min_num_objects,
    most if max_num_objects is None else max_num_objects,
  )
  path = pathlib.Path(output) / spec.file
  examples = _examples(generator, config, spec, num_examples, seed)
  example_writer.write_examples(path, spec, examples, num_examples)
  return path


def _examples(
  generator: _Generator,
  config: Hashable,
  spec: multi_object_specs.Spec,
  num_examples: int,
  seed: int,
) -> Iterator[Example]:
  """Yields the examples; the next chunk is drawn meanwhile."""

  def make(start: int) -> dict[str, jax.Array]:
    return _make_records(np.uint32(seed), np.uint32(start), generator, config)

  pending = make(0)
  for start in range(0, num_examples, generator.chunk):
    current = pending
    if start + generator.chunk < num_examples:
      pending = make(start + generator.chunk)
    current = jax.device_get(current)
    for i in range(min(generator.chunk, num_examples - start)):
      yield {name: current[name][i] for name in spec.features}


# Chunks have one size, also the last: what is compiled for another size may
# round otherwise.
@functools.partial(jax.jit, static_argnums=(2, 3))
def _make_records(
  seed: jax.Array, start: jax.Array, generator: _Generator, config: Hashable
) -> dict[str, jax.Array]:
  """Draws scenes start .. start + chunk - 1 as arrays [chunk, ...]."""
  spec = multi_object_specs.SPECS[generator.spec]
  numbers = start + jnp.arange(generator.chunk, dtype=jnp.uint32)

  def make(number: jax.Array) -> dict[str, jax.Array]:
    key = jax.random.fold_in(jax.random.key(seed), number)
    example = generator.generate(key, config)
    ids = jnp.arange(spec.num_entities)
    mask = example["segmentation"][None] == ids[:, None, None]
    mask = jnp.where(mask, np.uint8(255), np.uint8(0))[..., None]
    if spec.entities_last:
      mask = jnp.moveaxis(mask, 0, 2)  # [k, h, w, 1] -> [h, w, k, 1]
    return example | {"mask": mask}

  return jax.vmap(make)(numbers)


def _clevr_config(
  min_num_objects: int, max_num_objects: int
) -> scenes.SceneConfig:
  """Returns scenes as published: the whole picture of CLEVR's generator."""
  return scenes.SceneConfig(
    resolution=(240, 320),
    window=(0, 0, 240, 320),
    min_num_objects=min_num_objects,
    max_num_objects=max_num_objects,
  )


DATASETS = {
  "tetrominoes": _Generator(
    "tetrominoes",
    tetrominoes.generate,
    tetrominoes.TetrominoesConfig,
    (tetrominoes.NUM_PIECES, tetrominoes.NUM_PIECES),
    chunk=512,
  ),
  **{
    f"multi_dsprites_{name}": _Generator(
      f"multi_dsprites_{name}",
      multi_dsprites.generate,
      functools.partial(multi_dsprites.MultiDspritesConfig, name),
      (variant.min_num_objects, variant.num_sprites),
      chunk=256,
    )
    for name, variant in multi_dsprites.VARIANTS.items()
  },
  "clevr_with_masks": _Generator(
    "clevr",
    scenes.generate_with_masks,
    _clevr_config,
    (3, scenes.MAX_OBJECTS_WITH_MASKS),
    chunk=16,
  ),
}
