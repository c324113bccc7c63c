"""State dicts of SLATE's code (singhgautam/slate) as our parameters."""

from collections.abc import Mapping
import re
from typing import Any

from absl import logging
import numpy as np

from slot_attention.convert import torch_file
from slot_attention.convert import torch_layers
from slot_attention.convert import trees
from slot_attention.tasks import slate

SLOT_MODULE = "slot_attention"
TASKS = ("slate",)
# What the published code fixes. Sizes are the config's, and are compared; the
# number of heads cannot be read off the weights.
SETTINGS: dict[str, Any] = {
  "normalization": "weighted_mean",
  "model.epsilon": 1e-8,
  "model.layer_norm_epsilon": 1e-5,
  "model.encoder_layer_norm_epsilon": 1e-5,
  "model.slot_initialization": "shared",
  "model.log_sigma_offset": 0.0,
  "model.softmax_axis": "slots",
  "model.temperature": 0.0,
  "model.epsilon_placement": "attention",
  "model.use_gru": True,
  "model.use_mlp": True,
  "model.use_layer_norm": True,
}
NOTE = (
  "Weights do not tell the number of heads: config.model.slate.num_heads must "
  "be what they were trained with. Training goes on from step 0 of the "
  "learning rate's warm-up, with the lowest Gumbel temperature."
)

# Module of theirs -> module of ours; the leaf follows from the array.
_MODULES = {
  "slot_attn.layer_norm": "tokens/norm",
  "slot_attn.mlp.0": "tokens/mlp/dense_0",
  "slot_attn.mlp.2": "tokens/mlp/dense_1",
  "slot_attn.slot_attention.norm_inputs": "slot_module/norm_inputs",
  "slot_attn.slot_attention.project_k": "slot_module/project_k",
  "slot_attn.slot_attention.project_v": "slot_module/project_v",
  "slot_attn.slot_attention.project_q": "slot_module/iteration/project_q",
  "slot_attn.slot_attention.norm_slots": "slot_module/iteration/norm_slots",
  "slot_attn.slot_attention.norm_mlp": "slot_module/iteration/norm_mlp",
  "slot_attn.slot_attention.mlp.0": "slot_module/iteration/mlp/dense_0",
  "slot_attn.slot_attention.mlp.2": "slot_module/iteration/mlp/dense_1",
  "slot_proj": "projection",
  "tf_dec.layer_norm": "decoder/norm",
  "out": "head",
  "dvae.encoder.7": "dvae/encoder/head",
  "dvae.decoder.11": "dvae/decoder/head",
}
_BLOCK_MODULES = {
  "self_attn_layer_norm": "norm_self",
  "encoder_decoder_attn_layer_norm": "norm_slots",
  "ffn_layer_norm": "norm_mlp",
  "ffn.0": "mlp/dense_0",
  "ffn.2": "mlp/dense_1",
} | {
  f"{theirs}.proj_{theirs_matrix}": f"{ours}/{ours_matrix}"
  for theirs, ours in (
    ("self_attn", "self_attention"),
    ("encoder_decoder_attn", "slot_attention"),
  )
  for theirs_matrix, ours_matrix in zip(
    "qkvo", ("query", "key", "value", "output"), strict=True
  )
}
_ARRAYS = {
  "positional_encoder.pe": "embedding/positions",
  "dictionary.dictionary.weight": "embedding/dictionary",
  "slot_attn.slot_mu": "initializer/mu",
  "slot_attn.slot_log_sigma": "initializer/log_sigma",
}
_GRU = "slot_attn.slot_attention.gru"
_FIRST_SHUFFLE = 5  # In the list of the dVAE decoder's layers.
_ANCHOR = "slot_attn.slot_mu"


def read(path: str) -> tuple[int, dict[str, np.ndarray]]:
  """Reads a state dict, also one that stands within a checkpoint.

  Args:
    path: `best_model.pt` or `checkpoint.pt.tar`; see `torch_file.load`.

  Returns:
    0, since neither file names the step, and the arrays by name.

  Raises:
    ValueError: there is no SLATE model in it.
  """
  arrays = torch_file.load(path)
  prefixes = [
    name.removesuffix(_ANCHOR) for name in arrays if name.endswith(_ANCHOR)
  ]
  if len(prefixes) != 1:
    raise ValueError(
      f"{path} holds {len(prefixes)} arrays called {_ANCHOR!r}; give a "
      "checkpoint with one model of SLATE's code."
    )
  return 0, {
    name.removeprefix(prefixes[0]): value
    for name, value in arrays.items()
    if name.startswith(prefixes[0])
  }


def to_variables(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Turns a state dict into the variables of `slate.Slate`.

  Args:
    state_dict: arrays by name.

  Returns:
    {"params": ..., "progress": ...}, numpy.

  Raises:
    ValueError: a name is none of SLATE's.
  """
  return {
    "params": to_params(state_dict),
    "progress": slate.progress_at_the_end(),
  }


def to_params(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Translates weights one by one; parts of a model will do.

  Args:
    state_dict: arrays by name; the weights of the GRU all or none. The masks of
      the decoder, which are no weights, are left out.

  Returns:
    Parameters, nested.

  Raises:
    ValueError: a name is none of SLATE's.
  """
  flat, gru = {}, {}
  for name, value in state_dict.items():
    value = np.asarray(value)
    if name.endswith(".self_attn_mask"):
      logging.info("Not a weight: %s.", name)
    elif name.startswith(_GRU):
      gru[name.removeprefix(f"{_GRU}.")] = value
    elif name in _ARRAYS:
      flat[_ARRAYS[name]] = value
    else:
      path = parameter_path(name)
      flat[path] = torch_layers.to_kernel(value)
      if path == "dvae/decoder/block_0/kernel":
        kernel = flat[path]
        flat[path] = kernel.reshape(kernel.shape[-2:])  # [1, 1, v, c] -> [v, c]
  if gru:
    path = "slot_module/iteration/gru"
    flat |= {f"{path}/{k}": v for k, v in torch_layers.to_gru(gru).items()}
  return trees.nest(flat)


def parameter_path(name: str) -> str:
  """Translates the name of a layer's weight, outside the GRU.

  Args:
    name: such as "dvae.encoder.0.m.weight".

  Returns:
    The path in our parameters, such as "dvae/encoder/block_0/conv/kernel".

  Raises:
    ValueError: the name is none of SLATE's.
  """
  module, _, leaf = name.rpartition(".")
  if module in _MODULES:
    return f"{_MODULES[module]}/{_leaf(module, leaf)}"
  if match := re.fullmatch(r"tf_dec\.blocks\.(\d+)\.(.+)", module):
    number, part = match.groups()
    if part in _BLOCK_MODULES:
      path = f"decoder/blocks_{number}/{_BLOCK_MODULES[part]}"
      return f"{path}/{_leaf(part, leaf)}"
  if match := re.fullmatch(r"dvae\.(encoder|decoder)\.(\d+)(\.m)?", module):
    return _dvae_path(match.group(1), int(match.group(2)), match.group(3), leaf)
  raise ValueError(
    f"{name!r} is no weight of SLATE's published model; check that the file is "
    "one of its own (those of STEVE and SysBinder differ)."
  )


def _dvae_path(half: str, number: int, conv: str | None, leaf: str) -> str:
  """Translates a block of the dVAE: its convolution, or its normalisation."""
  if half == "decoder" and number > _FIRST_SHUFFLE:
    number -= 1
  path = f"dvae/{half}/block_{number}"
  if not conv:
    return f"{path}/norm/{'scale' if leaf == 'weight' else leaf}"
  return (
    f"{path}/kernel"
    if path.endswith("decoder/block_0")
    else (f"{path}/conv/kernel")
  )


def _leaf(module: str, leaf: str) -> str:
  if leaf == "bias":
    return "bias"
  return "scale" if "norm" in module.rpartition(".")[2] else "kernel"
