"""From slots to features: an MLP for each slot and token, mixed by masks.

DINOSAUR's decoder (Seitzer et al., ICLR 2023) gives k pictures of n tokens with
c features each. They are never built: masks sum to one over slots, so the last,
linear layer can wait until the slots' hidden features are mixed.
"""

from collections.abc import Sequence
import functools
import itertools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from slot_attention.modules import initializers
from slot_attention.modules import shards

# Kernel and bias of each hidden layer; then the kernel [h] of the mask logit.
Weights = tuple[tuple[tuple[jax.Array, jax.Array], ...], jax.Array]


class FeatureDecoder(nn.Module):
  """Decodes each slot on its own, with learned positions of the tokens.

  Attributes:
    num_tokens: n.
    num_features: c.
    hidden_sizes: width of each hidden layer.
    remat: go through the slots one by one, and compute hidden features again in
      the backward pass: their memory no longer grows with the number of slots.
    dtype: type of matrix products; masks and sums over slots are float32.
  """

  num_tokens: int
  num_features: int
  hidden_sizes: Sequence[int] = (1024, 1024, 1024)
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, slots: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Decodes slots.

    Args:
      slots: [b, k, d].

    Returns:
      The mixed features [b, n, c] and the masks [b, k, n], which sum to one
      over k; both float32.
    """
    d = slots.shape[-1]
    positions = self.param(
      "position_embedding",
      nn.initializers.normal(1.0),
      (1, 1, self.num_tokens, d),
    )
    sizes = [d, *self.hidden_sizes, 1 + self.num_features]
    *hidden, (kernel, bias) = [
      _Weights(*pair, name=f"dense_{i}")()
      for i, pair in enumerate(itertools.pairwise(sizes))
    ]
    # Output 0 is the logit of the mask. Its bias shifts all slots alike.
    weights = tuple(hidden), kernel[:, 0]
    mix = _mix_one_by_one if self.remat else _mix_at_once
    mixed, logits = mix(self.dtype, weights, slots, positions[0, 0])
    features = _affine(mixed, kernel[:, 1:], bias[1:], self.dtype)
    return features.astype(jnp.float32), nn.softmax(logits, axis=1)


class _Weights(nn.Module):
  """Kernel and bias of a layer, as PyTorch initialises them."""

  num_inputs: int
  num_outputs: int

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array]:
    shape = self.num_inputs, self.num_outputs
    return (
      self.param("kernel", initializers.torch_kernel_init, shape),
      self.param(
        "bias", initializers.symmetric_uniform(self.num_inputs**-0.5), shape[1:]
      ),
    )


def _mix_at_once(
  dtype: jnp.dtype, weights: Weights, slots: jax.Array, positions: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mixes the hidden features of all slots.

  Args:
    dtype: of matrix products.
    weights: of the hidden layers and of the mask logit.
    slots: [b, k, d].
    positions: [n, d].

  Returns:
    [b, n, h] hidden features, weighted by masks and summed over slots, and the
    logits [b, k, n] of the masks; both float32.
  """
  b, k, _ = slots.shape
  # [b, k, d] -> [b * k, n, h], [b * k, n]
  hidden, logits = _decode(dtype, weights, slots.reshape(b * k, -1), positions)
  logits = logits.reshape(b, k, -1)
  hidden = hidden.reshape(b, k, *hidden.shape[1:])
  masks = nn.softmax(logits, axis=1).astype(dtype)
  mixed = jnp.einsum(
    "bkn,bknh->bnh", masks, hidden, preferred_element_type=jnp.float32
  )
  return mixed, logits


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mix_one_by_one(
  dtype: jnp.dtype, weights: Weights, slots: jax.Array, positions: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Does what `_mix_at_once` does, with the memory of one slot."""
  b, n, h = slots.shape[0], positions.shape[0], weights[1].shape[0]

  def add_slot(
    carry: tuple[jax.Array, ...], slot: jax.Array
  ) -> tuple[tuple[jax.Array, ...], jax.Array]:
    """Keeps the sums relative to the largest logit so far."""
    largest, total, mixed = carry
    hidden, logits = _decode(dtype, weights, slot, positions)
    new_largest = jnp.maximum(largest, logits)
    decay = jnp.exp(largest - new_largest)
    share = jnp.exp(logits - new_largest)
    mixed = mixed * decay[..., None] + share[..., None] * hidden
    return (new_largest, total * decay + share, mixed), logits

  start = (
    jnp.full((b, n), -jnp.inf),
    jnp.zeros((b, n)),
    jnp.zeros((b, n, h)),
  )
  (_, total, mixed), logits = jax.lax.scan(
    add_slot, start, jnp.moveaxis(slots, 1, 0)
  )
  # [k, b, n] -> [b, k, n]
  return mixed / total[..., None], jnp.moveaxis(logits, 0, 1)


def _mix_forward(
  dtype: jnp.dtype, weights: Weights, slots: jax.Array, positions: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], tuple[Any, ...]]:
  mixed, logits = _mix_one_by_one(dtype, weights, slots, positions)
  return (mixed, logits), (weights, slots, positions, mixed, logits)


def _mix_backward(
  dtype: jnp.dtype,
  saved: tuple[Any, ...],
  cotangents: tuple[jax.Array, jax.Array],
) -> tuple[Any, jax.Array, jax.Array]:
  """Computes each slot again; gradients of weights are summed on the way.

  With masks m and hidden features x of the slots, the sum is y = sum_k m_k x_k,
  and dy / d logit_k = m_k (x_k - y): no slot needs another one's features.
  """
  weights, slots, positions, mixed, logits = saved
  (to_weights, to_positions), to_slots = shards.on_each(
    functools.partial(_sum_gradients, dtype), len(slots), num_whole=2
  )(weights, positions, slots, mixed, logits, *cotangents)
  # A sum for each device.
  to_weights, to_positions = jax.tree.map(
    lambda x: jnp.sum(x, axis=0), (to_weights, to_positions)
  )
  return to_weights, to_slots, to_positions


def _sum_gradients(
  dtype: jnp.dtype,
  weights: Weights,
  positions: jax.Array,
  slots: jax.Array,
  mixed: jax.Array,
  logits: jax.Array,
  towards_mixed: jax.Array,
  towards_logits: jax.Array,
) -> tuple[Any, jax.Array]:
  """Returns (to_weights, to_positions), which begin with [1], and to_slots."""
  masks = nn.softmax(logits, axis=1)
  along_mixed = jnp.sum(towards_mixed * mixed, axis=-1)  # [b, n]

  def add_slot(
    total: Any, rows: tuple[jax.Array, jax.Array, jax.Array]
  ) -> tuple[Any, jax.Array]:
    slot, mask, towards_logit = rows
    (hidden, _), pull_back = jax.vjp(
      functools.partial(_decode, dtype), weights, slot, positions
    )
    along_hidden = jnp.sum(towards_mixed * hidden, axis=-1)  # [b, n]
    towards_logit = towards_logit + mask * (along_hidden - along_mixed)
    towards_hidden = (mask[..., None] * towards_mixed).astype(hidden.dtype)
    gradients = pull_back((towards_hidden, towards_logit))
    total = jax.tree.map(jnp.add, total, (gradients[0], gradients[2]))
    return total, gradients[1]

  by_slot = (
    jnp.moveaxis(x, 1, 0)  # [b, k, ...] -> [k, b, ...]
    for x in (slots, masks, towards_logits)
  )
  total, to_slots = jax.lax.scan(
    add_slot,
    jax.tree.map(jnp.zeros_like, (weights, positions)),
    tuple(by_slot),
  )
  return jax.tree.map(lambda x: x[None], total), jnp.moveaxis(to_slots, 0, 1)


_mix_one_by_one.defvjp(_mix_forward, _mix_backward)


def _decode(
  dtype: jnp.dtype, weights: Weights, slots: jax.Array, positions: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Computes the hidden features of slots, each with all positions.

  Args:
    dtype: of matrix products.
    weights: of the hidden layers and of the mask logit.
    slots: [m, d].
    positions: [n, d].

  Returns:
    Hidden features [m, n, h] and mask logits [m, n] float32.
  """
  layers, to_logit = weights
  (kernel, bias), *others = layers
  # The first layer of a sum is the sum of its parts: m + n products, not m n.
  by_slot = _affine(slots, kernel, bias, dtype)
  by_position = _product(positions, kernel, dtype)
  x = nn.relu(_outer_sum(by_slot, by_position))
  for kernel, bias in others:
    x = nn.relu(_affine(x, kernel, bias, dtype))
  logits = jnp.einsum(
    "mnh,h->mn", x, to_logit.astype(dtype), preferred_element_type=jnp.float32
  )
  return x, logits


def _outer_sum(rows: jax.Array, columns: jax.Array) -> jax.Array:
  """[m, h], [n, h] -> [m, n, h]."""
  return rows[:, None, :] + columns[None, :, :]


def _affine(
  x: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: jnp.dtype
) -> jax.Array:
  y = _product(x, kernel, dtype)
  return y + jnp.broadcast_to(bias.astype(dtype), y.shape)


def _product(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """[..., i], [i, o] -> [..., o]."""
  return jnp.dot(x.astype(dtype), kernel.astype(dtype))
