"""What a task is: the only thing the training loop knows about one.

A task is one file: its model, its loss, its metrics and its figures. `TASKS` in
`slot_attention.tasks` lists them by the name that `config.task` takes.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention.modules import encoders
from slot_attention.modules import initializers
from slot_attention.modules import slot_attention

Batch = Mapping[str, jax.Array]
Rngs = Mapping[str, jax.Array]


class Task(Protocol):
  """The protocol; letters as in the contracts: b batch, k slots, t iterations.

  All functions are pure, so that the loop can jit, shard and donate.
  """

  model: nn.Module

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns the model's variables: {"params": ..., other collections}."""

  def loss(
    self,
    variables: Mapping[str, Any],
    batch: Batch,
    rngs: Rngs,
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
    """Returns the training loss of a batch.

    Returns:
      The mean loss over the batch, then scalar metrics by name and the updated
      variable collections other than "params".
    """

  def eval_step(
    self,
    variables: Mapping[str, Any],
    batch: Batch,
    rngs: Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
  ) -> dict[str, jax.Array]:
    """Returns per-example arrays [b, ...], small enough to keep for a split."""

  def summarize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Turns a split's valid per-example arrays into scalars by name."""

  def predict(
    self,
    variables: Mapping[str, Any],
    images: jax.Array,
    rngs: Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    slot_noise: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Returns everything the model says of images [b, h, w, 3]."""

  def figures(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> dict[str, list[np.ndarray]]:
    """Draws `predict`'s outputs: uint8 [H, W, 3] pictures, one per example."""


class SlotModel(nn.Module):
  """What models of images have in common: the way to the slots.

  Attributes:
    tokens: image -> [b, h', w', c].
    initializer: initial slots.
    slot_module: refines slots.
  """

  tokens: nn.Module
  initializer: nn.Module
  slot_module: nn.Module

  def infer_slots(
    self,
    images: jax.Array,
    num_slots: int | None,
    num_iterations: int | None,
    slot_noise: jax.Array | None,
    train: bool,
  ) -> slot_attention.SlotOutput:
    """Returns the slots of images.

    Args:
      images: [b, h, w, 3] in [-1, 1].
      num_slots: k, or None for the configured number.
      num_iterations: t, or None for the configured number.
      slot_noise: [b, k, d], see the initializer.
      train: passed to the slot module.

    Returns:
      SlotOutput.
    """
    grid = self.tokens(images)
    inputs = grid.reshape(grid.shape[0], -1, grid.shape[-1])  # [b, h'w', c]
    slots = self.initializer(images.shape[0], num_slots, slot_noise)
    return self.slot_module(inputs, slots, num_iterations, train)


class SlotTask:
  """What tasks with one image model share.

  Attributes:
    config: of the run.
    model: called as `(images, num_slots, num_iterations, slot_noise, train)`;
      returns a dict of arrays.
  """

  def __init__(self, config: ml_collections.ConfigDict, model: nn.Module):
    self.config = config
    self.model = model

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns the model's variables."""
    images = jnp.zeros((1, *self.config.data.resolution, 3))
    return self.model.init({"params": key, "slots": key}, images)

  def apply_train(
    self, variables: Mapping[str, Any], images: jax.Array, rngs: Rngs
  ) -> tuple[dict[str, jax.Array], dict[str, Any]]:
    """Returns the model's outputs in training and the updated collections."""
    mutable = [name for name in variables if name != "params"]
    outputs, state = self.model.apply(
      variables, images, train=True, rngs=rngs, mutable=mutable
    )
    return outputs, dict(state)

  def predict(
    self,
    variables: Mapping[str, Any],
    images: jax.Array,
    rngs: Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    slot_noise: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Returns the model's outputs in evaluation; see `Task.predict`."""
    return self.model.apply(
      variables, images, num_slots, num_iterations, slot_noise, rngs=rngs
    )


def build_slots(config: ml_collections.ConfigDict) -> dict[str, nn.Module]:
  """Returns what turns images into slots, as attributes of a task's model.

  Args:
    config: of the run.

  Returns:
    {"tokens": images -> features, "initializer": first slots, "slot_module":
    what `config.slot_module` names}.
  """
  model = config.model
  return {
    "tokens": encoders.ImageTokens(
      model.encoder_channels,
      model.encoder_strides,
      model.remat,
      compute_dtype(config),
    ),
    "initializer": initializers.GaussianInitializer(
      model.num_slots, model.slot_size, model.log_sigma_offset
    ),
    "slot_module": SLOT_MODULES[config.slot_module](config),
  }


def compute_dtype(config: ml_collections.ConfigDict) -> jnp.dtype:
  """Returns the type of matrix products and convolutions."""
  return jnp.dtype(config.model.dtype)


def _slot_attention(config: ml_collections.ConfigDict) -> nn.Module:
  model = config.model
  return slot_attention.SlotAttention(
    slot_size=model.slot_size,
    mlp_hidden_size=model.mlp_hidden_size,
    num_iterations=model.num_iterations,
    epsilon=model.epsilon,
    normalization=config.normalization,
    num_train_slots=model.num_slots,
    layer_norm_epsilon=model.layer_norm_epsilon,
    gradient=model.gradient,
    remat=model.remat,
    dtype=compute_dtype(config),
  )


SLOT_MODULES = {"slot_attention": _slot_attention}
