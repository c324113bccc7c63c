"""The default configuration, variants (`config.py:demo`), and validation.

A config file under `configs/` starts from `get_default()` and sets what its
experiment needs. Everything else, from the command line to a finished run's
`config.json`, passes through `validate`, which is the only place that knows
which values and combinations can work.
"""

from collections.abc import Callable
import json
import math
from typing import Any

import ml_collections

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
  "data.source": ("clevr", "procedural"),
  "eval.split": ("train_eval", "validation"),
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


class ConfigError(ValueError):
  """A config that cannot work; its message is one sentence for the user."""


def get_default() -> ml_collections.ConfigDict:
  """Returns every key with the 2020 paper's values for set prediction."""
  config = ml_collections.ConfigDict()
  config.task = "set_prediction"
  config.slot_module = "slot_attention"
  config.normalization = "weighted_mean"
  config.seed = 0

  config.data = ml_collections.ConfigDict()
  config.data.source = "clevr"
  config.data.data_dir = ""  # Empty: TFDS_DATA_DIR or TFDS' own default.
  config.data.download = False  # 17.7 GB when True and CLEVR is missing.
  config.data.resolution = (128, 128)
  # (top, left, height, width) of stored images that is resized; () for all.
  config.data.crop = ()
  config.data.min_num_objects = 3
  config.data.max_num_objects = 10
  config.data.num_targets = 10  # Rows of `target`, objects and padding.
  # Procedural scenes. window is (top, left, height, width) of a 240x320 view;
  # CLEVR's 320x480 images show the part below.
  config.data.procedural = ml_collections.ConfigDict()
  config.data.procedural.num_train = 0  # 0: an endless stream of new scenes.
  config.data.procedural.seed = 0  # Which scenes; config.seed sets the order.
  config.data.procedural.window = (40 / 3, 0.0, 640 / 3, 320.0)
  config.data.procedural.position_range = 3.0
  config.data.procedural.min_visible_pixels = 200
  config.data.procedural.antialias = 2

  config.model = ml_collections.ConfigDict()
  config.model.num_slots = 10
  config.model.num_iterations = 3
  config.model.slot_size = 64
  config.model.mlp_hidden_size = 128
  config.model.head_hidden_size = 64
  config.model.epsilon = 1e-8
  config.model.layer_norm_epsilon = 1e-3  # In the slot module; PyTorch: 1e-5.
  config.model.gradient = "all"  # Iterations that carry it; or "last".
  config.model.log_sigma_offset = 0.0  # Of the initial slots; see README.
  config.model.encoder_channels = (64, 64, 64, 64)
  config.model.encoder_strides = (1, 2, 2, 1)
  config.model.decoder_resolution = (8, 8)  # Where slots are broadcast to.
  config.model.decoder_channels = (64, 64, 64, 64, 64)
  config.model.decoder_strides = (2, 2, 2, 2, 1)
  config.model.matching = "optax"
  config.model.dtype = "float32"  # Of matrix products; see README, precision.
  config.model.remat = False  # Recompute activations: less memory, more time.

  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.learning_rate = 4e-4
  config.optimizer.warmup_steps = 1_000
  config.optimizer.decay_rate = 0.5
  config.optimizer.decay_steps = 50_000
  config.optimizer.b1 = 0.9
  config.optimizer.b2 = 0.999
  config.optimizer.epsilon = 1e-8

  config.train = ml_collections.ConfigDict()
  config.train.batch_size = 512  # Over all devices of all hosts.
  config.train.num_steps = 150_000
  config.train.log_every = 100
  config.train.accumulation_steps = 1  # Micro-batches per step.

  config.eval = ml_collections.ConfigDict()
  config.eval.every = 10_000
  config.eval.split = "validation"
  config.eval.num_examples = 0  # 0: the whole split.
  config.eval.batch_size = 512
  config.eval.num_figures = 8

  config.checkpoint = ml_collections.ConfigDict()
  config.checkpoint.every = 5_000
  config.checkpoint.keep = 2  # Latest ones; the best one is kept besides.
  config.checkpoint.best_metric = "eval/ap_0.5"
  config.checkpoint.best_mode = "max"
  return config


def apply_variants(
  config: ml_collections.ConfigDict,
  arg: str | None,
  variants: dict[str, Callable[[ml_collections.ConfigDict], None]],
) -> ml_collections.ConfigDict:
  """Applies the comma-separated variants behind the colon of `--config`.

  Args:
    config: changed in place.
    arg: what stands behind the colon, such as "demo", or None.
    variants: functions that change a config, by name.

  Returns:
    The config.

  Raises:
    ConfigError: a name is not among the variants.
  """
  for name in filter(None, (arg or "").split(",")):
    if name not in variants:
      raise ConfigError(
        f"The config has no variant {name!r}; it has {', '.join(variants)}."
      )
    variants[name](config)
  return config


def shrink(config: ml_collections.ConfigDict) -> None:
  """Makes any config run in seconds on procedural scenes: `:smoke`."""
  config.data.source = "procedural"
  config.data.resolution = (16, 16)
  config.data.min_num_objects = 1
  config.data.max_num_objects = 3
  config.data.num_targets = 4
  config.data.procedural.num_train = 16
  config.data.procedural.min_visible_pixels = 0
  config.data.procedural.antialias = 1
  config.model.num_slots = 4
  config.model.slot_size = 8
  config.model.mlp_hidden_size = 16
  config.model.encoder_channels = (8, 8)
  config.train.batch_size = 8
  config.train.num_steps = 4
  config.train.log_every = 1
  config.eval.every = 2
  config.eval.num_examples = 12
  config.eval.batch_size = 8
  config.eval.num_figures = 2
  config.checkpoint.every = 2


def validate(config: ml_collections.ConfigDict, num_devices: int = 1) -> None:
  """Checks values and combinations before anything is built.

  Args:
    config: every key of `get_default`.
    num_devices: devices over which a batch is divided.

  Raises:
    ConfigError: one sentence with the key, its value and what is allowed.
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


def from_json(text: str) -> ml_collections.ConfigDict:
  """Reads what `to_json` wrote, with the defaults' types (tuples, floats)."""
  config = get_default()
  known = flatten(config)
  values = dict(_flatten(json.loads(text)))
  unknown = sorted(values.keys() - known.keys())
  if unknown:
    raise ConfigError(
      f"The saved config has keys that this version does not know: "
      f"{', '.join(unknown)}; use the version that wrote it."
    )
  config.update_from_flattened_dict(
    {
      key: tuple(value) if isinstance(value, list) else value
      for key, value in values.items()
    }
  )
  return config


def to_json(config: ml_collections.ConfigDict) -> str:
  """Returns the config as indented JSON."""
  return json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n"


def flatten(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns {"train.batch_size": 512, ...}, for logs and hyper-parameters."""
  return dict(_flatten(config.to_dict()))


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
    raise ConfigError(f"config.{key} is {value!r}; it must be {allowed}.")


def _get(config: ml_collections.ConfigDict, key: str) -> Any:
  for part in key.split("."):
    config = config[part]
  return config


def _flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
  items: list[tuple[str, Any]] = []
  for key, value in tree.items():
    if isinstance(value, dict):
      items.extend(_flatten(value, f"{prefix}{key}."))
    else:
      items.append((prefix + key, value))
  return items
