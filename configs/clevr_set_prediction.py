"""Set prediction on CLEVR10 (paper A, section 4.2 and Figure 5)."""

import ml_collections

from slot_attention import configuration


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the config of the 2020 paper."""
  config = configuration.get_default()
  return configuration.apply_variants(
    config, arg, {"demo": _demo, "smoke": _smoke}
  )


def _demo(config: ml_collections.ConfigDict) -> None:
  """Minutes on two CPU cores."""
  config.data.source = "procedural"


def _smoke(config: ml_collections.ConfigDict) -> None:
  """Seconds, to see that everything runs."""
  _demo(config)
  config.data.resolution = (16, 16)
  config.data.procedural.num_train = 16
  config.data.procedural.min_visible_pixels = 0
  config.model.encoder_channels = (8, 8)
  config.model.encoder_strides = (2, 1)
  config.model.num_slots = 4
  config.model.slot_size = 8
  config.model.mlp_hidden_size = 16
  config.train.batch_size = 8
  config.train.num_steps = 4
  config.train.log_every = 1
  config.eval.every = 2
  config.eval.num_examples = 12
  config.eval.batch_size = 8
  config.eval.num_figures = 2
  config.checkpoint.every = 2
