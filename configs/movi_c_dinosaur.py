"""DINOSAUR on MOVi-C: Krimmel et al. (TMLR 2024), appendix F and Table 1.

    python -m slot_attention.main --workdir=runs/movi_c \
      --config=configs/movi_c_dinosaur.py --config.data.data_dir=/data/tfds \
      --config.model.vit.weights=/data/dino_vitbase8_pretrain.pth

The directory holds movi_c/256x256/1.0.0 of TFDS; the weights are DINO's own
file or timm's vit_base_patch8_224.dino (model.safetensors). Features are
computed in every step; `python -m slot_attention.data.prepare features` does it
once for all, and `--config.data.features=precomputed` then reads them.

The config is the paper's (10, 11): videos of up to 10 objects, 11 slots.
`:c6` is (6, 7) and `:c6_11` is (6, 11): videos of up to 6 objects. Each with
`--config.normalization=weighted_mean`, `layer_norm`, `weighted_sum` or
`batch_norm`.

Then, zero-shot on MOVi-D with 24 slots,

    python -m slot_attention.evaluate --workdir=runs/movi_c --split=test \
      --dataset=movi_d --num_slots=24 --num_examples=1280

and `--num_slots=5,7,...,21 --num_objects=3,...,10` on MOVi-C itself.

Published (zero-shot on MOVi-D with 24 slots; ARI without background, squared
error of the features, ARI; median +- largest deviation of 5, or for `:c6` and
`:c6_11` 3, seeds):

              (10, 11)              (6, 7)                (6, 11)
weighted_mean 0.647 2.143 0.172     0.741 2.370 0.253     0.640 2.220 0.176
layer_norm    0.660 2.146 0.171     0.742 2.365 0.253     0.639 2.220 0.176
weighted_sum  0.722 2.223 0.204     0.797 2.475 0.242     0.709 2.309 0.205
batch_norm    0.725 2.149 0.182     0.809 2.374 0.297     0.711 2.219 0.175

Not trained here, and never run on DINO's weights.

`:vit_s8` takes DINO's smaller ViT-S/8; `:original` is what Seitzer et al. (ICLR
2023) do otherwise with features: ViT-S/8, before the last LayerNorm, of 128x128
frames. `:demo` takes minutes on two CPU cores, `:smoke` seconds: both draw
scenes, and group features of a tiny transformer with random weights.
"""

import ml_collections

from slot_attention import configuration


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the config of paper C."""
  config = configuration.get_dinosaur()
  config.data.source = "movi"
  config.data.dataset = "movi_c"
  return configuration.apply_variants(config, arg, VARIANTS)


def _c6_11(config: ml_collections.ConfigDict) -> None:
  """Videos of up to six objects, 11 slots."""
  config.data.max_num_objects = 6


def _c6(config: ml_collections.ConfigDict) -> None:
  """Videos of up to six objects, 7 slots."""
  _c6_11(config)
  config.model.num_slots = 7


def _vit_s8(config: ml_collections.ConfigDict) -> None:
  """DINO's ViT-S/8: half the width."""
  config.model.vit.width = 384
  config.model.vit.num_heads = 6


def _original(config: ml_collections.ConfigDict) -> None:
  """Features as the original DINOSAUR computes them on MOVi-C."""
  _vit_s8(config)
  config.data.tfds_config = "128x128"
  config.data.resolution = (128, 128)
  config.model.vit.final_norm = False
  config.model.vit.clamp = True


def _tiny(config: ml_collections.ConfigDict) -> None:
  """A transformer of 8x8 patches with random weights."""
  config.data.dataset = "clevr"
  config.model.vit.init = "random"
  config.model.vit.image_size = 32
  config.model.vit.patch_size = 4
  config.model.vit.width = 32
  config.model.vit.depth = 1
  config.model.vit.num_heads = 2


def _demo(config: ml_collections.ConfigDict) -> None:
  """Minutes on two CPU cores: two or three objects, seen from nearby."""
  _tiny(config)
  configuration.use_demo_schedule(config)
  configuration.use_near_scenes(config)
  config.model.num_slots = 4
  config.model.slot_size = 32
  config.model.mlp_hidden_size = 64
  config.model.encoder_channels = (32,)
  config.model.decoder_channels = (64, 64)
  config.eval.num_examples = 320


def _smoke(config: ml_collections.ConfigDict) -> None:
  """Seconds, to see that everything runs."""
  _tiny(config)
  configuration.shrink(config)
  config.model.encoder_channels = (8,)
  config.model.decoder_channels = (8, 8)


VARIANTS = {
  "c6": _c6,
  "c6_11": _c6_11,
  "vit_s8": _vit_s8,
  "original": _original,
  "demo": _demo,
  "smoke": _smoke,
}
