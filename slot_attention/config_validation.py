"""Which values and combinations of a config can work.

Every config, from the command line to a finished run's `config.json`, passes
through `validate` before anything is built.
"""

import math
from typing import Any

import ml_collections

from slot_attention import configuration
from slot_attention.data import multi_object_specs
from slot_attention.modules import input_transformer

CHOICES = {
  "task": ("set_prediction", "object_discovery"),
  "slot_module": (
    "slot_attention",
    "slot_mixture",
    "slot_mlp",
    "kmeans",
    "gmm",
  ),
  "normalization": (
    "weighted_mean",
    "weighted_sum",
    "layer_norm",
    "batch_norm",
    "unnormalized",
    "kd_layer_norm",
    "scaled_mean",
  ),
  "optimizer.name": ("keras_adam", "adam", "adamw"),
  "optimizer.schedule": (
    "warmup_exponential",
    "warmup_then_decay",
    "one_cycle",
    "constant",
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
  "model.head": ("joint", "split"),
  "model.coordinate_range": ("unit", "symmetric"),
  "model.mixture.values_from": ("inputs", "keys", "projection"),
  "model.mixture.norm_slots": ("none", "queries", "state"),
  "model.mixture.log_density": ("gaussian", "distance"),
  "model.mixture.content": ("variance", "log_sigma"),
  "model.mixture.output": ("matrix", "mlp", "none"),
  "model.softmax_axis": ("slots", "inputs"),
  "model.epsilon_placement": ("attention", "savi"),
  "model.slot_initialization": ("shared", "per_slot"),
  "model.conv_padding": ("same", "torch"),
  "model.dtype": ("float32", "bfloat16"),
}

# Only slot_attention has these; elsewhere they must be as they are by default.
_ABLATIONS = (
  "softmax_axis",
  "use_gru",
  "use_layer_norm",
  "use_mlp",
  "temperature",
  "epsilon_placement",
)

_POSITIVE = (
  "model.num_slots",
  "model.num_iterations",
  "model.slot_size",
  "model.mlp_hidden_size",
  "model.head_hidden_size",
  "model.coordinate_scale",
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
  _validate_optimizer(config)
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
  _validate_source(config)
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
    if data.dataset != "clevr":
      _validate_procedural(config)


def _validate_source(config: ml_collections.ConfigDict) -> None:
  """Checks what belongs to one source or one kind of batches."""
  data = config.data
  sizes = data.split_sizes
  _require(
    len(sizes) == 3 and min(sizes) >= 0 and sizes[0] > 0,
    "data.split_sizes",
    sizes,
    "three numbers of records (train, validation, test), 0 or more, and of "
    "train more than 0",
  )
  if data.source == "clevr":
    _require(
      data.dataset == "clevr",
      "data.dataset",
      data.dataset,
      "clevr where data.source is clevr; the others are in "
      "data.source = multi_object_datasets",
    )
  if config.task == "set_prediction":
    _require(
      data.source != "multi_object_datasets",
      "data.source",
      data.source,
      "clevr or procedural for set_prediction, since the Multi-Object Datasets "
      "are read without targets",
    )
    _require(
      not data.horizontal_flip,
      "data.horizontal_flip",
      data.horizontal_flip,
      "False for set_prediction, whose coordinates are not flipped",
    )


def _validate_procedural(config: ml_collections.ConfigDict) -> None:
  """Checks the sets that are drawn in the form of their files only."""
  data = config.data
  name = data.dataset
  _require(
    name != "objects_room",
    "data.dataset",
    name,
    "another where data.source is procedural, which does not draw this one",
  )
  _require(
    config.task != "set_prediction",
    "task",
    config.task,
    f"another where data.dataset is {name}, which has no targets",
  )
  spec = multi_object_specs.SPECS[name]
  size = spec.features["image"].shape[:2]
  _require(
    tuple(data.resolution) == size,
    "data.resolution",
    data.resolution,
    f"{size}, the size of the images of {name}",
  )
  most = spec.num_entities - 1
  least = most if name == "tetrominoes" else 1
  _require(
    least <= data.min_num_objects <= most,
    "data.min_num_objects",
    data.min_num_objects,
    f"from {least} to {most}, the objects in procedural scenes of {name}",
  )
  _require(
    data.max_num_objects <= most,
    "data.max_num_objects",
    data.max_num_objects,
    f"at most {most}, the objects in procedural scenes of {name}",
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
  if config.slot_module == "slot_mlp":
    _require(
      model.num_iterations == 1,
      "model.num_iterations",
      model.num_iterations,
      "1 with slot_module = slot_mlp, which does not iterate",
    )
  if config.slot_module != "slot_attention":
    default = configuration.get_default().model
    for key in _ABLATIONS:
      _require(
        model[key] == default[key],
        f"model.{key}",
        model[key],
        f"{default[key]!r} with slot_module = {config.slot_module}",
      )
  if config.slot_module in ("slot_mixture", "kmeans", "gmm"):
    _validate_clustering(config)
  _require(model.epsilon >= 0, "model.epsilon", model.epsilon, "0 or more")


def _validate_clustering(config: ml_collections.ConfigDict) -> None:
  """Checks what the slot modules that are mixtures or k-means need."""
  model, mixture = config.model, config.model.mixture
  _require(
    config.normalization == "weighted_mean",
    "normalization",
    config.normalization,
    f"weighted_mean with slot_module = {config.slot_module}, which is defined "
    "by means",
  )
  width = model.encoder_channels[-1]
  learned = config.slot_module == "slot_mixture"
  _require(
    width == model.slot_size or (learned and mixture.values_from != "inputs"),
    "model.slot_size",
    model.slot_size,
    f"{width}, the last of model.encoder_channels, since slots are means of "
    "the inputs themselves",
  )
  for key in ("density_floor", "transformer_blocks"):
    _require(
      mixture[key] >= 0, f"model.mixture.{key}", mixture[key], "0 or more"
    )
  if learned and mixture.transformer_blocks:
    heads = input_transformer.NUM_HEADS
    _require(
      width % heads == 0,
      "model.encoder_channels",
      model.encoder_channels,
      f"divisible by {heads}, the transformer's heads, at the end",
    )
    _require(
      model.slot_initialization == "shared",
      "model.slot_initialization",
      model.slot_initialization,
      "shared with model.mixture.transformer_blocks > 0, where each image says "
      "how its slots start",
    )


def _validate_optimizer(config: ml_collections.ConfigDict) -> None:
  optimizer = config.optimizer
  for key in ("clip_norm", "weight_decay", "warmup_steps"):
    _require(
      optimizer[key] >= 0, f"optimizer.{key}", optimizer[key], "0 or more"
    )
  fraction = optimizer.one_cycle_warmup_fraction
  _require(
    0 < fraction < 1,
    "optimizer.one_cycle_warmup_fraction",
    fraction,
    "between 0 and 1",
  )
  _require(
    not optimizer.one_cycle_momentum
    or (optimizer.schedule == "one_cycle" and optimizer.name != "keras_adam"),
    "optimizer.one_cycle_momentum",
    True,
    "False unless optimizer.schedule is one_cycle and optimizer.name adam or "
    "adamw",
  )


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
