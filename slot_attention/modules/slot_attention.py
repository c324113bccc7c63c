"""The Slot Attention module (paper A, Algorithm 1)."""

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from slot_attention.modules import gru
from slot_attention.modules import initializers
from slot_attention.modules import mlp
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
    if num_iterations is None:
      num_iterations = self.num_iterations
    if num_iterations < 1:
      raise ValueError(
        f"num_iterations is {num_iterations}; Slot Attention needs at least 1."
      )
    # k and v do not depend on the slots: once per call (lines 1 and 5).
    inputs = mlp.layer_norm("norm_inputs", self.layer_norm_epsilon)(inputs)
    keys = self._project("project_k")(inputs)  # [b, n, d]
    values = self._project("project_v")(inputs)  # [b, n, d]
    step_class = (
      nn.remat(_Iteration, static_argnums=(5,)) if self.remat else _Iteration
    )
    normalization = update_normalization.NORMALIZATIONS[self.normalization](
      self.epsilon, self.num_train_slots, self.dtype, name="normalization"
    )
    step = step_class(
      self.slot_size,
      self.mlp_hidden_size,
      normalization,
      self.layer_norm_epsilon,
      self.dtype,
      name="iteration",
    )
    attention_per_iteration, slots_per_iteration = [], []
    statistics = None
    for i in range(num_iterations):
      if self.gradient == "last" and i == num_iterations - 1:
        slots, statistics = jax.lax.stop_gradient((slots, statistics))
      slots, attention, statistics = step(
        slots, keys, values, statistics, train
      )
      attention_per_iteration.append(attention)
      slots_per_iteration.append(slots)
    return SlotOutput(
      slots,
      jnp.stack(attention_per_iteration, axis=1),
      jnp.stack(slots_per_iteration, axis=1),
    )

  def _project(self, name: str) -> nn.Dense:
    return nn.Dense(
      self.slot_size,
      use_bias=False,
      kernel_init=initializers.kernel_init,
      dtype=self.dtype,
      name=name,
    )


class _Iteration(nn.Module):
  """One round of attention and update (Algorithm 1, lines 4-10)."""

  slot_size: int
  mlp_hidden_size: int
  normalization: update_normalization.UpdateNormalization
  layer_norm_epsilon: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self,
    slots: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    statistics: update_normalization.Statistics | None,
    train: bool,
  ) -> tuple[jax.Array, jax.Array, update_normalization.Statistics | None]:
    """Returns the next slots [b, k, d], attention [b, k, n], statistics."""
    previous = slots
    slots = mlp.layer_norm("norm_slots", self.layer_norm_epsilon)(slots)
    queries = nn.Dense(
      self.slot_size,
      use_bias=False,
      kernel_init=initializers.kernel_init,
      dtype=self.dtype,
      name="project_q",
    )(slots)
    queries = queries * self.slot_size**-0.5
    logits = jnp.einsum(
      "bkd,bnd->bkn", queries, keys, preferred_element_type=jnp.float32
    )
    attention = nn.softmax(logits, axis=1)  # Slots compete: over k.
    updates, statistics = self.normalization(
      attention, values, statistics, train
    )
    slots = gru.GRUCell(self.dtype, name="gru")(previous, updates)
    residual = mlp.MLP(
      self.mlp_hidden_size, self.slot_size, self.dtype, name="mlp"
    )(mlp.layer_norm("norm_mlp", self.layer_norm_epsilon)(slots))
    return slots + residual.astype(jnp.float32), attention, statistics
