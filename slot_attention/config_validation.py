"""Which values and combinations of a config can work.

Every config, from the command line to a finished run's `config.json`, passes
through `validate` before anything is built.
"""

import math
from typing import Any

import ml_collections

from slot_attention import configuration

CHOICES = {
  "task": ("set_prediction", "object_discovery"),
  "slot_module": ("slot_attention",),
  "normalization": (
    "weighted_mean",
    "weighted_sum",
    "layer_norm",
    "batch_norm",
    "unnormalized",
    "kd_layer_norm",
    "scaled_mean",
  ),
  "data.source": ("clevr", "multi_object_datasets", "procedural"),
  "data.dataset": (
    "clevr",
    "tetrominoes",
    "multi_dsprites_binarized",
    "multi_dsprites_colored_on_grayscale",
    "multi_dsprites_colored_on_colored",
    "objects_room",
  ),
  "data.interpolation": ("bilinear", "nearest"),
  "eval.split": ("train_eval", "validation", "test"),
  "model.matching": ("optax", "scipy"),
  "model.gradient": ("all", "last"),
  "model.dtype": ("float32", "bfloat16"),
}

_POSITIVE = (
  "model.num_slots",
  "model.num_iterations",
  "model.slot_size",
  "model.mlp_hidden_size",
  "model.head_hidden_size",
  "data.num_targets",
  "optimizer.learning_rate",
  "optimizer.decay_steps",
  "optimizer.decay_rate",
  "train.batch_size",
  "train.num_steps",
  "train.log_every",
  "train.accumulation_steps",
  "eval.every",
  "eval.batch_size",
  "checkpoint.every",
  "checkpoint.keep",
)


def validate(config: ml_collections.ConfigDict, num_devices: int = 1) -> None:
  """Checks values and combinations before anything is built.

  Args:
    config: every key of `get_default`.
    num_devices: devices over which a batch is divided.

  Raises:
    configuration.ConfigError: one sentence with the key, its value and what is
      allowed.
  """
  for key, choices in CHOICES.items():
    _require(
      _get(config, key) in choices,
      key,
      _get(config, key),
      f"one of {', '.join(choices)}",
    )
  for key in _POSITIVE:
    _require(_get(config, key) > 0, key, _get(config, key), "more than 0")
  _validate_data(config)
  _validate_model(config)
  _validate_batches(config, num_devices)
  mode = config.checkpoint.best_mode
  _require(
    mode in ("max", "min"), "checkpoint.best_mode", mode, "one of max, min"
  )


def _validate_data(config: ml_collections.ConfigDict) -> None:
  data = config.data
  _require(
    len(data.resolution) == 2 and min(data.resolution) >= 8,
    "data.resolution",
    data.resolution,
    "(height, width), each at least 8 pixels",
  )
  _require(
    0 <= data.min_num_objects <= data.max_num_objects,
    "data.min_num_objects",
    data.min_num_objects,
    f"between 0 and data.max_num_objects = {data.max_num_objects}",
  )
  _require(
    data.num_targets >= data.max_num_objects,
    "data.num_targets",
    data.num_targets,
    f"at least data.max_num_objects = {data.max_num_objects}",
  )
  _require(
    len(data.crop) in (0, 4), "data.crop", data.crop, "() or four numbers"
  )
  procedural = data.procedural
  num_train = procedural.num_train
  _require(
    num_train == 0 or num_train >= config.train.batch_size,
    "data.procedural.num_train",
    num_train,
    "0 (an endless stream) or at least train.batch_size = "
    f"{config.train.batch_size}",
  )
  if data.source == "procedural":
    _require(
      config.eval.num_examples > 0,
      "eval.num_examples",
      config.eval.num_examples,
      "more than 0, since procedural splits have no end",
    )


def _validate_model(config: ml_collections.ConfigDict) -> None:
  model = config.model
  _require(
    len(model.encoder_channels) == len(model.encoder_strides) > 0,
    "model.encoder_strides",
    model.encoder_strides,
    f"one stride for each of model.encoder_channels = {model.encoder_channels}",
  )
  if config.task == "object_discovery":
    _require(
      len(model.decoder_channels) == len(model.decoder_strides),
      "model.decoder_strides",
      model.decoder_strides,
      "one stride for each of model.decoder_channels = "
      f"{model.decoder_channels}",
    )
    scale = math.prod(model.decoder_strides)
    decoded = tuple(scale * size for size in model.decoder_resolution)
    _require(
      tuple(config.data.resolution) == decoded,
      "data.resolution",
      config.data.resolution,
      f"{decoded}, what the decoder draws (model.decoder_resolution times "
      "model.decoder_strides)",
    )
  _require(model.epsilon >= 0, "model.epsilon", model.epsilon, "0 or more")


def _validate_batches(
  config: ml_collections.ConfigDict, num_devices: int
) -> None:
  parts = num_devices * config.train.accumulation_steps
  for key, divisor in (
    ("train.batch_size", parts),
    ("eval.batch_size", num_devices),
  ):
    size = _get(config, key)
    nearest = [
      n
      for n in (size // divisor * divisor, -(-size // divisor) * divisor)
      if n > 0
    ]
    _require(
      size % divisor == 0,
      key,
      size,
      f"divisible by {divisor} ({num_devices} devices"
      + (
        f" x {config.train.accumulation_steps} train.accumulation_steps"
        if key == "train.batch_size" and parts != num_devices
        else ""
      )
      + f"), such as {' or '.join(map(str, nearest))}",
    )


def _require(condition: bool, key: str, value: Any, allowed: str) -> None:
  if not condition:
    raise configuration.ConfigError(
      f"config.{key} is {value!r}; it must be {allowed}."
    )


def _get(config: ml_collections.ConfigDict, key: str) -> Any:
  for part in key.split("."):
    config = config[part]
  return config
