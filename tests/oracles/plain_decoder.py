"""Times a training step beside ones whose decoders are written the plain way.

    python tests/oracles/plain_decoder.py \
      --config=configs/tetrominoes_object_discovery.py --batch_size=64

The plain way broadcasts slots to the image for the first layer too; the second
of its kind also lets JAX derive the gradients of all convolutions. All begin
with the same state; their losses and gradient norms are printed.
"""

from collections.abc import Iterator
import contextlib
import time
from typing import Any
from unittest import mock

from absl import flags
import jax
from ml_collections import config_flags
import numpy as np

from slot_attention import cli
from slot_attention import cpu
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train_step as train_step_lib
from slot_attention.data import pipeline
from slot_attention.modules import convolution_ops
from slot_attention.modules import decoders


def _first_layer(
  decoder: decoders.SpatialBroadcastDecoder,
  vectors: jax.Array,
  plane: jax.Array,
) -> jax.Array:
  """Stands in for the decoder's own."""
  inputs = vectors[:, None, None].astype(decoder.dtype) + plane[None]
  return decoder._layer(decoder.channels[0], 5, decoder.strides[0], 0)(inputs)


@contextlib.contextmanager
def written(way: str) -> Iterator[None]:
  """Lets what is traced meanwhile be as it is, or plain."""
  with contextlib.ExitStack() as stack:
    if way != "ours":
      stack.enter_context(
        mock.patch.object(
          decoders.SpatialBroadcastDecoder, "_first_layer", _first_layer
        )
      )
    if way == "all plain":
      for name, plain in (
        ("convolve", convolution_ops._convolve),
        ("transpose", convolution_ops._dilated),
      ):
        stack.enter_context(mock.patch.object(convolution_ops, name, plain))
    yield


def main(argv: list[str]) -> None:
  """Prints medians of interleaved rounds, and their ratios."""
  cli.reject_arguments(argv)
  values = flags.FLAGS
  config = values.config
  config.data.source = "procedural"
  config.train.batch_size = config.eval.batch_size = values.batch_size
  cpu.prepare(config)
  mesh = sharding.create_mesh()
  programs: dict[str, Any] = {}
  with jax.set_mesh(mesh):
    task = tasks.create_task(config)
    source = pipeline.open_source(config.data, "train", mesh)
    batch = next(source.train_batches(config.train.batch_size, 0, 0))
    state = train_step_lib.create_state(task, config, mesh)
    for way in ("ours", "first layer plain", "all plain"):
      step = train_step_lib.create_train_step(task, config)
      with written(way):
        programs[way] = jax.jit(step).lower(state, batch).compile()
    seconds: dict[str, list[float]] = {way: [] for way in programs}
    for i in range(values.num_rounds + 1):
      for way, program in programs.items():
        start = time.perf_counter()
        _, metrics = jax.block_until_ready(program(state, batch))
        seconds[way].append(time.perf_counter() - start)
        if not i:
          print(f"{way}: loss {metrics['loss']}, norm {metrics['grad_norm']}")
  medians = {way: np.median(times[1:]) for way, times in seconds.items()}
  for way, median in medians.items():
    ratio = medians["ours"] / median
    print(f"{way}: {1e3 * median:.1f} ms; ours takes {ratio:.2f} of it")


if __name__ == "__main__":
  config_flags.DEFINE_config_file("config", None, "As for main.")
  flags.DEFINE_integer("batch_size", 64, "Images of a step.")
  flags.DEFINE_integer("num_rounds", 10, "After a first one.")
  cli.run(main)
