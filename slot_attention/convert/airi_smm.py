"""The published Slot Mixture Module's weights as parameters of our models.

They belong to the set predictor of AIRI-Institute/smm (`e725.pth`), which is
not the module of paper B but `slot_mixture.VARIANTS["released"]`.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any

from absl import logging
import numpy as np

from slot_attention.convert import torch_file
from slot_attention.convert import torch_layers
from slot_attention.convert import trees
from slot_attention.modules import positions
from slot_attention.modules import slot_mixture

SLOT_MODULE = "slot_mixture"
TASKS = ("set_prediction",)
# What the weights were trained with, and what the published code fixes. Its 7
# iterations are followed by one more, the only one that carries gradients.
SETTINGS: dict[str, Any] = {
  "normalization": "weighted_mean",
  "data.crop": (),
  "data.resolution": (128, 128),
  "model.num_slots": 10,
  "model.num_iterations": 8,
  "model.slot_size": 64,
  "model.mlp_hidden_size": 128,
  "model.head": "split",
  "model.head_hidden_size": 64,
  "model.coordinate_range": "symmetric",
  "model.coordinate_scale": 1.0,
  "model.epsilon": 1e-8,
  "model.layer_norm_epsilon": 1e-5,
  "model.gradient": "last",
  "model.encoder_channels": (64, 64, 64, 64),
  "model.encoder_strides": (1, 2, 2, 1),
  "model.encoder_layer_norm_epsilon": 1e-5,
  "model.conv_padding": "same",
  "model.slot_initialization": "shared",
}
SETTINGS |= {
  f"model.mixture.{name}": value
  for name, value in dataclasses.asdict(
    slot_mixture.VARIANTS["released"]
  ).items()
}
NOTE = (
  "These weights were trained on whole pictures that Pillow resized to 128x128 "
  "(bilinear, antialiased). Resizing without antialiasing costs average "
  "precision at the smallest distances."
)

# Left over from another model, at their initial values.
_UNUSED = ("quantizer.", "coord_quantizer.")
_GRID = "encoder_pos.grid"

# Module of theirs -> module of ours; the leaf follows from the array.
_MODULES = {
  "encoder_pos.linear": "tokens/encoder_pos/dense",
  "layer_norm": "tokens/layer_norm",
  "slot_attention.transf.norm": "input_transformer/norm",
  "slot_attention.norm_input": "slot_module/norm_inputs",
  "slot_attention.to_k": "slot_module/project_k",
  "slot_attention.to_v": "slot_module/project_v",
  "slot_attention.to_q": "slot_module/iteration/project_q",
  "slot_attention.norm_slots": "slot_module/iteration/norm_slots",
  "slot_attention.norm_mu": "slot_module/iteration/norm_mlp",
}
_MODULES |= {
  f"encoder_cnn.layers.{theirs}": f"tokens/encoder_cnn/conv_{ours}"
  for ours, theirs in enumerate((0, 3, 6, 8))
}
_MODULES |= {
  f"{theirs}.{2 * i}": f"{ours}/dense_{i}"
  for theirs, ours in (
    ("mlp", "tokens/mlp"),
    ("mlp_coords", "mlp_coordinates"),
    ("mlp_prop", "mlp_properties"),
    ("slot_attention.mu_init", "input_transformer/mean_mlp"),
    ("slot_attention.sigma_init", "input_transformer/log_sigma_mlp"),
    ("slot_attention.mlp_mu", "slot_module/iteration/mlp"),
    ("slot_attention.mlp_out", "slot_module/project_output"),
  )
  for i in range(2)
}
_MODULES |= {
  f"slot_attention.transf.transformer_blocks.{block}.{theirs}": (
    f"input_transformer/block_{block}/{ours}"
  )
  for block in range(2)
  for theirs, ours in {
    "norm3": "norm_mlp",
    "ff.net.0.0": "dense_0",
    "ff.net.2": "dense_1",
    **{f"norm{i + 1}": f"norm_{i}" for i in range(2)},
    **{
      f"attn{i + 1}.{a}": f"attention_{i}/{b}"
      for i in range(2)
      for a, b in (
        ("to_q", "query"),
        ("to_k", "key"),
        ("to_v", "value"),
        ("to_out.0", "output"),
      )
    },
  }.items()
}
_NO_BIAS = ("query", "key", "value", "project_k", "project_v", "project_q")
_TOKENS = {
  "slot_attention.mu": "input_transformer/mean_token",
  "slot_attention.logsigma": "input_transformer/log_sigma_token",
}
_GRU = "slot_attention.gru_mu"


def read(path: str) -> tuple[int, dict[str, np.ndarray]]:
  """Reads a state dict; see `torch_file.load`.

  Args:
    path: the file.

  Returns:
    0, since the file does not name the step, and the arrays by name.
  """
  return 0, torch_file.load(path)


def to_variables(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Turns the published set predictor's state dict into our variables.

  Args:
    state_dict: arrays by name.

  Returns:
    {"params": ...} for `SetPredictionModel`, numpy.

  Raises:
    ValueError: a weight is missing, is unknown, or has the wrong number of
      axes.
  """
  unused = {name for name in state_dict if name.startswith(_UNUSED)}
  if unused:
    logging.info("Not part of the model: %s.", ", ".join(sorted(unused)))
  expected = {*weight_names(), _GRID}
  found = state_dict.keys() - unused
  trees.require_same_names("The state dict", found, expected)
  _check_grid(state_dict[_GRID])
  return {
    "params": to_params({name: state_dict[name] for name in weight_names()})
  }


def to_params(state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
  """Translates weights one by one; parts of a model will do.

  Args:
    state_dict: arrays by name; the weights of a GRU all or none.

  Returns:
    Parameters, nested.
  """
  gru = {
    leaf: np.asarray(state_dict[f"{_GRU}.{leaf}"])
    for leaf in torch_layers.GRU_LEAVES
    if f"{_GRU}.{leaf}" in state_dict
  }
  converted = torch_layers.to_gru(gru) if gru else {}
  flat = {
    f"slot_module/iteration/gru/{leaf}": value
    for leaf, value in converted.items()
  }
  for name, value in state_dict.items():
    if not name.startswith(_GRU):
      flat[parameter_path(name)] = torch_layers.to_kernel(np.asarray(value))
  return trees.nest(flat)


def parameter_path(name: str) -> str:
  """Translates a name outside the GRU, whose weights are merged.

  Args:
    name: such as "slot_attention.to_q.weight".

  Returns:
    The path in our parameters, such as
    "slot_module/iteration/project_q/kernel".
  """
  if name in _TOKENS:
    return _TOKENS[name]
  module, _, leaf = name.rpartition(".")
  if leaf == "weight":
    leaf = "scale" if "norm" in module.rpartition(".")[2] else "kernel"
  return f"{_MODULES[module]}/{leaf}"


def weight_names() -> list[str]:
  """Returns the names of all weights that the model uses."""
  names = [*_TOKENS, *(f"{_GRU}.{leaf}" for leaf in torch_layers.GRU_LEAVES)]
  for theirs, ours in _MODULES.items():
    names.append(f"{theirs}.weight")
    if ours.rpartition("/")[2] not in _NO_BIAS:
      names.append(f"{theirs}.bias")
  return names


def _check_grid(grid: np.ndarray) -> None:
  """Raises unless the stored grid [1, h, w, 4] is the one we compute."""
  if not np.allclose(grid[0], positions.build_grid(grid.shape[1:3]), atol=1e-5):
    raise ValueError(
      f"{_GRID} is not the grid of positions; it was changed by training, or "
      "belongs to another model."
    )
