"""What a task is: the only thing the training loop knows about one.

A task is one file: its model, its loss, its metrics and its figures. `TASKS` in
`slot_attention.tasks` lists them by the name that `config.task` takes.
"""

from collections.abc import Mapping
import math
from typing import Any, Protocol

from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import scene_views
from slot_attention.metrics import health
from slot_attention.modules import clustering
from slot_attention.modules import encoders
from slot_attention.modules import initializers
from slot_attention.modules import input_transformer
from slot_attention.modules import slot_attention
from slot_attention.modules import slot_mixture
from slot_attention.modules import slot_mlp

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

  def encode(
    self, variables: Mapping[str, Any], images: jax.Array
  ) -> jax.Array:
    """Returns what does not depend on the slots: the slot module's inputs."""

  def eval_step(
    self,
    variables: Mapping[str, Any],
    batch: Batch,
    rngs: Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    inputs: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Returns per-example arrays [b, ...], small enough to keep for a split.

    `inputs` are the images' as `encode` returns them; None computes them here.
    """

  def summarize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Turns a split's valid per-example arrays into scalars by name."""

  def warnings(self, scalars: Mapping[str, float]) -> list[str]:
    """Says in sentences what `summarize`'s scalars show to have gone wrong."""

  def predict(
    self,
    variables: Mapping[str, Any],
    images: jax.Array,
    rngs: Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    slot_noise: jax.Array | None = None,
    inputs: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Returns everything the model says of images [b, h, w, 3]."""

  def figure_outputs(
    self, variables: Mapping[str, Any], outputs: Mapping[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """Adds to `predict`'s outputs of a few examples what figures need."""

  def figures(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> dict[str, list[np.ndarray]]:
    """Draws `figure_outputs`: uint8 [H, W, 3] pictures, one per example."""

  def scenes(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> list[scene_views.Scene]:
    """Lays `figure_outputs` out for animations and pages, one per example."""


class SlotModel(nn.Module):
  """What models of images have in common: the way to the slots.

  Attributes:
    tokens: image -> [b, h', w', c].
    input_transformer: if any, transforms the slot module's inputs, and says of
      each image where its initial slots lie.
    initializer: initial slots.
    slot_module: refines slots.
  """

  tokens: nn.Module
  input_transformer: nn.Module | None
  initializer: nn.Module
  slot_module: nn.Module

  def encode(self, images: jax.Array) -> jax.Array:
    """Returns the slot module's inputs [b, n, c] of images [b, h, w, 3]."""
    grid = self.tokens(images)
    return grid.reshape(grid.shape[0], -1, grid.shape[-1])  # [b, h'w', c]

  def infer_slots(
    self,
    images: jax.Array,
    num_slots: int | None,
    num_iterations: int | None,
    slot_noise: jax.Array | None,
    train: bool,
    inputs: jax.Array | None = None,
  ) -> slot_attention.SlotOutput:
    """Returns the slots of images.

    Args:
      images: [b, h, w, 3] in [-1, 1].
      num_slots: k, or None for the configured number.
      num_iterations: t, or None for the configured number.
      slot_noise: [b, k, d], or [b, k, 2 d] for mixtures, see the initializer.
      train: passed to the slot module.
      inputs: [b, n, c] of the images, from `encode`; None computes them.

    Returns:
      SlotOutput.
    """
    if inputs is None:
      inputs = self.encode(images)
    request = images.shape[0], num_slots, slot_noise
    if self.input_transformer is None:
      slots = self.initializer(*request)
    else:
      inputs, gaussian = self.input_transformer(inputs, train)
      slots = self.initializer(*request, gaussian)
    return self.slot_module(inputs, slots, num_iterations, train)


class SlotTask:
  """What tasks with one image model share.

  Attributes:
    config: of the run.
    model: called as `(images, num_slots, num_iterations, slot_noise, train,
      inputs)`; returns a dict of arrays. Has a method `encode`.
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
    inputs: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Returns the model's outputs in evaluation; see `Task.predict`."""
    return self.model.apply(
      variables,
      images,
      num_slots,
      num_iterations,
      slot_noise,
      inputs=inputs,
      rngs=rngs,
    )

  def encode(
    self, variables: Mapping[str, Any], images: jax.Array
  ) -> jax.Array:
    """Returns the slot module's inputs [b, n, c]; see `Task.encode`."""
    return self.model.apply(variables, images, method="encode")

  def figure_outputs(
    self, variables: Mapping[str, Any], outputs: Mapping[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """Returns the outputs as they are; see `Task.figure_outputs`."""
    del variables
    return dict(outputs)

  def warnings(self, scalars: Mapping[str, float]) -> list[str]:
    """Says whether slots lie idle or ignore the image; see `Task.warnings`."""
    return health.warnings(scalars, self.config.model.num_slots)

  def attention_maps(self, attention: np.ndarray) -> np.ndarray:
    """Lays attention out on the encoder's grid: [..., n] -> [..., h', w']."""
    return attention.reshape(*attention.shape[:-1], *encoder_grid(self.config))


def build_slots(config: ml_collections.ConfigDict) -> dict[str, nn.Module]:
  """Returns what turns images into slots, as attributes of a task's model.

  Args:
    config: of the run.

  Returns:
    {"tokens": images -> features, "input_transformer": features -> features,
    or None, "initializer": first slots, "slot_module": what
    `config.slot_module` names}.
  """
  model = config.model
  return {
    "tokens": encoders.ImageTokens(
      model.encoder_channels,
      model.encoder_strides,
      model.conv_padding,
      model.position_embedding,
      model.remat,
      compute_dtype(config),
      model.encoder_layer_norm_epsilon,
    ),
    "input_transformer": _input_transformer(config),
    "initializer": _initializer(config),
    "slot_module": SLOT_MODULES[config.slot_module](config),
  }


def compute_dtype(config: ml_collections.ConfigDict) -> jnp.dtype:
  """Returns the type of matrix products and convolutions."""
  return jnp.dtype(config.model.dtype)


def encoder_grid(config: ml_collections.ConfigDict) -> tuple[int, int]:
  """Returns (h', w'), the resolution of the encoder's features."""
  stride = math.prod(config.model.encoder_strides)
  height, width = config.data.resolution
  return -(-height // stride), -(-width // stride)


def _initializer(config: ml_collections.ConfigDict) -> nn.Module:
  model = config.model
  if config.slot_module == "slot_mlp":
    return initializers.ZeroInitializer(model.num_slots, model.slot_size)
  return initializers.GaussianInitializer(
    model.num_slots,
    _state_size(config),
    model.log_sigma_offset,
    model.slot_initialization == "per_slot",
  )


def _state_size(config: ml_collections.ConfigDict) -> int:
  """Returns the width of an initial slot: mixtures start with 2 d."""
  is_mixture = config.slot_module in ("slot_mixture", "gmm")
  return (2 if is_mixture else 1) * config.model.slot_size


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
    ablations=slot_attention.Ablations(
      softmax_axis=model.softmax_axis,
      temperature=model.temperature,
      epsilon_placement=model.epsilon_placement,
      use_gru=model.use_gru,
      use_mlp=model.use_mlp,
      use_layer_norm=model.use_layer_norm,
    ),
    gradient=model.gradient,
    remat=model.remat,
    dtype=compute_dtype(config),
  )


def _slot_mlp(config: ml_collections.ConfigDict) -> nn.Module:
  model = config.model
  return slot_mlp.SlotMLP(
    grid=encoder_grid(config),
    num_slots=model.num_slots,
    slot_size=model.slot_size,
    hidden_sizes=model.slot_mlp_hidden_sizes,
    resolution=model.slot_mlp_resolution,
    dtype=compute_dtype(config),
  )


def _slot_mixture(config: ml_collections.ConfigDict) -> nn.Module:
  model = config.model
  return slot_mixture.SlotMixture(
    slot_size=model.slot_size,
    mlp_hidden_size=model.mlp_hidden_size,
    num_iterations=model.num_iterations,
    epsilon=model.epsilon,
    layer_norm_epsilon=model.layer_norm_epsilon,
    gradient=model.gradient,
    options=slot_mixture.Options(**model.mixture),
    remat=model.remat,
    dtype=compute_dtype(config),
  )


def _input_transformer(
  config: ml_collections.ConfigDict,
) -> nn.Module | None:
  model = config.model
  num_blocks = model.mixture.transformer_blocks
  if config.slot_module != "slot_mixture" or not num_blocks:
    return None
  return input_transformer.InputTransformer(
    _state_size(config),
    model.mlp_hidden_size,
    num_blocks,
    model.layer_norm_epsilon,
    compute_dtype(config),
  )


def _kmeans(config: ml_collections.ConfigDict) -> nn.Module:
  model = config.model
  return clustering.SoftKMeans(
    model.num_iterations, model.epsilon, model.gradient, compute_dtype(config)
  )


def _gmm(config: ml_collections.ConfigDict) -> nn.Module:
  model = config.model
  return clustering.GaussianMixture(
    slot_size=model.slot_size,
    num_iterations=model.num_iterations,
    epsilon=model.epsilon,
    gradient=model.gradient,
    dtype=compute_dtype(config),
  )


SLOT_MODULES = {
  "slot_attention": _slot_attention,
  "slot_mixture": _slot_mixture,
  "slot_mlp": _slot_mlp,
  "kmeans": _kmeans,
  "gmm": _gmm,
}
