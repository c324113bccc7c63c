"""Procedural scenes as a data source: an endless stream, or a stored set."""

from collections.abc import Callable, Hashable, Iterator
import dataclasses
import functools

from absl import logging
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import sharding
from slot_attention.data import preprocess
from slot_attention.data.procedural import mirrors
from slot_attention.data.procedural import multi_dsprites
from slot_attention.data.procedural import scenes
from slot_attention.data.procedural import tetrominoes
from slot_attention.data.procedural import textures

SPLITS = {"train": 0, "train_eval": 1, "validation": 2, "test": 3}
# What batches hold; `target` only where the generator describes objects so.
_BATCH_KEYS = ("image", "segmentation", "target", "num_objects")

Examples = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Generator:
  """Scenes of one data set.

  Attributes:
    generate: draws one example from a key and what `configure` returns; the
      entries of the batch contract are used, images being uint8 [h, w, c] of 3
      channels, or of 1 for 3 equal ones.
    configure: reads the generator's settings from `config.data`.
    chunk: scenes of a stored set that are drawn at a time, over all devices.
  """

  generate: Callable[[jax.Array, Hashable], Examples]
  configure: Callable[[ml_collections.ConfigDict], Hashable]
  chunk: int


class ProceduralSource:
  """Scenes made on the devices that train on them.

  Scene i of a split is a function of (config.procedural.seed, split, i).
  Without `num_train`, each step of the training stream shows new scenes, never
  seen again; with it, the scenes are rendered once, kept on every device as
  uint8, and drawn in a new order each epoch, without the host.

  Attributes:
    num_examples: size of the stored training set, or None.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    split: str,
    mesh: jax.sharding.Mesh,
  ):
    if split not in SPLITS:
      raise ValueError(
        f"Procedural data has no split {split!r}; it has {', '.join(SPLITS)}."
      )
    if config.dataset not in GENERATORS:
      raise ValueError(
        f"config.data.dataset is {config.dataset!r}, which has no procedural "
        f"scenes; choose one of {', '.join(GENERATORS)}."
      )
    self._mesh = mesh
    self._num_targets = config.num_targets
    self._generator = GENERATORS[config.dataset]
    self._scene_config = self._generator.configure(config)
    self._seed = (config.procedural.seed, SPLITS[split])
    self._stored: dict[int, Examples] = {}
    num_train = config.procedural.num_train
    self.num_examples = num_train if split == "train" and num_train else None
    # Compiled once per source. Numbers go in as numpy scalars and keys are made
    # inside, so that every process of a run can pass them.
    batched, whole = sharding.batched(mesh), sharding.replicated(mesh)
    self._stream_step = jax.jit(
      self._stream_batch, static_argnums=(2,), out_shardings=batched
    )
    self._draw = jax.jit(
      self._drawn_batch, static_argnums=(3,), out_shardings=batched
    )
    self._slice = jax.jit(
      self._padded_batch, static_argnums=(2,), out_shardings=batched
    )
    self._order = jax.jit(_two_epochs, static_argnums=(2,), out_shardings=whole)

  def train_batches(
    self, batch_size: int, seed: int, start_step: int
  ) -> Iterator[Examples]:
    """Yields batches without end; see `pipeline.Source`."""
    if self.num_examples is None:
      step = start_step
      while True:
        yield self._stream_step(np.uint32(seed), np.uint32(step), batch_size)
        step += 1
    yield from self._epochs(batch_size, seed, start_step)

  def eval_batches(
    self, batch_size: int, num_examples: int
  ) -> Iterator[Examples]:
    """Yields scenes 0 to num_examples - 1 once; see `pipeline.Source`."""
    examples = self._store(num_examples)
    for start in range(0, num_examples, batch_size):
      yield self._slice(examples, np.int32(start), batch_size)

  def _epochs(
    self, batch_size: int, seed: int, start_step: int
  ) -> Iterator[Examples]:
    """Draws from the stored set; batches may reach into the next epoch."""
    size = self.num_examples
    examples = self._store(size)
    step, current, order = start_step, None, None
    while True:
      epoch, start = divmod(step * batch_size, size)
      if epoch != current:
        current = epoch
        order = self._order(np.uint32(seed), np.uint32(epoch), size)
      yield self._draw(examples, order, np.int32(start), batch_size)
      step += 1

  def _store(self, num_examples: int) -> Examples:
    """Renders scenes 0 to num_examples - 1 once and keeps them."""
    if num_examples in self._stored:
      return self._stored[num_examples]
    logging.info("Drawing %d procedural scenes.", num_examples)
    devices = self._mesh.size
    chunk = -(-self._generator.chunk // devices) * devices
    seeds = np.asarray(self._seed, np.uint32)
    # Waiting for each keeps few renders in flight, whatever the backend.
    chunks = [
      jax.block_until_ready(
        _render(
          seeds,
          np.uint32(start),
          chunk,
          self._generator.generate,
          self._scene_config,
          self._mesh,
        )
      )
      for start in range(0, num_examples, chunk)
    ]
    join = jax.jit(
      lambda chunks: jax.tree.map(
        lambda *x: jnp.concatenate(x)[:num_examples], *chunks
      ),
      out_shardings=sharding.replicated(self._mesh),
    )
    self._stored[num_examples] = join(chunks)
    return self._stored[num_examples]

  def _stream_batch(
    self, seed: jax.Array, step: jax.Array, batch_size: int
  ) -> Examples:
    key = _fold_in(jax.random.key(self._seed[0]), self._seed[1], seed, step)
    numbers = jnp.arange(batch_size, dtype=jnp.uint32)
    return self._finish(
      _generate(
        key, numbers, self._generator.generate, self._scene_config, self._mesh
      )
    )

  def _drawn_batch(
    self,
    examples: Examples,
    order: jax.Array,
    start: jax.Array,
    batch_size: int,
  ) -> Examples:
    rows = jax.lax.dynamic_slice(order, (start,), (batch_size,))
    return self._finish(_take(examples, rows))

  def _padded_batch(
    self, examples: Examples, start: jax.Array, batch_size: int
  ) -> Examples:
    """The last batch repeats the last example where it has no other."""
    size = examples["image"].shape[0]
    rows = start + jnp.arange(batch_size)
    batch = self._finish(_take(examples, jnp.minimum(rows, size - 1)))
    return batch | {"valid": rows < size}

  def _finish(self, examples: Examples) -> Examples:
    """uint8 scenes -> the batch contract."""
    image = preprocess.to_signed(examples["image"])
    batch = examples | {
      "image": jnp.broadcast_to(image, (*image.shape[:3], 3)),
      "segmentation": examples["segmentation"].astype(jnp.int32),
    }
    if "target" in examples:
      missing = self._num_targets - examples["target"].shape[1]
      batch["target"] = jnp.pad(
        examples["target"], ((0, 0), (0, missing), (0, 0))
      )
    return batch


def _fold_in(key: jax.Array, *numbers: int | jax.Array) -> jax.Array:
  for number in numbers:
    key = jax.random.fold_in(key, number)
  return key


def _generate(
  key: jax.Array,
  numbers: jax.Array,
  generate: Callable[[jax.Array, Hashable], Examples],
  config: Hashable,
  mesh: jax.sharding.Mesh,
) -> Examples:
  """Draws the scenes [n] of a key, divided over the devices."""
  keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)
  keys = jax.lax.with_sharding_constraint(keys, sharding.batched(mesh))
  examples = jax.vmap(functools.partial(generate, config=config))(keys)
  examples["segmentation"] = examples["segmentation"].astype(jnp.uint8)
  return {name: examples[name] for name in _BATCH_KEYS if name in examples}


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _render(
  seeds: jax.Array,
  start: jax.Array,
  count: int,
  generate: Callable[[jax.Array, Hashable], Examples],
  config: Hashable,
  mesh: jax.sharding.Mesh,
) -> Examples:
  """Draws scenes start .. start + count - 1 of a split, for every device.

  A function of the module, so that all splits share what was compiled.
  """
  key = _fold_in(jax.random.key(seeds[0]), seeds[1])
  numbers = start + jnp.arange(count, dtype=jnp.uint32)
  return jax.lax.with_sharding_constraint(
    _generate(key, numbers, generate, config, mesh), sharding.replicated(mesh)
  )


def _two_epochs(seed: jax.Array, epoch: jax.Array, size: int) -> jax.Array:
  """Returns [2 * size] int32: the order of an epoch and of the next one."""
  keys = [jax.random.fold_in(jax.random.key(seed), epoch + i) for i in range(2)]
  return jnp.concatenate([jax.random.permutation(key, size) for key in keys])


def _take(examples: Examples, rows: jax.Array) -> Examples:
  return jax.tree.map(lambda x: jnp.take(x, rows, axis=0), examples)


def _clevr_config(config: ml_collections.ConfigDict) -> scenes.SceneConfig:
  procedural = config.procedural
  return scenes.SceneConfig(
    resolution=tuple(config.resolution),
    window=tuple(procedural.window),
    min_num_objects=config.min_num_objects,
    max_num_objects=config.max_num_objects,
    position_range=procedural.position_range,
    min_visible_pixels=procedural.min_visible_pixels,
    antialias=procedural.antialias,
  )


def _tetrominoes_config(
  config: ml_collections.ConfigDict,
) -> tetrominoes.TetrominoesConfig:
  return tetrominoes.TetrominoesConfig(
    config.min_num_objects, config.max_num_objects
  )


def _multi_dsprites(variant: str) -> Generator:
  """Returns the generator of one of the published sets."""

  def configure(
    config: ml_collections.ConfigDict,
  ) -> multi_dsprites.MultiDspritesConfig:
    return multi_dsprites.MultiDspritesConfig(
      variant, config.min_num_objects, config.max_num_objects
    )

  return Generator(multi_dsprites.generate, configure, chunk=1024)


GENERATORS = {
  "clevr": Generator(scenes.generate, _clevr_config, chunk=128),
  "clevr_mirror": Generator(mirrors.generate, _clevr_config, chunk=128),
  "clevrtex": Generator(textures.generate, _clevr_config, chunk=128),
  "tetrominoes": Generator(
    tetrominoes.generate, _tetrominoes_config, chunk=2048
  ),
  **{
    f"multi_dsprites_{variant}": _multi_dsprites(variant)
    for variant in multi_dsprites.VARIANTS
  },
}
