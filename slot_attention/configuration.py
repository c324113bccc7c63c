"""The default configuration, variants (`config.py:demo`), and JSON.

A config file under `configs/` starts from `get_default()` and sets what its
experiment needs; `config_validation` says which values can work.
"""

from collections.abc import Callable
import dataclasses
import json
from typing import Any

import ml_collections

from slot_attention.modules import slot_mixture


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
  config.data.source = "clevr"  # TFDS' CLEVR; see pipeline.SOURCES.
  config.data.dataset = "clevr"  # Which of a source that has several.
  config.data.data_dir = ""  # Empty: TFDS_DATA_DIR or TFDS' own default.
  config.data.download = False  # 17.7 GB when True and CLEVR is missing.
  config.data.resolution = (128, 128)
  # (top, left, height, width) of stored images that is resized; () for all.
  config.data.crop = ()
  config.data.interpolation = "bilinear"  # Of images; masks take the nearest.
  # image_folder: side of a square in the middle that is resized, instead of a
  # crop; up to 1 of the shorter side, otherwise in pixels; 0 for the whole.
  config.data.center_crop = 0.0
  config.data.variant = ""  # image_folder: of a data set that has several.
  # Of task=dinosaur: from images, or "precomputed" by `prepare features`.
  config.data.features = "on_the_fly"
  config.data.features_dir = ""  # What `prepare features` wrote.
  config.data.tfds_config = "256x256"  # movi: size of the stored frames.
  config.data.keep_on_devices = False  # Read the training split once, whole.
  config.data.horizontal_flip = False  # Half of the training images.
  config.data.grayscale = False
  # multi_object_datasets: consecutive records of train, validation and test.
  config.data.split_sizes = (70_000, 0, 320)
  config.data.min_num_objects = 3  # image_folder: 0 for all images.
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
  config.model.head = "joint"  # Set prediction: one MLP; "split": two.
  config.model.head_hidden_size = 64
  # Of coordinates in the loss, [0, 1] or "symmetric" [-1, 1], and a factor.
  config.model.coordinate_range = "unit"
  config.model.coordinate_scale = 1.0
  config.model.epsilon = 1e-8
  config.model.layer_norm_epsilon = 1e-3  # In the slot module; PyTorch: 1e-5.
  config.model.gradient = "all"  # Iterations that carry it; or "last".
  # Ablations of slot_attention (paper A, appendix B), see its Ablations. The
  # paper shows curves, not numbers; what it says of them stands here.
  config.model.softmax_axis = "slots"  # Figure 10; "inputs": far worse.
  config.model.use_gru = True  # Figure 11; without: worse.
  config.model.use_layer_norm = True  # Figure 13; without: worse positions.
  config.model.use_mlp = True  # Figure 14; without: faster set prediction.
  config.model.temperature = 0.0  # Figure 15; 0: sqrt(slot_size); 1.0: worse.
  config.model.epsilon_placement = "attention"  # Figure 16; "savi": no change.
  config.model.slot_initialization = "shared"  # Figure 9; or "per_slot".
  config.model.position_embedding = True  # Figure 8, of the encoder.
  config.model.stepwise_loss = False  # Loss at every iteration (Figure 23).
  config.model.log_sigma_offset = 0.0  # Of the initial slots; see README.
  config.model.torch_slots = False  # PyTorch's bounds for mu and log_sigma.
  # Of slot_module=slot_mixture; see slot_mixture.Options and its VARIANTS.
  config.model.mixture = ml_collections.ConfigDict(
    dataclasses.asdict(slot_mixture.Options())
  )
  config.model.encoder_channels = (64, 64, 64, 64)
  config.model.encoder_strides = (1, 2, 2, 1)
  config.model.encoder_layer_norm_epsilon = 1e-3
  config.model.conv_padding = "same"  # "torch": for weights from PyTorch code.
  config.model.slot_mlp_resolution = (16, 16)  # Of its features, appendix E.5.
  config.model.slot_mlp_hidden_sizes = (512, 512)  # Ours: see BUILD_NOTES.md.
  config.model.decoder_resolution = (8, 8)  # Where slots are broadcast to.
  config.model.decoder_channels = (64, 64, 64, 64, 64)
  config.model.decoder_strides = (2, 2, 2, 2, 1)
  # Of task=slate; see tasks.slate. Its width is the last of encoder_channels.
  config.model.slate = ml_collections.ConfigDict()
  config.model.slate.vocab_size = 4096
  config.model.slate.num_blocks = 8
  config.model.slate.num_heads = 8
  config.model.slate.dropout = 0.1
  config.model.slate.straight_through = False
  config.model.slate.temperature_start = 1.0  # Of the Gumbel-softmax.
  config.model.slate.temperature_end = 0.1
  config.model.slate.temperature_steps = 30_000
  # Of task=dinosaur: the frozen transformer whose features are explained. Its
  # slot module's inputs have the last of encoder_channels, and its decoder's
  # hidden layers decoder_channels.
  config.model.vit = ml_collections.ConfigDict()
  config.model.vit.weights = ""  # timm's .safetensors or DINO's .pth file.
  config.model.vit.init = "weights"  # Or "random", from the seed below.
  config.model.vit.seed = 0
  config.model.vit.image_size = 224  # To which frames are resized.
  config.model.vit.patch_size = 8
  config.model.vit.width = 768
  config.model.vit.depth = 12
  config.model.vit.num_heads = 12
  config.model.vit.final_norm = True  # Of features; False: block 12 as it is.
  config.model.vit.clamp = False  # Resized pixels to those of images.
  config.model.vit.dtype = "float32"
  config.model.matching = "optax"
  config.model.dtype = "float32"  # Of matrix products; see README, precision.
  config.model.remat = False  # Recompute activations: less memory, more time.

  config.optimizer = ml_collections.ConfigDict()
  config.optimizer.name = "keras_adam"  # See optimizers.OPTIMIZERS.
  config.optimizer.schedule = "warmup_exponential"  # optimizers.SCHEDULES.
  config.optimizer.learning_rate = 4e-4
  config.optimizer.warmup_steps = 1_000
  config.optimizer.decay_rate = 0.5
  config.optimizer.decay_steps = 50_000
  config.optimizer.b1 = 0.9
  config.optimizer.b2 = 0.999
  config.optimizer.epsilon = 1e-8
  config.optimizer.weight_decay = 0.01  # Of adamw.
  config.optimizer.clip_norm = 0.0  # Largest norm of all gradients; 0: any.
  config.optimizer.clipping = "global_norm"  # Or that of the "largest_entry".
  config.optimizer.warmup_start = 0  # What warmup_exponential counts step 0 as.
  # Of parameters called "dvae"; a rate of 0: as all others.
  config.optimizer.dvae_learning_rate = 0.0
  config.optimizer.dvae_schedule = "constant"
  # After so many evaluations without a lower loss all rates are cut; 0: never.
  config.optimizer.plateau_patience = 0
  config.optimizer.plateau_factor = 0.5
  config.optimizer.warmup_start_factor = 1e-3  # Of warmup_then_decay.
  config.optimizer.one_cycle_warmup_fraction = 0.3  # Of the steps.
  config.optimizer.one_cycle_momentum = False  # b1 from .95 to .85 and back.

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
  config.eval.num_iterations = 0  # 0: model.num_iterations.
  config.eval.num_figures = 8
  config.eval.autoregressive = True  # SLATE: the mse of generated images.

  config.checkpoint = ml_collections.ConfigDict()
  config.checkpoint.every = 5_000
  config.checkpoint.keep = 2  # Latest ones; the best one is kept besides.
  config.checkpoint.best_metric = "eval/ap_0.5"
  config.checkpoint.best_mode = "max"
  return config


def get_object_discovery() -> ml_collections.ConfigDict:
  """Returns the 2020 paper's values for object discovery, those of CLEVR6."""
  config = get_default()
  config.task = "object_discovery"
  config.data.max_num_objects = 6
  config.model.num_slots = 7
  config.model.encoder_strides = (1, 1, 1, 1)
  config.optimizer.warmup_steps = 10_000
  config.optimizer.decay_steps = 100_000
  config.train.batch_size = 64
  config.train.num_steps = 500_000
  config.eval.batch_size = 64
  config.eval.num_examples = 320
  config.eval.split = "test"
  config.checkpoint.best_metric = "eval/mse"
  config.checkpoint.best_mode = "min"
  return config


def get_dinosaur() -> ml_collections.ConfigDict:
  """Returns paper C's values for DINOSAUR on MOVi-C (appendix F)."""
  config = get_object_discovery()
  config.task = "dinosaur"
  config.data.features = "on_the_fly"
  config.data.resolution = (256, 256)
  config.data.min_num_objects = 0
  config.data.max_num_objects = 10
  config.data.num_targets = 24  # Ids go to 23 on MOVi-D.
  config.model.num_slots = 11
  config.model.slot_size = 128
  config.model.mlp_hidden_size = 512
  config.model.layer_norm_epsilon = 1e-5
  config.model.torch_slots = True
  config.model.encoder_channels = (128,)
  config.model.encoder_strides = (1,)
  config.model.decoder_channels = (1024, 1024, 1024)
  config.model.remat = True  # A seventh of the memory; see BUILD_NOTES.md.
  config.optimizer.name = "adam"
  config.optimizer.schedule = "warmup_then_decay"
  config.optimizer.warmup_start_factor = 1e-8
  config.optimizer.clip_norm = 1.0
  config.eval.num_examples = 1_280
  return config


def use_small_images(config: ml_collections.ConfigDict) -> None:
  """Sets the networks for Tetrominoes and Multi-dSprites (tables 4 and 6)."""
  config.model.encoder_channels = (32, 32, 32, 32)
  config.model.decoder_resolution = config.data.resolution
  config.model.decoder_channels = (32, 32, 32)
  config.model.decoder_strides = (1, 1, 1)


def use_slot_mlp(config: ml_collections.ConfigDict) -> None:
  """Takes the baseline without iterations (paper A, appendix E.5)."""
  config.slot_module = "slot_mlp"
  config.model.num_iterations = 1


def use_demo_schedule(config: ml_collections.ConfigDict) -> None:
  """Sets procedural data and a short training for two CPU cores: `:demo`."""
  config.data.source = "procedural"
  # Both make slots find objects sooner, and in more seeds: see BUILD_NOTES.md.
  config.model.log_sigma_offset = -4.0
  config.model.gradient = "last"
  config.optimizer.learning_rate = 1e-3
  config.optimizer.warmup_steps = 500
  config.optimizer.decay_steps = 7_000
  config.train.batch_size = 8
  config.train.num_steps = 10_000
  config.train.log_every = 500
  config.eval.every = 5_000
  config.checkpoint.every = 5_000


def use_near_scenes(config: ml_collections.ConfigDict) -> None:
  """Sets small views of two or three objects, seen from nearby: `:demo`."""
  config.data.resolution = (32, 32)
  config.data.min_num_objects = 2
  config.data.max_num_objects = 3
  config.data.procedural.num_train = 20_000
  config.data.procedural.window = (18, 66, 190, 190)
  config.data.procedural.position_range = 1.5
  config.data.procedural.min_visible_pixels = 0
  config.data.procedural.antialias = 1


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
  if config.data.dataset == "clevr":  # The other sets' scenes have one size.
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


def require(condition: bool, key: str, value: Any, allowed: str) -> None:
  """Raises a ConfigError that says what a key must be, unless it holds."""
  if not condition:
    raise ConfigError(f"config.{key} is {value!r}; it must be {allowed}.")


def get(config: ml_collections.ConfigDict, key: str) -> Any:
  """Returns config.train.batch_size for "train.batch_size"."""
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
