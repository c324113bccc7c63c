"""The 2020 TensorFlow code's variables as parameters of our models."""

from collections.abc import Mapping
from typing import Any

import numpy as np

SLOT_MODULE = "slot_attention"
TASKS = ("set_prediction", "object_discovery")
# What the original fixes. Sizes are the config's, and are compared.
SETTINGS: dict[str, Any] = {
  "normalization": "weighted_mean",
  "model.head": "joint",
  "model.coordinate_range": "unit",
  "model.coordinate_scale": 1.0,
  "model.epsilon": 1e-8,
  "model.layer_norm_epsilon": 1e-3,
  "model.gradient": "all",
  "model.encoder_layer_norm_epsilon": 1e-3,
  "model.slot_initialization": "shared",
  "model.softmax_axis": "slots",
  "model.temperature": 0.0,
  "model.epsilon_placement": "attention",
  "model.conv_padding": "same",
}
NOTE = ""

_PREFIX = "network/layer_with_weights-0/"
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_STEP = "global_step"

# Module of the original -> path in our parameters. Leaves keep their meaning:
# only LayerNorm's are renamed.
_MODULES = {
  "encoder_pos/dense": "tokens/encoder_pos/dense",
  "decoder_pos/dense": "decoder/decoder_pos/dense",
  "layer_norm": "tokens/layer_norm",
  "mlp/layer_with_weights-0": "tokens/mlp/dense_0",
  "mlp/layer_with_weights-1": "tokens/mlp/dense_1",
  "slot_attention/norm_inputs": "slot_module/norm_inputs",
  "slot_attention/project_k": "slot_module/project_k",
  "slot_attention/project_v": "slot_module/project_v",
  "slot_attention/project_q": "slot_module/iteration/project_q",
  "slot_attention/norm_slots": "slot_module/iteration/norm_slots",
  "slot_attention/norm_mlp": "slot_module/iteration/norm_mlp",
  "slot_attention/gru": "slot_module/iteration/gru",
  "mlp_classifier/layer_with_weights-0": "mlp_classifier/dense_0",
  "mlp_classifier/layer_with_weights-1": "mlp_classifier/dense_1",
}
_MODULES |= {
  f"encoder_cnn/layer_with_weights-{i}": f"tokens/encoder_cnn/conv_{i}"
  for i in range(4)
} | {
  f"slot_attention/mlp/layer_with_weights-{i}": (
    f"slot_module/iteration/mlp/dense_{i}"
  )
  for i in range(2)
}
_MODULES |= {
  f"decoder_cnn/layer_with_weights-{i}": f"decoder/conv_transpose_{i}"
  for i in range(6)
}
_LEAVES = {"gamma": "scale", "beta": "bias"}
_SLOTS = {
  "slot_attention/slots_mu": "initializer/mu",
  "slot_attention/slots_log_sigma": "initializer/log_sigma",
}


def parameter_path(key: str) -> str:
  """Translates a checkpoint key.

  Args:
    key: such as "network/layer_with_weights-0/layer_norm/gamma", with or
      without TensorFlow's "/.ATTRIBUTES/VARIABLE_VALUE".

  Returns:
    The path in our parameters, such as "tokens/layer_norm/scale".

  Raises:
    KeyError: the key is none of the original model's weights.
  """
  name = key.removesuffix(_SUFFIX).removeprefix(_PREFIX)
  if name in _SLOTS:
    return _SLOTS[name]
  module, _, leaf = name.rpartition("/")
  if module not in _MODULES:
    raise KeyError(f"{key!r} is no weight of the original models.")
  return f"{_MODULES[module]}/{_LEAVES.get(leaf, leaf)}"


def read(path: str) -> tuple[int, dict[str, np.ndarray]]:
  """Reads a checkpoint of the original's training loop.

  Args:
    path: its directory, for the newest one, or the prefix of one's files.

  Returns:
    The step, and the model's weights by name.

  Raises:
    ValueError: tensorflow is missing, or the path is no such checkpoint.
  """
  try:
    import tensorflow as tf
  except ImportError as error:
    raise ValueError(
      f"Reading {path} needs tensorflow, which is not installed."
    ) from error
  try:
    reader = tf.train.load_checkpoint(path)
  except (ValueError, RuntimeError, tf.errors.OpError) as error:
    raise ValueError(f"{path} is no TensorFlow checkpoint: {error}") from error
  weights = {
    name.removesuffix(_SUFFIX): reader.get_tensor(name)
    for name in reader.get_variable_to_shape_map()
    if name.startswith(_PREFIX) and ".OPTIMIZER_SLOT" not in name
  }
  if not weights:
    raise ValueError(f"{path} has no weights called {_PREFIX}...")
  step = f"{_STEP}{_SUFFIX}"
  return int(reader.get_tensor(step)) if reader.has_tensor(step) else 0, weights


def to_variables(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Returns {"params": ...}; see `to_params`.

  Raises:
    ValueError: a name is none of the original models'.
  """
  try:
    return {"params": to_params(weights)}
  except KeyError as error:
    raise ValueError(error.args[0]) from error


def to_params(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Nests the original's weights as {"tokens": {...}, "slot_module": ...}.

  Args:
    weights: arrays by checkpoint key.

  Returns:
    Parameters for `SetPredictionModel` or `SlotAttentionAutoEncoder`; no array
    needs another layout.
  """
  params: dict[str, Any] = {}
  for key, value in weights.items():
    *parents, leaf = parameter_path(key).split("/")
    node = params
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = np.asarray(value)
  return params
