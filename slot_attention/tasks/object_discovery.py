"""Unsupervised object discovery (paper A, sections 2.2 and 4.1)."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import losses
from slot_attention.figures import drawing
from slot_attention.figures import scene_views
from slot_attention.figures import slot_figures
from slot_attention.metrics import ari
from slot_attention.metrics import health
from slot_attention.metrics import segmentation
from slot_attention.modules import decoders
from slot_attention.modules import slot_attention
from slot_attention.tasks import base
from slot_attention.tasks import slots as slots_lib

# Not defined for images without objects, and for an image on its own.
_MAY_BE_UNDEFINED = ("mbo", "miou", "mask_similarity")


class SlotAttentionAutoEncoder(base.SlotModel):
  """Encoder, slots, and a decoder that draws each slot on its own.

  Attributes:
    decoder: slots -> colors and mask logits.
  """

  decoder: nn.Module

  def read_out(self, output: slot_attention.SlotOutput) -> dict[str, jax.Array]:
    """Draws the slots of the last iteration, see `decode`."""
    return self.decode(output.slots)

  def decode(self, slots: jax.Array) -> dict[str, jax.Array]:
    """Draws slots.

    Args:
      slots: [b, k, d], after any iteration.

    Returns:
      `reconstruction` [b, h, w, 3], `slot_reconstructions` [b, k, h, w, 3] and
      `masks` [b, k, h, w].
    """
    colors, mask_logits = self.decoder(slots)
    reconstruction, masks = decoders.combine_slots(colors, mask_logits)
    return {
      "reconstruction": reconstruction,
      "slot_reconstructions": colors,
      "masks": masks,
    }


class ObjectDiscovery(base.SlotTask):
  """The task; see `base.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    model = config.model
    super().__init__(
      config,
      SlotAttentionAutoEncoder(
        **slots_lib.build_slots(config),
        decoder=decoders.SpatialBroadcastDecoder(
          model.decoder_resolution,
          model.decoder_channels,
          model.decoder_strides,
          model.conv_padding,
          slots_lib.compute_dtype(config),
          model.remat,
        ),
      ),
    )

  def loss(
    self, variables: Mapping[str, Any], batch: base.Batch, rngs: base.Rngs
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
    """Returns the squared error, mean over batch, pixels and channels.

    With model.stepwise_loss it is the mean over all iterations too.
    """
    images = batch["image"]
    outputs, state = self.apply_train(variables, images, rngs)
    reconstructions = [outputs["reconstruction"]]
    if self.config.model.stepwise_loss:
      earlier = outputs["slots_per_iteration"][:, :-1]
      reconstructions += [
        self.model.apply(variables, earlier[:, i], method="decode")[
          "reconstruction"
        ]
        for i in range(earlier.shape[1])
      ]
    errors = [losses.mean_squared_error(x, images) for x in reconstructions]
    return jnp.mean(jnp.stack(errors)), ({}, state)

  def eval_step(
    self,
    variables: Mapping[str, Any],
    batch: base.Batch,
    rngs: base.Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    inputs: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Returns squared error, slot usage and, with masks, ARI, mBO, mIoU."""
    outputs = self.predict(
      variables,
      batch["image"],
      rngs,
      num_slots,
      num_iterations,
      inputs=inputs,
    )
    b, k = outputs["masks"].shape[:2]
    # [b, k, h, w] -> [b, h * w]
    labels = jnp.argmax(outputs["masks"], axis=1).reshape(b, -1)
    result = {
      "mse": losses.mean_squared_error(
        outputs["reconstruction"], batch["image"]
      )
    } | health.slot_health(labels, k, batch["valid"])
    if "segmentation" in batch:
      true_ids = batch["segmentation"].reshape(b, -1)  # [b, h, w] -> [b, h * w]
      ids = (true_ids, labels, self.max_id(), k)
      result |= ari.both_indices(*ids) | segmentation.overlaps(*ids)
    return result

  def summarize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the mean of every per-image value; loss is the mse.

    Images without objects have no mBO and no mIoU: they are left out of these
    means and counted as `mbo_undefined` and `miou_undefined`.

    Args:
      outputs: [n] each, of `eval_step`.

    Returns:
      Scalars by name.

    Raises:
      ValueError: a segmentation holds a larger id than the metrics count.
    """
    base.require_known_ids(outputs, self.max_id())
    scalars = {"loss": float(np.mean(outputs["mse"]))}
    for name, rows in outputs.items():
      undefined = np.isnan(rows) & (name in _MAY_BE_UNDEFINED)
      if undefined.any():
        scalars[f"{name}_undefined"] = int(undefined.sum())
      if not undefined.all():
        scalars[name] = float(np.mean(rows[~undefined]))
    return scalars

  def figure_outputs(
    self, variables: Mapping[str, Any], outputs: Mapping[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """Adds what `decode` makes of every iteration: `..._per_iteration`."""
    # [b, t, k, d] -> [t, b, k, d]; one iteration at a time fits into memory.
    decoded = jax.lax.map(
      lambda slots: self.model.apply(variables, slots, method="decode"),
      jnp.moveaxis(outputs["slots_per_iteration"], 1, 0),
    )
    return dict(outputs) | {
      f"{name}_per_iteration": jnp.moveaxis(rows, 0, 1)  # [b, t, ...]
      for name, rows in decoded.items()
    }

  def figures(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> dict[str, list[np.ndarray]]:
    """Draws Figures 3a, 3b and 3c; see `slot_figures`."""
    examples = self.examples(outputs, batch)
    return {
      "slots": [slot_figures.decomposition(example) for example in examples],
      "attention": [
        drawing.attention_grid(
          drawing.enlarge(example["image"]), example["attention_maps"]
        )
        for example in examples
      ],
      "iterations": [slot_figures.iterations(example) for example in examples],
    }

  def scenes(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> list[scene_views.Scene]:
    """Lays examples out for animations and pages; see `base.Task`."""
    return [
      slot_figures.scene(example) for example in self.examples(outputs, batch)
    ]
