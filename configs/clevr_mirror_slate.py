"""SLATE on CLEVR-Mirror: Kirilenko et al. (paper B), Tables 2 and 7, Figure 2.

    python -m slot_attention.main --config=configs/clevr_mirror_slate.py \
      --workdir=runs/clevr_mirror --config.data.data_dir=/data/clevr_mirror

The directory holds the PNG files as published, in `images`, with or without
`scenes`; the first 70 % by name are for training, the next 15 % for validation.
The table is of the test split:

    python -m slot_attention.evaluate --workdir=RUN --split=test \
      --num_examples=0

Published: Slot Attention MSE 4.5, cross-entropy 0.82, FID 35.4;
`:slot_mixture` 4.3, 0.20 and 34.8. MSE (eval/mse) is of images that are
generated from slots, summed over pixels and channels in [0, 1]; cross-entropy
is summed over tokens. Not trained to the end here.

Not given in the paper, and therefore as in SLATE's code: learning rates,
warm-up, clipping, dropout, the hidden width of the slots' MLP. Whether its 7
iterations include the one that carries the gradient is not said; here they do.

Variants: `:slot_mixture`, `:original` (the settings of SLATE's code), `:demo`
(minutes on two CPU cores) and `:smoke` (seconds); the last two draw scenes and
read no files. Several at once: `:slot_mixture,demo`.
"""

import ml_collections

from slot_attention import configuration
from slot_attention import slate_configuration

VARIANTS = slate_configuration.VARIANTS


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the config of paper B."""
  config = slate_configuration.get_slate()
  config.data.dataset = "clevr_mirror"
  config.data.resolution = (64, 64)
  return configuration.apply_variants(config, arg, VARIANTS)
