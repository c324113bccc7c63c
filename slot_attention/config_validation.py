"""Which values and combinations of a config can work.

Every config, from the command line to a finished run's `config.json`, passes
through `validate` before anything is built.
"""

from collections.abc import Collection
import dataclasses
import math

import ml_collections

from slot_attention import configuration
from slot_attention import data_validation
from slot_attention import matching
from slot_attention import optimizers
from slot_attention import tasks
from slot_attention.data import pipeline
from slot_attention.data import preprocess
from slot_attention.data.folders import image_folder_layouts
from slot_attention.data.tfds import movi_spec
from slot_attention.modules import convolutions
from slot_attention.modules import dvae
from slot_attention.modules import input_transformer
from slot_attention.modules import slot_attention
from slot_attention.modules import slot_mixture
from slot_attention.modules import update_normalization
from slot_attention.tasks import slots

# Names, or the tables whose keys they are: a new entry needs no line here.
CHOICES: dict[str, Collection[str]] = {
  "task": tasks.TASKS,
  "slot_module": slots.SLOT_MODULES,
  "normalization": update_normalization.NORMALIZATIONS,
  "optimizer.name": optimizers.OPTIMIZERS,
  "optimizer.schedule": optimizers.SCHEDULES,
  "optimizer.dvae_schedule": optimizers.SCHEDULES,
  "optimizer.clipping": optimizers.CLIPPINGS,
  "data.source": pipeline.SOURCES,
  "data.dataset": (
    "clevr",
    "tetrominoes",
    "multi_dsprites_binarized",
    "multi_dsprites_colored_on_grayscale",
    "multi_dsprites_colored_on_colored",
    "objects_room",
    *image_folder_layouts.LAYOUTS,
    *movi_spec.DATASETS,
  ),
  "data.interpolation": ("bilinear", "nearest", *preprocess.ANTIALIASED),
  "data.features": ("on_the_fly", "precomputed"),
  "eval.split": ("train_eval", "validation", "test"),
  "model.matching": matching.METHODS,
  "model.gradient": ("all", "last"),
  "model.head": ("joint", "split"),
  "model.coordinate_range": ("unit", "symmetric"),
  **{
    f"model.mixture.{key}": choices
    for key, choices in slot_mixture.CHOICES.items()
  },
  "model.softmax_axis": ("slots", "inputs"),
  "model.epsilon_placement": ("attention", "savi"),
  "model.slot_initialization": ("shared", "per_slot"),
  "model.conv_padding": convolutions.PADDINGS,
  "model.dtype": ("float32", "bfloat16"),
  "model.vit.init": ("weights", "random"),
  "model.vit.dtype": ("float32", "bfloat16"),
}

# Only slot_attention has these; elsewhere they must be as they are by default.
_ABLATIONS = tuple(
  field.name for field in dataclasses.fields(slot_attention.Ablations)
)

_POSITIVE = (
  "model.num_slots",
  "model.num_iterations",
  "model.slot_size",
  "model.mlp_hidden_size",
  "model.head_hidden_size",
  "model.coordinate_scale",
  "model.vit.image_size",
  "model.vit.patch_size",
  "model.vit.width",
  "model.vit.depth",
  "model.vit.num_heads",
  "model.slate.vocab_size",
  "model.slate.num_blocks",
  "model.slate.num_heads",
  "model.slate.temperature_start",
  "model.slate.temperature_end",
  "data.num_targets",
  "optimizer.learning_rate",
  "optimizer.decay_steps",
  "optimizer.decay_rate",
  "optimizer.plateau_factor",
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
  expected = configuration.flatten(configuration.get_default())
  given = configuration.flatten(config)
  missing = [key for key in expected if key not in given]
  if missing:
    raise configuration.ConfigError(
      f"The config lacks {', '.join(missing[:3])} and {len(missing)} keys in "
      "all; begin with configuration.get_default() and change what differs."
    )
  for key, choices in CHOICES.items():
    configuration.require(
      configuration.get(config, key) in choices,
      key,
      configuration.get(config, key),
      f"one of {', '.join(choices)}",
    )
  for key in _POSITIVE:
    configuration.require(
      configuration.get(config, key) > 0,
      key,
      configuration.get(config, key),
      "more than 0",
    )
  data_validation.validate(config)
  _validate_model(config)
  _validate_batches(config, num_devices)
  _validate_optimizer(config)
  mode = config.checkpoint.best_mode
  configuration.require(
    mode in ("max", "min"), "checkpoint.best_mode", mode, "one of max, min"
  )


def _validate_model(config: ml_collections.ConfigDict) -> None:
  model = config.model
  configuration.require(
    len(model.encoder_channels) == len(model.encoder_strides) > 0,
    "model.encoder_strides",
    model.encoder_strides,
    f"one stride for each of model.encoder_channels = {model.encoder_channels}",
  )
  if config.task == "object_discovery":
    configuration.require(
      len(model.decoder_channels) == len(model.decoder_strides),
      "model.decoder_strides",
      model.decoder_strides,
      "one stride for each of model.decoder_channels = "
      f"{model.decoder_channels}",
    )
    scale = math.prod(model.decoder_strides)
    decoded = tuple(scale * size for size in model.decoder_resolution)
    configuration.require(
      tuple(config.data.resolution) == decoded,
      "data.resolution",
      config.data.resolution,
      f"{decoded}, what the decoder draws (model.decoder_resolution times "
      "model.decoder_strides)",
    )
  if config.task == "slate":
    _validate_slate(config)
  if config.task == "dinosaur":
    _validate_dinosaur(config)
  iterations = config.eval.num_iterations
  configuration.require(
    iterations >= 0, "eval.num_iterations", iterations, "0 or more"
  )
  if config.slot_module == "slot_mlp":
    for key in ("model.num_iterations", "eval.num_iterations"):
      configuration.require(
        configuration.get(config, key) <= 1,
        key,
        configuration.get(config, key),
        "1 with slot_module = slot_mlp, which does not iterate",
      )
  if config.slot_module != "slot_attention":
    default = configuration.get_default().model
    for key in _ABLATIONS:
      configuration.require(
        model[key] == default[key],
        f"model.{key}",
        model[key],
        f"{default[key]!r} with slot_module = {config.slot_module}",
      )
  if config.slot_module in ("slot_mixture", "kmeans", "gmm"):
    _validate_clustering(config)
  configuration.require(
    model.epsilon >= 0, "model.epsilon", model.epsilon, "0 or more"
  )


def _validate_slate(config: ml_collections.ConfigDict) -> None:
  """Checks what SLATE's tokens and transformer need."""
  model, options, stride = config.model, config.model.slate, dvae.STRIDE
  configuration.require(
    math.prod(model.encoder_strides) == stride,
    "model.encoder_strides",
    model.encoder_strides,
    f"strides of {stride} in all with task = slate, those of the dVAE",
  )
  configuration.require(
    all(size % stride == 0 for size in config.data.resolution),
    "data.resolution",
    config.data.resolution,
    f"divisible by {stride}, the pixels of a token",
  )
  width = model.encoder_channels[-1]
  configuration.require(
    width % options.num_heads == 0,
    "model.slate.num_heads",
    options.num_heads,
    f"a divisor of {width}, the last of model.encoder_channels",
  )
  configuration.require(
    0 <= options.dropout < 1,
    "model.slate.dropout",
    options.dropout,
    "from 0 to less than 1",
  )
  configuration.require(
    not model.stepwise_loss,
    "model.stepwise_loss",
    model.stepwise_loss,
    "False with task = slate",
  )


def _validate_dinosaur(config: ml_collections.ConfigDict) -> None:
  """Checks what DINOSAUR's transformer and features need."""
  vit, data = config.model.vit, config.data
  for key, divisor, whole in (
    ("patch_size", vit.patch_size, vit.image_size),
    ("num_heads", vit.num_heads, vit.width),
  ):
    configuration.require(
      whole % divisor == 0, f"model.vit.{key}", divisor, f"a divisor of {whole}"
    )
  height, width = data.resolution
  configuration.require(
    height == width,
    "data.resolution",
    data.resolution,
    "a square with task = dinosaur, whose transformer takes squares",
  )
  configuration.require(
    data.features == "on_the_fly" or data.source != "procedural",
    "data.features",
    data.features,
    "on_the_fly where data.source is procedural",
  )
  configuration.require(
    not config.model.stepwise_loss,
    "model.stepwise_loss",
    config.model.stepwise_loss,
    "False with task = dinosaur",
  )


def _validate_clustering(config: ml_collections.ConfigDict) -> None:
  """Checks what the slot modules that are mixtures or k-means need."""
  model, mixture = config.model, config.model.mixture
  configuration.require(
    config.normalization == "weighted_mean",
    "normalization",
    config.normalization,
    f"weighted_mean with slot_module = {config.slot_module}, which is defined "
    "by means",
  )
  width = model.encoder_channels[-1]
  learned = config.slot_module == "slot_mixture"
  configuration.require(
    width == model.slot_size or (learned and mixture.values_from != "inputs"),
    "model.slot_size",
    model.slot_size,
    f"{width}, the last of model.encoder_channels, since slots are means of "
    "the inputs themselves",
  )
  for key in ("density_floor", "transformer_blocks"):
    configuration.require(
      mixture[key] >= 0, f"model.mixture.{key}", mixture[key], "0 or more"
    )
  if learned and mixture.transformer_blocks:
    heads = input_transformer.NUM_HEADS
    configuration.require(
      width % heads == 0,
      "model.encoder_channels",
      model.encoder_channels,
      f"divisible by {heads}, the transformer's heads, at the end",
    )
    configuration.require(
      model.slot_initialization == "shared",
      "model.slot_initialization",
      model.slot_initialization,
      "shared with model.mixture.transformer_blocks > 0, where each image says "
      "how its slots start",
    )


def _validate_optimizer(config: ml_collections.ConfigDict) -> None:
  optimizer = config.optimizer
  for key in (
    "clip_norm",
    "weight_decay",
    "warmup_steps",
    "warmup_start",
    "plateau_patience",
    "dvae_learning_rate",
  ):
    configuration.require(
      optimizer[key] >= 0, f"optimizer.{key}", optimizer[key], "0 or more"
    )
  configuration.require(
    not optimizer.dvae_learning_rate or config.task == "slate",
    "optimizer.dvae_learning_rate",
    optimizer.dvae_learning_rate,
    "0 unless task is slate, which has a dVAE",
  )
  fraction = optimizer.one_cycle_warmup_fraction
  configuration.require(
    0 < fraction < 1,
    "optimizer.one_cycle_warmup_fraction",
    fraction,
    "between 0 and 1",
  )
  configuration.require(
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
    size = configuration.get(config, key)
    nearest = [
      n
      for n in (size // divisor * divisor, -(-size // divisor) * divisor)
      if n > 0
    ]
    configuration.require(
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
