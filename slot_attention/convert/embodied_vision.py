"""State dicts of paper C's PyTorch code as parameters of our models.

Linear weights are (out, in), convolutions (out, in, kh, kw) and transposed ones
(in, out, kh, kw); ours end with (in, out), and with (out, in) where transposed.
"""

from collections.abc import Mapping
import re
from typing import Any

from absl import logging
import numpy as np

from slot_attention.convert import torch_file
from slot_attention.convert import trees

SLOT_MODULE = "slot_attention"
TASKS = ("set_prediction", "object_discovery", "dinosaur")
# What the published code fixes. Sizes are the config's, and are compared.
SETTINGS: dict[str, Any] = {
  "model.head": "joint",
  "model.coordinate_range": "unit",
  "model.coordinate_scale": 1.0,
  "model.epsilon": 1e-8,
  "model.layer_norm_epsilon": 1e-5,
  "model.encoder_layer_norm_epsilon": 1e-3,
  "model.slot_initialization": "shared",
  "model.softmax_axis": "slots",
  "model.temperature": 0.0,
  "model.epsilon_placement": "attention",
  "model.conv_padding": "torch",
}
NOTE = (
  "Weights do not tell weighted_mean, weighted_sum, unnormalized and "
  "scaled_mean apart: config.normalization must be what they were trained "
  "with. A set predictor of this source has heights z scaled from [0.35, 0.7] "
  "to [0, 1], not by (z + 3) / 6."
)

# Of its 19 properties (shape, size, material, color, position, visibility, with
# the classes of CLEVR with masks), those that stand where ours do.
PROPERTY_ORDER = np.array(
  [
    *(15, 16, 17),  # Position.
    *(4, 3),  # Small, large.
    *(5, 6),  # Rubber, metal.
    *(2, 0, 1),  # Cube, sphere, cylinder.
    *(12, 10, 11, 14, 7, 9, 13, 8),  # Gray, blue, brown, yellow, red, ...
    18,
  ]
)

_AXES = {2: (1, 0), 4: (2, 3, 1, 0)}

# Module of theirs -> module of ours; the leaf follows from the array.
_MODULES = {
  r"(?:encoder_cnn|cnn_encoder)\.(\d+)": "tokens/encoder_cnn/conv_{half}",
  r"(?:encoder_pos|pos_embed)\.dense": "tokens/encoder_pos/dense",
  r"(?:feature_)?layer_norm": "tokens/layer_norm",
  r"feature_mlp\.(\d+)": "tokens/mlp/dense_{half}",
  r"slot_attention\.norm_input": "slot_module/norm_inputs",
  r"slot_attention\.to_k": "slot_module/project_k",
  r"slot_attention\.to_v": "slot_module/project_v",
  r"slot_attention\.to_q": "slot_module/iteration/project_q",
  r"slot_attention\.norm_slots": "slot_module/iteration/norm_slots",
  r"slot_attention\.norm_pre_ff": "slot_module/iteration/norm_mlp",
  r"slot_attention\.mlp\.(\d+)": "slot_module/iteration/mlp/dense_{half}",
  r"slot_attention\.update_ln": "slot_module/normalization/layer_norm",
  r"mlp_decoder\.mlp_decoder\.(\d+)": "decoder/dense_{half}",
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
  "mlp_decoder.decoder_pos_encoding": "decoder/position_embedding",
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
    ValueError: the name is none of the published models'.
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
  raise ValueError(
    f"{name!r} is no weight of paper C's published models; check that the "
    "file is one of theirs."
  )


def _leaf(module: str, leaf: str) -> str:
  if leaf == "bias":
    return "bias"
  is_norm = "norm" in module or module.endswith("update_ln")
  return "scale" if is_norm else "kernel"


def read(path: str) -> tuple[int, dict[str, np.ndarray]]:
  """Reads a state dict, also one that stands within a checkpoint.

  Args:
    path: the file; see `torch_file.load`.

  Returns:
    0, since the file does not name the step, and the arrays by name.

  Raises:
    ValueError: there is no Slot Attention model in it.
  """
  arrays = torch_file.load(path)
  anchor = "slot_attention.slots_mu"
  prefixes = [
    name.removesuffix(anchor) for name in arrays if name.endswith(anchor)
  ]
  if len(prefixes) != 1:
    raise ValueError(
      f"{path} holds {len(prefixes)} arrays called {anchor!r}; give a "
      "checkpoint with one model of paper C's code."
    )
  (prefix,) = prefixes
  others = sorted(name for name in arrays if not name.startswith(prefix))
  if others:
    logging.info("Not part of the model: %s.", ", ".join(others))
  return 0, {
    name.removeprefix(prefix): value
    for name, value in arrays.items()
    if name.startswith(prefix)
  }


def to_variables(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Turns a state dict into the variables of our model.

  Args:
    state_dict: arrays by name. A buffer with the grid of positions is left out:
      ours is computed; and so is DINOSAUR's frozen transformer, which has a
      file of its own (config.model.vit.weights).

  Returns:
    {"params": ..., and, with batch normalisation, "batch_stats": ...}, numpy;
    the properties that a head predicts are put into our order.

  Raises:
    ValueError: a name is none of the published models'.
  """
  flat = {}
  for name, value in state_dict.items():
    if not (name.endswith(".grid") or name.startswith("encoder.")):
      path = parameter_path(name)
      flat[path] = _layout(path, np.asarray(value))
  for path in flat:
    if path.startswith("params/mlp_classifier/dense_1/"):
      flat[path] = flat[path][..., PROPERTY_ORDER]
  return trees.nest(flat)


def _layout(path: str, value: np.ndarray) -> np.ndarray:
  module = path.split("/")[-2]
  if module == "normalization":
    return value.reshape(())
  if module in ("gru", "initializer", "decoder"):
    return value
  return value.transpose(_AXES[value.ndim]) if value.ndim in _AXES else value
