"""State dicts of paper C's PyTorch code as parameters of our models.

Linear weights are (out, in), convolutions (out, in, kh, kw) and transposed ones
(in, out, kh, kw); ours end with (in, out), and with (out, in) where transposed.
Strided layers need `model.conv_padding = "torch"`, and the slot module
`model.layer_norm_epsilon = 1e-5`.
"""

from collections.abc import Mapping
import re
from typing import Any

import numpy as np

_AXES = {2: (1, 0), 4: (2, 3, 1, 0)}

# Module of theirs -> module of ours; the leaf follows from the array.
_MODULES = {
  r"(?:encoder_cnn|cnn_encoder)\.(\d+)": "tokens/encoder_cnn/conv_{half}",
  r"(?:encoder_pos|pos_embed)\.dense": "tokens/encoder_pos/dense",
  r"layer_norm": "tokens/layer_norm",
  r"feature_mlp\.(\d+)": "tokens/mlp/dense_{half}",
  r"slot_attention\.norm_input": "slot_module/norm_inputs",
  r"slot_attention\.to_k": "slot_module/project_k",
  r"slot_attention\.to_v": "slot_module/project_v",
  r"slot_attention\.to_q": "slot_module/iteration/project_q",
  r"slot_attention\.norm_slots": "slot_module/iteration/norm_slots",
  r"slot_attention\.norm_pre_ff": "slot_module/iteration/norm_mlp",
  r"slot_attention\.mlp\.(\d+)": "slot_module/iteration/mlp/dense_{half}",
  r"slot_attention\.update_ln": "slot_module/normalization/layer_norm",
  r"decoder_pos\.dense": "decoder/decoder_pos/dense",
  r"decoder_cnn\.(\d+)": "decoder/conv_transpose_{half}",
  r"mlp\.(\d+)": "mlp_classifier/dense_{half}",
}
_SAME = {
  "slot_attention.slots_mu": "initializer/mu",
  "slot_attention.slots_logsigma": "initializer/log_sigma",
  "slot_attention.gru.kernel": "slot_module/iteration/gru/kernel",
  "slot_attention.gru.recurrent_kernel": (
    "slot_module/iteration/gru/recurrent_kernel"
  ),
  "slot_attention.gru.bias": "slot_module/iteration/gru/bias",
}
# Scalars of the normalisation are stored with one to four axes of length 1.
_NORMALIZATION = {
  r"slot_attention\.update_(?:ln|normalizer)\.(gamma|beta)": (
    "params/slot_module/normalization/{0}"
  ),
  r"slot_attention\.update_normalizer\.means": (
    "batch_stats/slot_module/normalization/mean"
  ),
  r"slot_attention\.update_normalizer\.variances": (
    "batch_stats/slot_module/normalization/variance"
  ),
}


def parameter_path(name: str) -> str:
  """Translates a state dict's name.

  Args:
    name: such as "slot_attention.to_q.weight".

  Returns:
    The path in our variables, such as
    "params/slot_module/iteration/project_q/kernel".

  Raises:
    KeyError: the name is none of the published models'.
  """
  for pattern, path in _NORMALIZATION.items():
    if match := re.fullmatch(pattern, name):
      return path.format(*match.groups())
  if name in _SAME:
    return f"params/{_SAME[name]}"
  module, _, leaf = name.rpartition(".")
  for pattern, path in _MODULES.items():
    if match := re.fullmatch(pattern, module):
      # Every other layer of a Sequential is an activation without weights.
      half = int(match.group(1)) // 2 if match.groups() else None
      return f"params/{path.format(half=half)}/{_leaf(module, leaf)}"
  raise KeyError(
    f"{name!r} is no weight of paper C's published models; check that the "
    "file is one of theirs."
  )


def _leaf(module: str, leaf: str) -> str:
  if leaf == "bias":
    return "bias"
  is_norm = "norm" in module or module.endswith("update_ln")
  return "scale" if is_norm else "kernel"


def to_variables(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Turns a state dict into the variables of our model.

  Args:
    state_dict: arrays by name. A buffer with the grid of positions is left out:
      ours is computed.

  Returns:
    {"params": ..., and, with batch normalisation, "batch_stats": ...}, numpy.
    The rows of a set prediction head keep the order of their data: shape, size,
    material, color, position, visibility.

  Raises:
    KeyError: a name is none of the published models'.
  """
  variables: dict[str, Any] = {}
  for name, value in state_dict.items():
    if name.endswith(".grid"):
      continue
    *parents, leaf = parameter_path(name).split("/")
    node = variables
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = _layout(parents, np.asarray(value))
  return variables


def _layout(parents: list[str], value: np.ndarray) -> np.ndarray:
  if parents[-1] == "normalization":
    return value.reshape(())
  if parents[-1] in ("gru", "initializer"):
    return value
  return value.transpose(_AXES[value.ndim]) if value.ndim in _AXES else value
