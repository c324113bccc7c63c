"""SLATE: slots by which a transformer predicts an image's tokens.

Singh, Deng and Ahn, "Illiterate DALL-E Learns to Compose" (ICLR 2022), and
paper B, section 4.2, where the Slot Mixture Module takes its slots' place.
"""

from collections.abc import Mapping
import functools
import math
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from slot_attention import losses
from slot_attention import schedules
from slot_attention.figures import scene_views
from slot_attention.figures import slate_figures
from slot_attention.metrics import ari
from slot_attention.metrics import health
from slot_attention.modules import dvae
from slot_attention.modules import generation
from slot_attention.modules import mlp
from slot_attention.modules import transformer
from slot_attention.tasks import base
from slot_attention.tasks import slate_model
from slot_attention.tasks import slots as slots_lib

# The count of images stops here, far beyond the end of every schedule.
_MAX_IMAGES = 2**30


class Slate(base.SlotTask):
  """The task; see `base.Task`.

  Beside its parameters it has a collection "progress", the number of images
  that it was trained on, from which the Gumbel temperature follows: so it is
  saved with the rest, and dividing batches does not change it.
  """

  def __init__(self, config: ml_collections.ConfigDict):
    super().__init__(config, build_model(config))
    options = config.model.slate
    self._temperature = schedules.cosine(
      options.temperature_start,
      options.temperature_end,
      options.temperature_steps,
    )

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns the model's variables; see `base.Task`."""
    images = jnp.zeros((1, *self.config.data.resolution, 3))
    streams = ("params", "slots", "gumbel", "dropout")
    variables = dict(
      self.model.init(dict.fromkeys(streams, key), images, 1.0, method="sample")
    )
    variables["params"] = self._start_as_published(variables["params"])
    return variables | {"progress": {"images": jnp.zeros([], jnp.int32)}}

  def loss(
    self, variables: Mapping[str, Any], batch: base.Batch, rngs: base.Rngs
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
    """Returns the dVAE's squared error plus the tokens' cross-entropy.

    Both are sums over an image and means over the batch.
    """
    images, seen = batch["image"], variables["progress"]["images"]
    temperature = self._temperature(seen // self.config.train.batch_size)
    outputs, state = self.model.apply(
      variables,
      images,
      temperature,
      self.config.model.slate.straight_through,
      train=True,
      rngs=rngs,
      mutable=[
        name for name in variables if name not in ("params", "progress")
      ],
      method="sample",
    )
    scalars = {
      name: jnp.mean(values)
      for name, values in _losses(outputs, images).items()
    }
    seen = jnp.minimum(seen + images.shape[0], _MAX_IMAGES)
    state = dict(state) | {"progress": {"images": seen}}
    return sum(scalars.values()), (
      scalars | {"temperature": temperature},
      state,
    )

  def eval_step(
    self,
    variables: Mapping[str, Any],
    batch: base.Batch,
    rngs: base.Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    inputs: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Returns losses, the error of generated images and, with masks, ARI.

    As in the published code, the losses are of tokens drawn at random, without
    relaxation; `cross_entropy_argmax` is of the most probable ones, and so is
    all the rest. The generated images themselves are `base.GENERATED`.
    """
    images = batch["image"]
    sampled = self.model.apply(
      variables,
      images,
      num_slots=num_slots,
      num_iterations=num_iterations or self.config.eval.num_iterations or None,
      rngs=rngs,
      method="sample",
    )
    outputs = self.predict(
      variables, images, rngs, num_slots, num_iterations, inputs=inputs
    )
    tokens, slots = outputs["tokens"], outputs["slots"]
    logits = self.model.apply(variables, tokens, slots, method="score")
    result = _losses(sampled, images) | {
      "cross_entropy_argmax": token_cross_entropy(logits, tokens)
    }
    if self.generates_images():
      _, drawn = self.generate(variables, slots)
      result["mse"] = _squared_error(drawn, images)
      result[base.GENERATED] = drawn
    if self.config.slot_module == "slot_mlp":  # It has no attention.
      return result
    return result | self._attention_scores(outputs["attention"][:, -1], batch)

  def generates_images(self) -> bool:
    """Says whether images are drawn from slots; see `base.Task`."""
    return self.config.eval.autoregressive

  def generate(
    self,
    variables: Mapping[str, Any],
    slots: jax.Array,
    key: jax.Array | None = None,
    temperature: float = 1.0,
  ) -> tuple[jax.Array, jax.Array]:
    """Draws images from slots alone, token after token.

    Args:
      variables: the model's variables.
      slots: [b, k, d].
      key: of random choices; None takes the most probable token each time.
      temperature: see `generation.generate`.

    Returns:
      Tokens [b, n] int32 and images [b, h, w, 3] in [-1, 1].
    """
    apply = functools.partial(self.model.apply, variables)
    tokens = generation.generate(
      functools.partial(apply, method="next_logits"),
      apply(slots, method="start_generation"),
      slots.shape[0],
      self.model.embedding.num_tokens,
      key,
      temperature,
    )
    resolution = tuple(self.config.data.resolution)
    return tokens, apply(tokens, resolution, method="draw")

  def summarize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the mean of every per-image value; see `base.Task`.

    `loss` is that of training, of tokens without relaxation;
    `cross_entropy_per_token` divides it by the number of tokens.
    """
    base.require_known_ids(outputs, self.max_id())
    scalars = {}
    for name, rows in outputs.items():
      # An image alone is like no other.
      rows = rows[~np.isnan(rows)] if name == "mask_similarity" else rows
      if rows.size:
        scalars[name] = float(np.mean(rows))
    cross_entropy = scalars["cross_entropy"]
    scalars["loss"] = scalars["dvae_mse"] + cross_entropy
    num_tokens = self.model.embedding.num_tokens
    scalars["cross_entropy_per_token"] = cross_entropy / num_tokens
    return scalars

  def figure_outputs(
    self, variables: Mapping[str, Any], outputs: Mapping[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """Adds `generated_tokens` [b, n] and `slot_reconstruction` [b, h, w, 3]."""
    tokens, images = self.generate(variables, outputs["slots"])
    return dict(outputs) | {
      "generated_tokens": tokens,
      "slot_reconstruction": images,
    }

  def figures(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> dict[str, list[np.ndarray]]:
    """Draws both reconstructions, and attention per slot and iteration."""
    examples = self.examples(outputs, batch)
    return {
      "reconstructions": list(map(slate_figures.reconstructions, examples)),
      "attention": list(map(slate_figures.attention, examples)),
    }

  def scenes(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> list[scene_views.Scene]:
    """Lays examples out for animations and pages; see `base.Task`."""
    return list(map(slate_figures.scene, self.examples(outputs, batch)))

  def _attention_scores(
    self, attention: jax.Array, batch: base.Batch
  ) -> dict[str, jax.Array]:
    """Measures how attention [b, k, n] divides the images."""
    num_slots = attention.shape[1]
    labels = jnp.argmax(attention, axis=1)  # [b, n]
    scores = health.slot_health(labels, num_slots, batch["valid"])
    if "segmentation" in batch:
      scores |= ari.attention_indices(
        batch["segmentation"], self.attention_maps(attention), self.max_id()
      )
    return scores

  def _start_as_published(self, params: dict[str, Any]) -> dict[str, Any]:
    """Widens the first kernel of Slot Attention's MLP to PyTorch's bound.

    SLATE's code draws it for a layer before a ReLU; both draws are uniform.
    """
    model = self.config.model
    if self.config.slot_module != "slot_attention" or not model.use_mlp:
      return params
    size, hidden_size = model.slot_size, model.mlp_hidden_size
    flat = traverse_util.flatten_dict(params, sep="/")
    flat["slot_module/iteration/mlp/dense_0/kernel"] *= math.sqrt(
      (size + hidden_size) / size
    )
    return traverse_util.unflatten_dict(flat, sep="/")


def build_model(config: ml_collections.ConfigDict) -> slate_model.SlateModel:
  """Returns the model that a config describes.

  The width of embeddings and decoder is the last of `model.encoder_channels`.

  Args:
    config: of the run.
  """
  model, options = config.model, config.model.slate
  width, dtype = model.encoder_channels[-1], slots_lib.compute_dtype(config)
  parts = slots_lib.build_slots(config) | {
    "tokens": slate_model.TokenFeatures(model.encoder_layer_norm_epsilon, dtype)
  }
  return slate_model.SlateModel(
    **parts,
    dvae=dvae.DiscreteVAE(options.vocab_size, dtype),
    embedding=transformer.TokenEmbedding(
      options.vocab_size,
      math.prod(slots_lib.encoder_grid(config)),
      width,
      options.dropout,
    ),
    projection=mlp.matrix(width, dtype),
    decoder=transformer.TransformerDecoder(
      options.num_blocks,
      width,
      options.num_heads,
      options.dropout,
      model.remat,
      dtype,
    ),
    head=mlp.matrix(options.vocab_size, dtype),
  )


def progress_at_the_end() -> dict[str, np.ndarray]:
  """Returns the "progress" of a model whose schedules have ended."""
  return {"images": np.array(_MAX_IMAGES, np.int32)}


def token_cross_entropy(logits: jax.Array, tokens: jax.Array) -> jax.Array:
  """Sums over tokens what each costs.

  Args:
    logits: [b, n, v].
    tokens: [b, n] int.

  Returns:
    [b] float32, in nats.
  """
  return jnp.sum(
    optax.softmax_cross_entropy_with_integer_labels(logits, tokens), axis=1
  )


def _losses(
  outputs: Mapping[str, jax.Array], images: jax.Array
) -> dict[str, jax.Array]:
  """Returns both losses [b] of `SlateModel.sample`'s outputs."""
  unit = slate_model.to_unit(images)
  return {
    "dvae_mse": _sum_squares(outputs["reconstruction"], unit),
    "cross_entropy": token_cross_entropy(outputs["logits"], outputs["tokens"]),
  }


def _squared_error(drawn: jax.Array, images: jax.Array) -> jax.Array:
  """Returns [b] of images in [-1, 1], as if they were in [0, 1]."""
  return _sum_squares(*map(slate_model.to_unit, (drawn, images)))


def _sum_squares(x: jax.Array, y: jax.Array) -> jax.Array:
  """Sums over pixels and channels: [b, h, w, 3] -> [b]."""
  return losses.mean_squared_error(x, y) * math.prod(x.shape[1:])
