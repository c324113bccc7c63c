"""Object discovery on the features of a frozen transformer: DINOSAUR.

The model of Seitzer et al., "Bridging the Gap to Real-World Object-Centric
Learning" (ICLR 2023), as paper C trains it (appendix F): slots explain the
features of DINO's vision transformer instead of pixels.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import features as features_lib
from slot_attention import losses
from slot_attention import train_state
from slot_attention.metrics import ari
from slot_attention.metrics import health
from slot_attention.metrics import segmentation
from slot_attention.modules import encoders
from slot_attention.modules import feature_decoder
from slot_attention.modules import feature_resizing
from slot_attention.tasks import base
from slot_attention.tasks import object_discovery
from slot_attention.tasks import slots as slots_lib

_VIT = "vit"


class DinosaurModel(object_discovery.SlotAttentionAutoEncoder):
  """Slots of features, and the features that the slots stand for.

  It is called on features [b, n, c] where other models take images, and its
  decoder maps slots to features and masks.

  Attributes:
    grid: (h', w') of the tokens.
  """

  grid: tuple[int, int]

  def decode(self, slots: jax.Array) -> dict[str, jax.Array]:
    """Decodes slots.

    Args:
      slots: [b, k, d], after any iteration.

    Returns:
      `reconstruction` [b, n, c] of the features, and `masks` [b, k, h', w'].
    """
    reconstruction, masks = self.decoder(slots)
    masks = masks.reshape(*masks.shape[:2], *self.grid)  # [b, k, n] -> grid
    return {"reconstruction": reconstruction, "masks": masks}


class Dinosaur(object_discovery.ObjectDiscovery):
  """The task; see `base.Task`.

  Where other tasks take images, this one takes images or their features: three
  axes are features.
  """

  def __init__(self, config: ml_collections.ConfigDict):
    model, dtype = config.model, slots_lib.compute_dtype(config)
    grid = features_lib.grid(model.vit)
    parts = slots_lib.build_slots(config)
    parts["tokens"] = encoders.FeatureTokens(model.encoder_channels[-1], dtype)
    decoder = feature_decoder.FeatureDecoder(
      grid[0] * grid[1],
      model.vit.width,
      model.decoder_channels,
      model.remat,
      dtype,
    )
    base.SlotTask.__init__(
      self, config, DinosaurModel(**parts, decoder=decoder, grid=grid)
    )

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns the variables that are trained; see `load_frozen`."""
    height, width = self.model.grid
    features = jnp.zeros((1, height * width, self.config.model.vit.width))
    return self.model.init({"params": key, "slots": key}, features)

  def load_frozen(self, needs_images: bool = False) -> dict[str, Any]:
    """Returns the transformer's weights; see `base.SlotTask.load_frozen`."""
    if self._is_precomputed() and not needs_images:
      return {}
    weights = features_lib.load_vit(self.config.model.vit)
    return {train_state.FROZEN: {_VIT: weights["params"]}}

  def frozen_shapes(self) -> dict[str, Any]:
    """Returns the shapes of `load_frozen`'s arrays."""
    if self._is_precomputed():
      return {}
    shapes = features_lib.vit_shapes(self.config.model.vit)
    return {train_state.FROZEN: {_VIT: shapes["params"]}}

  def observed(self, batch: base.Batch) -> jax.Array:
    """Returns a batch's features, or, where there are none, its images."""
    return batch["features" if "features" in batch else "image"]

  def encode(
    self, variables: Mapping[str, Any], images: jax.Array
  ) -> jax.Array:
    """Returns the features [b, n, c] float32 of images, or of features."""
    if images.ndim == 4:
      weights = {"params": variables[train_state.FROZEN][_VIT]}
      images = features_lib.extract_features(
        weights, images, self.config.model.vit
      )
    return images.astype(jnp.float32)

  def loss(
    self, variables: Mapping[str, Any], batch: base.Batch, rngs: base.Rngs
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
    """Returns the squared error, mean over batch, tokens and channels."""
    features = self.encode(variables, self.observed(batch))
    outputs, state = self.apply_train(_trained(variables), features, rngs)
    errors = losses.mean_squared_error(outputs["reconstruction"], features)
    return jnp.mean(errors), ({}, state)

  def predict(
    self,
    variables: Mapping[str, Any],
    images: jax.Array,
    rngs: base.Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    slot_noise: jax.Array | None = None,
    inputs: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Groups the features of images.

    Args:
      variables: of the model, and the frozen ones unless features are given.
      images: [b, h, w, 3] in [-1, 1], or their features [b, n, c].
      rngs: random streams.
      num_slots: k, or None for the configured number.
      num_iterations: t, or None for the configured number.
      slot_noise: [b, k, d].
      inputs: the features, from `encode`; None computes them.

    Returns:
      `features` [b, n, c], `reconstruction` [b, n, c], `masks` [b, k, h', w'],
      `segments` [b, s, s] int32 at the transformer's resolution s, `attention`
      [b, t, k, n], `slots` and `slots_per_iteration`.
    """
    if inputs is None:
      inputs = self.encode(variables, images)
    outputs = super().predict(
      _trained(variables), inputs, rngs, num_slots, num_iterations, slot_noise
    )
    return outputs | {
      "features": inputs,
      "segments": self._segments(outputs["masks"]),
    }

  def eval_step(
    self,
    variables: Mapping[str, Any],
    batch: base.Batch,
    rngs: base.Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    inputs: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Returns squared error, slot usage and, with masks, ARI, mBO, mIoU.

    Scores of the attention instead of the decoder's masks are called
    `attention_ari` and `attention_ari_fg`.
    """
    if inputs is None:
      inputs = self.encode(variables, self.observed(batch))
    outputs = self.predict(
      variables, inputs, rngs, num_slots, num_iterations, inputs=inputs
    )
    b, k = outputs["masks"].shape[:2]
    labels = outputs["segments"].reshape(b, -1)  # [b, s, s] -> [b, s * s]
    result = {
      "mse": losses.mean_squared_error(outputs["reconstruction"], inputs)
    } | health.slot_health(labels, k, batch["valid"])
    if "segmentation" not in batch:
      return result
    true_ids = feature_resizing.resize_labels(
      batch["segmentation"], outputs["segments"].shape[1:]
    ).reshape(b, -1)  # [b, h, w] -> [b, s * s]
    attention = self._segments(self.attention_maps(outputs["attention"][:, -1]))
    by_attention = ari.both_indices(
      true_ids, attention.reshape(b, -1), self.max_id(), k
    )
    ids = (true_ids, labels, self.max_id(), k)
    result |= ari.both_indices(*ids) | segmentation.overlaps(*ids)
    return result | {
      f"attention_{name}": rows for name, rows in by_attention.items()
    }

  def figure_outputs(
    self, variables: Mapping[str, Any], outputs: Mapping[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """Adds what `decode` makes of every iteration: `..._per_iteration`."""
    return super().figure_outputs(_trained(variables), outputs)

  def examples(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> list[dict[str, np.ndarray]]:
    """Lays features out as pictures, so that figures can draw them.

    A slot's picture is the image itself. Reconstructed features are shown by
    three directions, as colors: those in which the true ones differ most.

    Args:
      outputs: of `figure_outputs`.
      batch: with `image`.

    Returns:
      Example by example, what figures of object discovery draw.

    Raises:
      ValueError: the batch has features only.
    """
    if "image" not in batch:
      raise ValueError(
        "There is nothing to draw: the batch has features and no image; read "
        "images too, or set config.eval.num_figures=0."
      )
    images = np.asarray(batch["image"])
    size = images.shape[1:3]
    drawn = dict(outputs)
    for name in ("masks", "masks_per_iteration"):
      drawn[name] = _enlarge(outputs[name], size)
      repeated = np.expand_dims(images, tuple(range(1, drawn[name].ndim - 2)))
      pictures = np.broadcast_to(repeated, (*drawn[name].shape, 3))
      drawn[name.replace("masks", "slot_reconstructions")] = pictures
    colors = _principal_colors(outputs["features"])
    for name in ("reconstruction", "reconstruction_per_iteration"):
      rows = colors(outputs[name])  # [..., n, 3]
      rows = rows.reshape(*rows.shape[:-2], *self.model.grid, 3)
      rows = _enlarge(np.moveaxis(rows, -1, 1), size)
      drawn[name] = np.moveaxis(rows, 1, -1)
    return super().examples(drawn, batch)

  def _is_precomputed(self) -> bool:
    return self.config.data.features == "precomputed"

  def _segments(self, masks: jax.Array) -> jax.Array:
    """Enlarges masks [b, k, h', w'] and takes the largest: [b, s, s]."""
    size = self.config.model.vit.image_size
    masks = feature_resizing.upscale_masks(masks, (size, size))
    return jnp.argmax(masks, axis=1).astype(jnp.int32)


def _trained(variables: Mapping[str, Any]) -> dict[str, Any]:
  """Leaves the frozen collection out."""
  return {k: v for k, v in variables.items() if k != train_state.FROZEN}


def _enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes the last two axes, as masks are before they are scored."""
  flat = maps.reshape(1, -1, *maps.shape[-2:])
  large = np.asarray(feature_resizing.upscale_masks(flat, size))
  return large.reshape(*maps.shape[:-2], *size)


def _principal_colors(features: np.ndarray) -> Any:
  """Returns the function that colors features [..., n, c]: [..., n, 3].

  Args:
    features: [b, n, c], the true ones of all examples; their colors fill
      [-1, 1] up to the extremes.
  """
  rows = features.reshape(-1, features.shape[-1])  # [b * n, c]
  mean = rows.mean(axis=0)
  _, directions = np.linalg.eigh(np.cov(rows, rowvar=False))
  directions = directions[:, -3:]  # [c, 3]; eigenvalues are in rising order.
  low, high = np.percentile((rows - mean) @ directions, (1, 99), axis=0)
  return lambda x: np.clip(
    ((x - mean) @ directions - low) / np.maximum(high - low, 1e-6) * 2 - 1,
    -1,
    1,
  )
