"""The networks of SLATE, put together (paper B, section 4.2).

A dVAE turns images into tokens; slots of the tokens' embeddings are what a
transformer predicts the same tokens from, each given those before it. Images
are in [-1, 1] as everywhere in batches; the dVAE has them in [0, 1].
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import dvae
from slot_attention.modules import initializers
from slot_attention.modules import mlp
from slot_attention.modules import slot_attention
from slot_attention.modules import transformer
from slot_attention.tasks import base


def to_unit(images: jax.Array) -> jax.Array:
  """Brings images from [-1, 1] to [0, 1]."""
  return images * 0.5 + 0.5


def to_signed(images: jax.Array) -> jax.Array:
  """Brings images to [-1, 1]; what is not in [0, 1] is clipped first."""
  return jnp.clip(images, 0.0, 1.0) * 2.0 - 1.0


class TokenFeatures(nn.Module):
  """From embeddings of tokens to the slot module's inputs.

  Attributes:
    layer_norm_epsilon: PyTorch's is 1e-5.
    dtype: type of matrix products; LayerNorm is float32.
  """

  layer_norm_epsilon: float = transformer.LAYER_NORM_EPSILON
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, embeddings: jax.Array) -> jax.Array:
    """[b, n, d] -> [b, n, d]."""
    width = embeddings.shape[-1]
    x = mlp.layer_norm("norm", self.layer_norm_epsilon)(embeddings)
    return mlp.MLP(
      width, width, self.dtype, initializers.relu_kernel_init, name="mlp"
    )(x)


class SlateModel(base.SlotModel):
  """dVAE, slots of its tokens, and a decoder from slots to tokens.

  Its `tokens` maps embeddings, not images, to the slot module's inputs.

  Attributes:
    dvae: images in [0, 1] <-> tokens.
    embedding: tokens -> vectors, of the slot module and of the decoder.
    projection: slots -> the decoder's width.
    decoder: predicts vectors of the next tokens.
    head: those vectors -> logits.
  """

  dvae: dvae.DiscreteVAE
  embedding: transformer.TokenEmbedding
  projection: nn.Module
  decoder: transformer.TransformerDecoder
  head: nn.Module

  def __call__(
    self,
    images: jax.Array,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    slot_noise: jax.Array | None = None,
    train: bool = False,
    inputs: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Finds the slots of the most probable tokens; nothing else is random.

    Args:
      images: [b, h, w, 3] in [-1, 1].
      num_slots: see `base.SlotModel`, and for the others.
      num_iterations: t.
      slot_noise: [b, k, d].
      train: passed to the slot module.
      inputs: [b, n, c].

    Returns:
      `tokens` [b, n] int32, `reconstruction` [b, h, w, 3] in [-1, 1], what the
      dVAE makes of them, `attention` [b, t, k, n], `slots` [b, k, d] and
      `slots_per_iteration` [b, t, k, d].
    """
    tokens = self.tokenize(images)
    if inputs is None:
      inputs = self._inputs(self.embedding(tokens))
    output = self.infer_slots(
      inputs, num_slots, num_iterations, slot_noise, train
    )
    return _by_name(output) | {
      "tokens": tokens,
      "reconstruction": self.draw(tokens, images.shape[1:3]),
    }

  def sample(
    self,
    images: jax.Array,
    temperature: jax.Array | float | None = None,
    straight_through: bool = False,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    slot_noise: jax.Array | None = None,
    gumbel_noise: tuple[jax.Array, jax.Array] | None = None,
    train: bool = False,
  ) -> dict[str, jax.Array]:
    """Runs everything that is learned, on tokens that are drawn at random.

    The dVAE's reconstruction and the decoder's targets come of two independent
    draws. No gradient passes between the dVAE and the rest: tokens are
    integers.

    Args:
      images: [b, h, w, 3] in [-1, 1].
      temperature: of the relaxed sample that the dVAE draws; None for tokens.
      straight_through: see `dvae.relaxed_sample`.
      num_slots: k.
      num_iterations: t.
      slot_noise: [b, k, d].
      gumbel_noise: two arrays [b, h / 4, w / 4, v] in place of draws from the
        rng stream "gumbel": of the dVAE's sample and of the targets.
      train: whether to drop entries; needs the rng stream "dropout".

    Returns:
      `reconstruction` [b, h, w, 3] float32, about [0, 1]; `tokens` [b, n];
      `logits` [b, n, v] float32; `attention`, `slots` and
      `slots_per_iteration`.
    """
    log_probabilities = self.dvae.encode(to_unit(images))
    if gumbel_noise is None:
      shape = log_probabilities.shape
      gumbel_noise = tuple(
        jax.random.gumbel(self.make_rng("gumbel"), shape) for _ in range(2)
      )
    if temperature is None:
      drawn = dvae.sample_tokens(log_probabilities, gumbel_noise[0])
    else:
      drawn = dvae.relaxed_sample(
        log_probabilities, gumbel_noise[0], temperature, straight_through
      )
    tokens = _sequence(dvae.sample_tokens(log_probabilities, gumbel_noise[1]))
    # The slot module and the decoder see the same entries dropped.
    embeddings = self.embedding(tokens, train)
    output = self.infer_slots(
      self._inputs(embeddings), num_slots, num_iterations, slot_noise, train
    )
    return _by_name(output) | {
      "reconstruction": self.dvae.decode(drawn),
      "tokens": tokens,
      "logits": self._logits(embeddings, output.slots, train),
    }

  def encode(self, images: jax.Array) -> jax.Array:
    """Returns the slot module's inputs [b, n, d] of images [b, h, w, 3]."""
    return self._inputs(self.embedding(self.tokenize(images)))

  def tokenize(self, images: jax.Array) -> jax.Array:
    """Returns the most probable tokens [b, n] of images [b, h, w, 3]."""
    log_probabilities = self.dvae.encode(to_unit(images))
    return _sequence(jnp.argmax(log_probabilities, axis=-1).astype(jnp.int32))

  def draw(self, tokens: jax.Array, resolution: tuple[int, int]) -> jax.Array:
    """Draws tokens [b, n] in rows; [b, h, w, 3] in [-1, 1]."""
    rows, columns = (size // dvae.STRIDE for size in resolution)
    grid = tokens.reshape(-1, rows, columns)  # [b, n] -> [b, h', w']
    return to_signed(self.dvae.decode(grid))

  def score(self, tokens: jax.Array, slots: jax.Array) -> jax.Array:
    """Returns logits [b, n, v] of all tokens [b, n], given slots [b, k, d]."""
    return self._logits(self.embedding(tokens), slots, False)

  def start_generation(self, slots: jax.Array) -> Any:
    """Returns the state before the first token, given slots [b, k, d]."""
    return (
      self.decoder.slot_keys_values(self.projection(slots)),
      self.decoder.empty_cache(slots.shape[0], self.embedding.num_tokens),
    )

  def next_logits(
    self, state: Any, previous: jax.Array, position: jax.Array
  ) -> tuple[jax.Array, Any]:
    """Predicts one token of each sequence; see `generation.generate`.

    Args:
      state: of `start_generation`, or of the token before.
      previous: [b] int, the token before.
      position: [] int, of the token that is predicted, from 0.

    Returns:
      Logits [b, v] float32 and the next state.
    """
    slots, cache = state
    x = self.embedding.embed_one(previous, position)
    x, cache = self.decoder.step(x, slots, cache, position)
    return self.head(x)[:, 0].astype(jnp.float32), (slots, cache)

  def _inputs(self, embeddings: jax.Array) -> jax.Array:
    """[b, 1 + n, d] -> [b, n, d], without that of the beginning."""
    return self.tokens(embeddings[:, 1:])

  def _logits(
    self, embeddings: jax.Array, slots: jax.Array, train: bool
  ) -> jax.Array:
    """[b, 1 + n, d], [b, k, d] -> [b, n, v] float32."""
    x = self.decoder(embeddings[:, :-1], self.projection(slots), train)
    return self.head(x).astype(jnp.float32)


def _sequence(grid: jax.Array) -> jax.Array:
  """[b, h', w'] -> [b, n], row after row."""
  return grid.reshape(grid.shape[0], -1)


def _by_name(output: slot_attention.SlotOutput) -> dict[str, jax.Array]:
  return {
    "attention": output.attention,
    "slots": output.slots,
    "slots_per_iteration": output.slots_per_iteration,
  }
