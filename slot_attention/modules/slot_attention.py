"""The Slot Attention module (paper A, Algorithm 1)."""

import dataclasses
import functools
from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from slot_attention.modules import gru
from slot_attention.modules import iteration
from slot_attention.modules import mlp
from slot_attention.modules import projection
from slot_attention.modules import update_normalization


class SlotOutput(struct.PyTreeNode):
  """What every slot module returns.

  Attributes:
    slots: [b, k, d] float32, the slots after the last iteration.
    attention: [b, t, k, n] float32, each iteration's attention; sums to one
      over k. It is computed from the slots before that iteration's update.
    slots_per_iteration: [b, t, k, d] float32, slots after each iteration.
  """

  slots: jax.Array
  attention: jax.Array
  slots_per_iteration: jax.Array


@dataclasses.dataclass(frozen=True)
class Ablations:
  """What paper A, appendix B, takes away; the default is Algorithm 1.

  Attributes:
    softmax_axis: "slots", which compete; or "inputs", as in self-attention,
      where each slot's attention sums to one on its own (Figure 10), so that
      there is nothing left for a weighted mean to normalise.
    temperature: what logits are divided by (Figure 15); 0 for sqrt(slot_size).
    epsilon_placement: "attention", where it is added to every value; or "savi",
      SAVi's, where it is added to their sum (Figure 16).
    use_gru: False takes the updates of line 8 as the next slots (Figure 11).
    use_mlp: False leaves line 10 out (Figure 14).
    use_layer_norm: False leaves all three LayerNorms out (Figure 13).
  """

  softmax_axis: str = "slots"
  temperature: float = 0.0
  epsilon_placement: str = "attention"
  use_gru: bool = True
  use_mlp: bool = True
  use_layer_norm: bool = True


class SlotAttention(nn.Module):
  """Iterated attention in which slots compete for inputs.

  Attributes:
    slot_size: width d of slots, keys, queries and values.
    mlp_hidden_size: width of the residual MLP.
    num_iterations: t, when a call names no other number.
    epsilon: added to the attention before it is renormalised.
    normalization: key of `update_normalization.NORMALIZATIONS`.
    num_train_slots: k in training; what scaled_mean scales by.
    layer_norm_epsilon: of the three LayerNorms here; PyTorch's is 1e-5.
    ablations: what is left out.
    gradient: "all" iterations, or the "last" one only: slots, and statistics of
      the normalisation, are constants before it.
    remat: recompute each iteration in the backward pass.
    dtype: type of matrix products; softmax, renormalisation, LayerNorm and the
      slots themselves are float32.
  """

  slot_size: int = 64
  mlp_hidden_size: int = 128
  num_iterations: int = 3
  epsilon: float = 1e-8
  normalization: str = "weighted_mean"
  num_train_slots: int = 1
  layer_norm_epsilon: float = mlp.LAYER_NORM_EPSILON
  ablations: Ablations = Ablations()
  gradient: str = "all"
  remat: bool = False
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    inputs: jax.Array,
    slots: jax.Array,
    num_iterations: int | None = None,
    train: bool = False,
  ) -> SlotOutput:
    """Refines slots.

    Args:
      inputs: [b, n, c] input features.
      slots: [b, k, d] initial slots; k is free.
      num_iterations: t >= 1, or None for the number given to the constructor.
      train: whether running statistics of the normalisation are updated.

    Returns:
      SlotOutput.

    Raises:
      ValueError: fewer than one iteration is asked for.
    """
    if self.ablations.use_layer_norm:
      inputs = mlp.layer_norm("norm_inputs", self.layer_norm_epsilon)(inputs)
    # k and v do not depend on the slots: once per call (lines 1 and 5).
    project = functools.partial(
      projection.Projection, self.slot_size, self.dtype
    )
    keys = project(name="project_k")(inputs)  # Stands for [b, n, d].
    values = project(name="project_v")(inputs)
    step_class = (
      nn.remat(_Iteration, static_argnums=(5,)) if self.remat else _Iteration
    )
    normalization = update_normalization.NORMALIZATIONS[self.normalization](
      self.epsilon,
      self.num_train_slots,
      self.ablations.epsilon_placement,
      name="normalization",
    )
    step = step_class(
      self.slot_size,
      self.mlp_hidden_size,
      normalization,
      self.layer_norm_epsilon,
      self.ablations,
      self.dtype,
      name="iteration",
    )

    def advance(state: Any) -> Any:
      slots, attention, statistics = step(
        state[0], keys, values, state[1], train
      )
      return (slots, statistics), attention, slots

    attention, slots = iteration.refine(
      advance,
      (slots, None),
      self.num_iterations if num_iterations is None else num_iterations,
      jax.lax.stop_gradient if self.gradient == "last" else None,
    )
    return SlotOutput(slots[:, -1], attention, slots)


class _Iteration(nn.Module):
  """One round of attention and update (Algorithm 1, lines 4-10)."""

  slot_size: int
  mlp_hidden_size: int
  normalization: update_normalization.UpdateNormalization
  layer_norm_epsilon: float
  ablations: Ablations
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self,
    slots: jax.Array,
    keys: projection.Projected,
    values: projection.Projected,
    statistics: update_normalization.Statistics | None,
    train: bool,
  ) -> tuple[jax.Array, jax.Array, update_normalization.Statistics | None]:
    """Returns the next slots [b, k, d], attention [b, k, n], statistics."""
    ablations = self.ablations
    previous = slots
    queries = mlp.matrix(self.slot_size, self.dtype, "project_q")(
      self._layer_norm("norm_slots", slots)
    )
    queries = queries / (ablations.temperature or self.slot_size**0.5)
    logits = keys.dot(queries)
    axis = {"slots": 1, "inputs": 2}[ablations.softmax_axis]
    attention = nn.softmax(logits, axis=axis)
    updates, statistics = self.normalization(
      attention, values.weigh, statistics, train
    )
    slots = updates
    if ablations.use_gru:
      slots = gru.GRUCell(self.dtype, name="gru")(previous, updates)
    if ablations.use_mlp:
      residual = mlp.MLP(
        self.mlp_hidden_size, self.slot_size, self.dtype, name="mlp"
      )(self._layer_norm("norm_mlp", slots))
      slots = slots + residual.astype(jnp.float32)
    return slots, attention, statistics

  def _layer_norm(self, name: str, slots: jax.Array) -> jax.Array:
    if not self.ablations.use_layer_norm:
      return slots
    return mlp.layer_norm(name, self.layer_norm_epsilon)(slots)
