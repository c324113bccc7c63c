"""From a config to what turns images into slots.

`SLOT_MODULES` lists the slot modules by the name that `config.slot_module`
takes: a new one is a line here.
"""

import dataclasses
import math

from flax import linen as nn
import jax.numpy as jnp
import ml_collections

from slot_attention import features
from slot_attention.modules import clustering
from slot_attention.modules import encoders
from slot_attention.modules import initializers
from slot_attention.modules import input_transformer
from slot_attention.modules import slot_attention
from slot_attention.modules import slot_mixture
from slot_attention.modules import slot_mlp


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
  if config.task == "dinosaur":
    return features.grid(config.model.vit)
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
    model.torch_slots,
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
      **{
        field.name: model[field.name]
        for field in dataclasses.fields(slot_attention.Ablations)
      }
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
