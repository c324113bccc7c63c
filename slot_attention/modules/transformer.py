"""SLATE's transformer: image tokens one after the other, given slots.

Singh, Deng and Ahn, "Illiterate DALL-E Learns to Compose" (ICLR 2022). Letters:
n tokens, k slots, d width, c width of a head.
"""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers
from slot_attention.modules import mlp

BEGIN = -1  # The token before the first one.
LAYER_NORM_EPSILON = 1e-5

KeysValues = tuple[jax.Array, jax.Array]  # [b, n, heads, c] each.


class TokenEmbedding(nn.Module):
  """Learned vectors of tokens and of their positions.

  Attributes:
    vocab_size: v, number of different tokens, `BEGIN` not counted.
    num_tokens: n, of a whole sequence.
    width: d.
    dropout: share of entries set to zero in training.
  """

  vocab_size: int
  num_tokens: int
  width: int
  dropout: float = 0.1

  def setup(self) -> None:
    """Creates the two tables."""
    self.dictionary = self.param(
      "dictionary",
      nn.initializers.normal(1.0),
      (self.vocab_size + 1, self.width),
    )
    self.positions = self.param(
      "positions",
      nn.initializers.truncated_normal(1.0),
      (1, self.num_tokens + 1, self.width),
    )
    self.drop = nn.Dropout(self.dropout)

  def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
    """Embeds sequences.

    Args:
      tokens: [b, m] int in [0, v), m at most n.
      train: whether to drop entries; needs the rng stream "dropout".

    Returns:
      [b, m + 1, d] float32: `BEGIN`, then the tokens.
    """
    tokens = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=BEGIN)
    x = jnp.take(self.dictionary, tokens + 1, axis=0)
    x = x + self.positions[:, : tokens.shape[1]]
    return self.drop(x, deterministic=not train)

  def embed_one(self, tokens: jax.Array, position: jax.Array) -> jax.Array:
    """Embeds one token of each sequence.

    Args:
      tokens: [b] int, `BEGIN` or in [0, v).
      position: [] int, 0 for `BEGIN`.

    Returns:
      [b, 1, d] float32.
    """
    x = jnp.take(self.dictionary, tokens + 1, axis=0)[:, None]
    return x + jax.lax.dynamic_slice_in_dim(self.positions, position, 1, axis=1)


class MultiHeadAttention(nn.Module):
  """Attention of several heads; no matrix has a bias.

  Attributes:
    width: d, of queries, keys, values and results, over all heads.
    num_heads: divides the width.
    dropout: of the attention and of the result.
    output_init: initialiser of the last matrix.
    dtype: type of matrix products; softmax is float32.
  """

  width: int
  num_heads: int
  dropout: float
  output_init: nn.initializers.Initializer
  dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    """Creates the matrices."""
    self.query, self.key, self.value = (
      mlp.matrix(self.width, self.dtype) for _ in range(3)
    )
    self.output = mlp.matrix(
      self.width, self.dtype, kernel_init=self.output_init
    )
    self.drop = nn.Dropout(self.dropout)

  def keys_values(self, x: jax.Array) -> KeysValues:
    """Returns what can be attended to: [b, m, ...] -> [b, m, heads, c] each."""
    return self._heads(self.key(x)), self._heads(self.value(x))

  def __call__(
    self,
    x: jax.Array,
    keys_values: KeysValues,
    mask: jax.Array | None = None,
    train: bool = False,
  ) -> jax.Array:
    """Attends.

    Args:
      x: [b, n, d], what asks.
      keys_values: of `keys_values`, m of each.
      mask: [n, m] bool, False where nothing is seen; None for all.
      train: whether to drop entries.

    Returns:
      [b, n, d] float32.
    """
    keys, values = keys_values
    queries = (
      self._heads(self.query(x)) * (self.width // self.num_heads) ** -0.5
    )
    logits = jnp.einsum(
      "bnhc,bmhc->bhnm", queries, keys, preferred_element_type=jnp.float32
    )
    if mask is not None:
      logits = jnp.where(mask[None, None], logits, -jnp.inf)
    attention = self.drop(nn.softmax(logits), deterministic=not train)
    x = jnp.einsum("bhnm,bmhc->bnhc", attention.astype(self.dtype), values)
    x = self.output(x.reshape(*x.shape[:2], self.width))  # -> [b, n, d]
    return self.drop(x.astype(jnp.float32), deterministic=not train)

  def _heads(self, x: jax.Array) -> jax.Array:
    """[b, n, d] -> [b, n, heads, c]."""
    return x.reshape(*x.shape[:2], self.num_heads, -1)


class DecoderBlock(nn.Module):
  """Attention to earlier tokens and to slots, MLP; LayerNorm before each.

  Attributes:
    width: d.
    num_heads: of both attentions.
    dropout: of attentions and results, in training.
    num_blocks: of the decoder; the more, the smaller the initial residuals.
    is_first: the first block adds its residuals to the normalised inputs.
    dtype: type of matrix products.
  """

  width: int
  num_heads: int
  dropout: float
  num_blocks: int
  is_first: bool = False
  dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    """Creates the layers."""
    # Glorot's bound times (3 blocks)^-1/2.
    residual_init = nn.initializers.variance_scaling(
      1.0 / (3 * self.num_blocks), "fan_avg", "uniform"
    )
    attention = (
      self.width,
      self.num_heads,
      self.dropout,
      residual_init,
      self.dtype,
    )
    self.self_attention = MultiHeadAttention(*attention)
    self.slot_attention = MultiHeadAttention(*attention)
    self.mlp = mlp.MLP(
      4 * self.width,
      self.width,
      self.dtype,
      initializers.relu_kernel_init,
      residual_init,
    )
    self.norm_self = mlp.layer_norm(epsilon=LAYER_NORM_EPSILON)
    self.norm_slots = mlp.layer_norm(epsilon=LAYER_NORM_EPSILON)
    self.norm_mlp = mlp.layer_norm(epsilon=LAYER_NORM_EPSILON)
    self.drop = nn.Dropout(self.dropout)

  def slot_keys_values(self, slots: jax.Array) -> KeysValues:
    """Returns keys and values of slots [b, k, d]."""
    return self.slot_attention.keys_values(slots)

  def __call__(
    self,
    x: jax.Array,
    slots: KeysValues,
    train: bool = False,
    cache: KeysValues | None = None,
    position: jax.Array | int = 0,
  ) -> tuple[jax.Array, KeysValues]:
    """Applies the block to tokens from a position on.

    Args:
      x: [b, n, d].
      slots: of `slot_keys_values`.
      train: whether to drop entries.
      cache: keys and values of earlier tokens, with places for these; None
        where there are none and shall be none.
      position: [] int, of the first of these tokens.

    Returns:
      [b, n, d] float32, and the cache with these tokens' keys and values.
    """
    y = self.norm_self(x)
    seen = self.self_attention.keys_values(y)
    if cache is not None:
      seen = tuple(
        jax.lax.dynamic_update_slice_in_dim(old, new, position, axis=1)
        for old, new in zip(cache, seen, strict=True)
      )
    rows = position + jnp.arange(x.shape[1])
    mask = rows[:, None] >= jnp.arange(seen[0].shape[1])[None]  # [n, m]
    x = (y if self.is_first else x) + self.self_attention(y, seen, mask, train)
    x = x + self.slot_attention(self.norm_slots(x), slots, None, train)
    y = self.mlp(self.norm_mlp(x)).astype(jnp.float32)
    return x + self.drop(y, deterministic=not train), seen


class TransformerDecoder(nn.Module):
  """A stack of blocks and a LayerNorm.

  Attributes:
    num_blocks: of the stack.
    width: d.
    num_heads: of every attention.
    dropout: in training.
    remat: recompute each block in the backward pass.
    dtype: type of matrix products; residuals are float32.
  """

  num_blocks: int
  width: int
  num_heads: int
  dropout: float = 0.1
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  def setup(self) -> None:
    """Creates the layers."""
    block = DecoderBlock
    if self.remat:
      block = nn.remat(DecoderBlock, static_argnums=(3,))
    self.blocks = [
      block(
        self.width,
        self.num_heads,
        self.dropout,
        self.num_blocks,
        i == 0,
        self.dtype,
      )
      for i in range(self.num_blocks)
    ]
    self.norm = mlp.layer_norm(epsilon=LAYER_NORM_EPSILON)

  def __call__(
    self, x: jax.Array, slots: jax.Array, train: bool = False
  ) -> jax.Array:
    """Applies the decoder to whole sequences.

    Args:
      x: [b, n, d] embeddings; each sees those up to itself.
      slots: [b, k, d].
      train: whether to drop entries; needs the rng stream "dropout".

    Returns:
      [b, n, d] float32.
    """
    for block in self.blocks:
      x, _ = block(x, block.slot_keys_values(slots), train)
    return self.norm(x)

  def slot_keys_values(self, slots: jax.Array) -> list[KeysValues]:
    """Returns every block's keys and values of slots [b, k, d]."""
    return [block.slot_keys_values(slots) for block in self.blocks]

  def empty_cache(self, batch_size: int, length: int) -> list[KeysValues]:
    """Returns places for `length` tokens' keys and values in every block."""
    shape = (batch_size, length, self.num_heads, self.width // self.num_heads)
    zeros = jnp.zeros(shape, self.dtype)
    return [(zeros, zeros) for _ in self.blocks]

  def step(
    self,
    x: jax.Array,
    slots: Sequence[KeysValues],
    cache: Sequence[KeysValues],
    position: jax.Array,
  ) -> tuple[jax.Array, list[KeysValues]]:
    """Applies the decoder to one more token, at a cost that does not grow.

    Args:
      x: [b, 1, d] its embedding.
      slots: of `slot_keys_values`.
      cache: of `empty_cache`, or of the step before.
      position: [] int, of the token.

    Returns:
      [b, 1, d] float32, and the next step's cache.
    """
    next_cache = []
    for block, *state in zip(self.blocks, slots, cache, strict=True):
      x, seen = block(x, state[0], False, state[1], position)
      next_cache.append(seen)
    return self.norm(x), next_cache
