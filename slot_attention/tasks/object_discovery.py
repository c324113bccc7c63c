"""Unsupervised object discovery (paper A, sections 2.2 and 4.1)."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import figures
from slot_attention import losses
from slot_attention.metrics import ari
from slot_attention.modules import decoders
from slot_attention.tasks import base


class SlotAttentionAutoEncoder(base.SlotModel):
  """Encoder, slots, and a decoder that draws each slot on its own.

  Attributes:
    decoder: slots -> colors and mask logits.
  """

  decoder: nn.Module

  def __call__(
    self,
    images: jax.Array,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    slot_noise: jax.Array | None = None,
    train: bool = False,
  ) -> dict[str, jax.Array]:
    """Reconstructs images.

    Args:
      images: [b, h, w, 3] in [-1, 1].
      num_slots: see `SlotModel.infer_slots`, and for the others.
      num_iterations: t.
      slot_noise: [b, k, d].
      train: whether in training.

    Returns:
      `reconstruction` [b, h, w, 3], `slot_reconstructions` [b, k, h, w, 3],
      `masks` [b, k, h, w], `attention` [b, t, k, n] and `slots` [b, k, d].
    """
    output = self.infer_slots(
      images, num_slots, num_iterations, slot_noise, train
    )
    colors, mask_logits = self.decoder(output.slots)
    reconstruction, masks = decoders.combine_slots(colors, mask_logits)
    return {
      "reconstruction": reconstruction,
      "slot_reconstructions": colors,
      "masks": masks,
      "attention": output.attention,
      "slots": output.slots,
    }


class ObjectDiscovery(base.SlotTask):
  """The task; see `base.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    model = config.model
    super().__init__(
      config,
      SlotAttentionAutoEncoder(
        **base.build_slots(config),
        decoder=decoders.SpatialBroadcastDecoder(
          model.decoder_resolution,
          model.decoder_channels,
          model.decoder_strides,
          base.compute_dtype(config),
        ),
      ),
    )

  def loss(
    self, variables: Mapping[str, Any], batch: base.Batch, rngs: base.Rngs
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
    """Returns the squared error, mean over batch, pixels and channels."""
    outputs, state = self.apply_train(variables, batch["image"], rngs)
    errors = losses.mean_squared_error(
      outputs["reconstruction"], batch["image"]
    )
    return jnp.mean(errors), ({}, state)

  def eval_step(
    self,
    variables: Mapping[str, Any],
    batch: base.Batch,
    rngs: base.Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
  ) -> dict[str, jax.Array]:
    """Returns the squared error and, where the data has masks, ARI."""
    outputs = self.predict(
      variables, batch["image"], rngs, num_slots, num_iterations
    )
    result = {
      "mse": losses.mean_squared_error(
        outputs["reconstruction"], batch["image"]
      )
    }
    if "segmentation" in batch:
      b, k = outputs["masks"].shape[:2]
      result |= ari.both_indices(
        batch["segmentation"].reshape(b, -1),  # [b, h, w] -> [b, h * w]
        jnp.argmax(outputs["masks"], axis=1).reshape(b, -1),
        self.config.data.max_num_objects,
        k,
      )
    return result

  def summarize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the mean of every per-image value; loss is the mse."""
    scalars = {name: float(np.mean(rows)) for name, rows in outputs.items()}
    return {"loss": scalars["mse"]} | scalars

  def figures(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> dict[str, list[np.ndarray]]:
    """Draws Figure 3a: image, reconstruction, masks and slots."""
    return {
      "slots": [
        _slots_figure(*example)
        for example in zip(
          batch["image"],
          outputs["reconstruction"],
          outputs["slot_reconstructions"],
          outputs["masks"],
          strict=True,
        )
      ]
    }


def _slots_figure(
  image: np.ndarray,
  reconstruction: np.ndarray,
  slot_reconstructions: np.ndarray,
  masks: np.ndarray,
) -> np.ndarray:
  """[h, w, 3], [h, w, 3], [k, h, w, 3], [k, h, w] -> uint8 [H, W, 3]."""
  # Unattended parts are white, as in the paper.
  slots = [
    mask[..., None] * picture + (1.0 - mask[..., None])
    for mask, picture in zip(masks, slot_reconstructions, strict=True)
  ]
  pictures = [image, reconstruction, *slots]
  pictures = [np.clip(picture, -1.0, 1.0) for picture in pictures]
  # Slots start at 1: 0 is black in the palette.
  pictures.insert(2, figures.segmentation_colors(masks.argmax(axis=0) + 1))
  names = [f"slot {i}" for i in range(len(masks))]
  return figures.image_grid(
    [[figures.enlarge(picture) for picture in pictures]],
    column_labels=["image", "reconstruction", "masks", *names],
  )
