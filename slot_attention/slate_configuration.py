"""What the configs of SLATE share: paper B's settings and the variants."""

from collections.abc import Callable

import ml_collections

from slot_attention import configuration

# Sets with procedural scenes of their own; others are drawn as CLEVR.
_DRAWN = ("clevr_mirror", "clevrtex")


def get_slate() -> ml_collections.ConfigDict:
  """Returns paper B's values (Table 7) for SLATE.

  What the paper does not give is SLATE's own: learning rates and warm-up,
  clipping, dropout, and the hidden width of the slots' MLP.
  """
  config = configuration.get_default()
  config.task = "slate"
  config.data.source = "image_folder"
  config.data.resolution = (96, 96)
  config.data.interpolation = "bilinear_antialiased"
  config.data.min_num_objects = 0
  model = config.model
  model.num_slots = 12
  model.num_iterations = 7
  model.slot_size = 192
  model.mlp_hidden_size = 192
  model.gradient = "last"
  model.torch_slots = True
  model.layer_norm_epsilon = 1e-5
  model.encoder_layer_norm_epsilon = 1e-5
  model.encoder_channels = (192,)
  model.encoder_strides = (4,)  # The dVAE's.
  optimizer = config.optimizer
  optimizer.name = "adam"
  optimizer.learning_rate = 1e-4
  optimizer.warmup_steps = 30_000
  optimizer.warmup_start = 1
  optimizer.decay_rate = 1.0  # 0.5 halves it every 250,000 steps, as STEVE.
  optimizer.decay_steps = 250_000
  optimizer.dvae_learning_rate = 3e-4
  optimizer.clip_norm = 1.0
  optimizer.clipping = "largest_entry"
  config.train.batch_size = 64
  config.train.num_steps = 250_000
  config.eval.batch_size = 64
  config.eval.num_examples = 320
  config.checkpoint.best_metric = "eval/loss"
  config.checkpoint.best_mode = "min"
  return config


def use_slot_mixture(config: ml_collections.ConfigDict) -> None:
  """Puts the Slot Mixture Module in Slot Attention's place (paper B)."""
  config.slot_module = "slot_mixture"


def use_original(config: ml_collections.ConfigDict) -> None:
  """Takes the settings of SLATE's code; numbers of slots stay the data's.

  Its epochs are those of 3D Shapes: 20 of 8,000 steps. All learning rates are
  halved after four without a lower validation loss.
  """
  config.data.resolution = (64, 64)
  config.model.num_iterations = 3
  config.model.gradient = "all"
  config.model.slate.vocab_size = 1024
  config.model.slate.num_blocks = 4
  config.model.slate.num_heads = 4
  config.optimizer.plateau_patience = 4
  config.train.batch_size = 50
  config.train.num_steps = 160_000
  config.eval.every = 8_000
  config.eval.batch_size = 50
  config.eval.num_examples = 0


def use_demo(config: ml_collections.ConfigDict) -> None:
  """Sets minutes on two CPU cores: small images of two or three objects."""
  config.data.source = "procedural"
  if config.data.dataset not in _DRAWN:
    config.data.dataset = "clevr"
  config.data.center_crop = 0.0
  configuration.use_near_scenes(config)
  model = config.model
  model.num_slots = 4
  model.num_iterations = 3
  model.slot_size = 64
  model.mlp_hidden_size = 64
  model.encoder_channels = (64,)
  model.slate.vocab_size = 64
  model.slate.num_blocks = 2
  model.slate.num_heads = 4
  model.slate.temperature_steps = 3_000
  config.optimizer.learning_rate = 3e-4
  config.optimizer.warmup_steps = 500
  config.optimizer.dvae_learning_rate = 1e-3
  config.train.batch_size = 16
  config.train.num_steps = 4_000
  config.train.log_every = 250
  config.eval.every = 1_000
  config.checkpoint.every = 2_000


def use_smoke(config: ml_collections.ConfigDict) -> None:
  """Sets seconds, to see that everything runs."""
  config.data.dataset = "clevr"
  configuration.shrink(config)
  config.data.center_crop = 0.0
  config.model.num_iterations = 2
  config.model.encoder_channels = (8,)
  config.model.slate.vocab_size = 16
  config.model.slate.num_blocks = 1
  config.model.slate.num_heads = 2


VARIANTS: dict[str, Callable[[ml_collections.ConfigDict], None]] = {
  "slot_mixture": use_slot_mixture,
  "original": use_original,
  "demo": use_demo,
  "smoke": use_smoke,
}
