"""The FID's network with weights from a file of the user.

The file is pytorch-fid's pt_inception-2015-12-05-6726825d.pth, or an npz with
the same names, which `python -m slot_attention.convert.inception
--weights=FILE.pth --output=FILE.npz` makes of it. Nothing is downloaded.
"""

from collections.abc import Callable, Mapping
import os
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from slot_attention import cli
from slot_attention.convert import torch_file
from slot_attention.convert import torch_layers
from slot_attention.convert import trees
from slot_attention.modules import inception

_FILE = "pt_inception-2015-12-05-6726825d.pth"
WITHOUT_WEIGHTS = (
  "FID is left out: it needs the weights of its Inception network; give the "
  f"file {_FILE} of pytorch-fid as --inception_weights."
)
# Of the classifier, which features do not need, and counters.
_UNUSED = ("fc.", "AuxLogits.")
_LEAVES = {
  "conv.weight": ("params", "conv/kernel"),
  "bn.weight": ("params", "bn/scale"),
  "bn.bias": ("params", "bn/bias"),
  "bn.running_mean": ("batch_stats", "bn/mean"),
  "bn.running_var": ("batch_stats", "bn/var"),
}


def load(
  path: str, place: jax.sharding.Sharding | None = None
) -> Callable[[jax.Array], jax.Array]:
  """Reads weights and returns the network with them.

  Args:
    path: see above.
    place: where weights and features lie, such as on all devices; images are
      divided over these as they come. None for the default device.

  Returns:
    Maps images [b, h, w, 3] in [-1, 1] to features [b, 2048], for
    `fid.FrechetInceptionDistance`.

  Raises:
    OSError: the file cannot be read.
    ValueError: it does not hold the weights of this network.
  """
  weights = read(path)
  try:
    variables = jax.device_put(to_variables(weights), place)
  except ValueError as error:
    raise ValueError(
      f"{path} does not hold the network of the FID: {error}"
    ) from error
  apply = jax.jit(inception.InceptionV3().apply, out_shardings=place)
  return lambda images: apply(variables, jnp.asarray(images, jnp.float32))


def read(path: str) -> dict[str, np.ndarray]:
  """Reads the arrays of a .pth or .npz file by their names in PyTorch."""
  if not os.path.isfile(path):
    raise FileNotFoundError(
      f"{path!r} is no file; the FID needs {_FILE} of pytorch-fid."
    )
  if not path.endswith(".npz"):
    return torch_file.load(path)
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return dict(arrays)
  except OSError:
    raise
  except Exception as error:  # Even the parser of Python's own language's.
    raise ValueError(
      f"{path} is no npz file of arrays ({error}); make it again from "
      "pytorch-fid's file."
    ) from error


def to_variables(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Nests the weights as the network names them.

  Args:
    weights: arrays by their names in PyTorch, such as
      "Mixed_5b.branch1x1.conv.weight".

  Returns:
    {"params": ..., "batch_stats": ...}.

  Raises:
    ValueError: names or shapes are not those of the network.
  """
  flat = {}
  for name, value in weights.items():
    if name.startswith(_UNUSED) or name.endswith("num_batches_tracked"):
      continue
    parts = name.split(".")
    parents, leaf = parts[:-2], parts[-2:]
    kind, place = _LEAVES.get(".".join(leaf), ("params", "/".join(leaf)))
    path = "/".join([kind, *parents, place])
    flat[path] = value
  shapes = _shapes()
  # Of a wrong file, one name may be the beginning of another.
  trees.require_same_names("The file", flat, trees.flatten(shapes))
  variables = trees.nest(
    {
      path: torch_layers.to_kernel(np.asarray(value, np.float32))
      for path, value in flat.items()
    }
  )
  trees.require_same_shapes(variables, shapes)
  return variables


def _shapes() -> dict[str, Any]:
  images = jnp.zeros((1, inception.INPUT_SIZE, inception.INPUT_SIZE, 3))
  return jax.eval_shape(inception.InceptionV3().init, jax.random.key(0), images)


def main(argv: list[str]) -> None:
  """Writes an npz file of the weights."""
  cli.reject_arguments(argv)
  weights = read(flags.FLAGS.weights)
  to_variables(weights)  # Nothing else shall be written.
  kept = {k: v for k, v in weights.items() if not k.startswith(_UNUSED)}
  np.savez(flags.FLAGS.output, **kept)
  print(f"Wrote {flags.FLAGS.output}.")


def _define_flags() -> None:
  flags.DEFINE_string("weights", None, "pytorch-fid's file.")
  flags.DEFINE_string("output", None, "The npz file to write.")
  flags.mark_flags_as_required(["weights", "output"])


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
