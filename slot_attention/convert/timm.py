"""Weights of vision transformers in timm's and DINO's files.

Both name their weights alike. Files are `.safetensors` (8 bytes with the
length of a JSON header, the header, then the numbers) or what `torch.save`
wrote, which `torch_file` reads without running code.
"""

from collections.abc import Mapping
import json
import os
from typing import Any

from absl import logging
import jax.numpy as jnp
import numpy as np

from slot_attention.convert import torch_file
from slot_attention.convert import trees

_SUFFIX = ".safetensors"
_TYPES = {
  "F64": np.float64,
  "F32": np.float32,
  "F16": np.float16,
  "BF16": jnp.bfloat16,
  "I64": np.int64,
  "I32": np.int32,
}
_LONGEST_HEADER = 100_000_000  # The format's own limit, in bytes.

# Module of ours -> module of theirs, within a block or beside the blocks.
_MODULES = {
  "patch_embedding": "patch_embed.proj",
  "norm": "norm",
  "norm_1": "norm1",
  "qkv": "attn.qkv",
  "projection": "attn.proj",
  "norm_2": "norm2",
  "dense_0": "mlp.fc1",
  "dense_1": "mlp.fc2",
}
_TOKENS = {"class_token": "cls_token", "position_embedding": "pos_embed"}
_HEAD = ("head.", "fc_norm.")  # A classifier's, which no feature needs.

_AXES = {2: (1, 0), 4: (2, 3, 1, 0)}


def read(path: str) -> dict[str, np.ndarray]:
  """Reads the weights of a file.

  Args:
    path: the file.

  Returns:
    Read-only arrays by the file's names.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: the file is damaged, or holds anything but arrays.
  """
  is_safetensors = path.endswith(_SUFFIX)
  return _read_safetensors(path) if is_safetensors else torch_file.load(path)


def to_variables(
  state_dict: Mapping[str, np.ndarray], shapes: Mapping[str, Any]
) -> dict[str, Any]:
  """Turns weights into the variables of our transformer.

  Args:
    state_dict: arrays by name; a classifier's are left out, and logged.
    shapes: {"params": ...}, arrays or shapes of the transformer wanted.

  Returns:
    {"params": ...}, float32 numpy arrays.

  Raises:
    ValueError: a weight is missing, unknown, or of another shape; the sentence
      has the file's name for it.
  """
  state_dict = _without_head(state_dict)
  expected = trees.flatten(shapes["params"])
  names = {parameter_name(path): path for path in expected}
  trees.require_same_names("The vision transformer's file", state_dict, names)
  flat = {}
  for name, path in names.items():
    value = np.asarray(state_dict[name], np.float32)
    value = value.transpose(_AXES.get(value.ndim, range(value.ndim)))
    if value.shape != expected[path].shape:
      raise ValueError(
        f"{name} of the vision transformer's file has shape "
        f"{state_dict[name].shape}; config.model.vit describes one of "
        f"{_their_shape(expected[path].shape)}: check its image_size, "
        "patch_size, width and depth."
      )
    flat[path] = value
  return {"params": trees.nest(flat)}


def to_state_dict(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns our transformer's weights by timm's names, in its layout."""
  state_dict = {}
  for path, value in trees.flatten(variables["params"]).items():
    value = np.asarray(value)
    axes = np.argsort(_AXES.get(value.ndim, range(value.ndim)))
    state_dict[parameter_name(path)] = value.transpose(axes)
  return state_dict


def parameter_name(path: str) -> str:
  """Translates our path of a weight.

  Args:
    path: such as "block_0/qkv/kernel".

  Returns:
    timm's name, such as "blocks.0.attn.qkv.weight".
  """
  if path in _TOKENS:
    return _TOKENS[path]
  *block, module, leaf = path.split("/")
  prefix = "".join(f"{name.replace('_', 's.')}." for name in block)
  kind = "bias" if leaf == "bias" else "weight"
  return f"{prefix}{_MODULES[module]}.{kind}"


def write_safetensors(path: str, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes float32 arrays by name, whole or not at all."""
  header, offset = {}, 0
  for name, value in arrays.items():
    size = 4 * value.size
    header[name] = {
      "dtype": "F32",
      "shape": value.shape,
      "data_offsets": [offset, offset + size],
    }
    offset += size
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)  # Keeps the numbers aligned.
  with open(f"{path}.tmp", "wb") as f:
    f.write(len(text).to_bytes(8, "little") + text)
    for value in arrays.values():
      f.write(np.ascontiguousarray(value, "<f4").data)
  os.replace(f"{path}.tmp", path)


def _their_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  """Undoes the transposition of a shape."""
  axes = np.argsort(_AXES.get(len(shape), range(len(shape))))
  return tuple(shape[axis] for axis in axes)


def _without_head(
  state_dict: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  head = {name for name in state_dict if name.startswith(_HEAD)}
  if head:
    logging.info("Not part of the features: %s.", ", ".join(sorted(head)))
  return {k: v for k, v in state_dict.items() if k not in head}


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
  size = os.path.getsize(path)
  with open(path, "rb") as f:
    length = int.from_bytes(f.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
      raise ValueError(
        f"{path} is damaged: its header should have {length} bytes, but the "
        f"file has {size} in all."
      )
    try:
      header = json.loads(f.read(length))
    except ValueError as error:
      raise ValueError(
        f"{path} is damaged: its header is no JSON ({error})."
      ) from error
  numbers = np.memmap(path, np.uint8, "r", offset=8 + length)
  return {
    name: _array(path, numbers, name, entry)
    for name, entry in header.items()
    if name != "__metadata__"
  }


def _array(
  path: str, numbers: np.ndarray, name: str, entry: Mapping[str, Any]
) -> np.ndarray:
  """Returns the view of one array that its entry in the header describes."""
  if entry["dtype"] not in _TYPES:
    raise ValueError(
      f"{path} holds {name} as {entry['dtype']}; {', '.join(_TYPES)} are read."
    )
  dtype = np.dtype(_TYPES[entry["dtype"]])
  first, last = entry["data_offsets"]
  expected = int(np.prod(entry["shape"], dtype=np.int64)) * dtype.itemsize
  if not 0 <= first <= last <= len(numbers) or last - first != expected:
    raise ValueError(
      f"{path} is damaged: {name} of shape {entry['shape']} needs {expected} "
      f"bytes, but stands at bytes {first} to {last} of {len(numbers)}."
    )
  return numbers[first:last].view(dtype).reshape(entry["shape"])
