"""A model as its paper defines it, for counting what it computes.

Some modules compute the same with fewer products than their definition names.
`as_defined` puts the definition back, so that FLOPs are those of the model and
not those of its latest implementation.
"""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp

from slot_attention import train_state as train_state_lib
from slot_attention.benchmarking import flops
from slot_attention.benchmarking import work as work_lib
from slot_attention.modules import convolution_ops
from slot_attention.modules import convolutions
from slot_attention.modules import feature_decoder
from slot_attention.modules import iteration
from slot_attention.modules import projection
from slot_attention.tasks import base


def train_step_work(
  task: base.Task,
  state: train_state_lib.TrainState,
  batch: base.Batch,
) -> work_lib.Work:
  """Counts the loss of a batch and its gradient.

  Args:
    task: of the run.
    state: arrays or shapes.
    batch: arrays or shapes.

  Returns:
    The work of all devices together. Besides the products it moves the state,
    which is read and written, and the batch.
  """

  def loss(params: Any, model_state: Any, batch: base.Batch) -> jax.Array:
    return task.loss({"params": params, **model_state}, batch, _rngs())[0]

  with as_defined():
    work = flops.training_work(loss, state.params, state.model_state, batch)
  moved = 2 * work_lib.tree_bytes((state.params, state.opt_state))
  return work.plus(work_lib.Work(0.0, moved + work_lib.tree_bytes(dict(batch))))


def eval_step_work(
  task: base.Task, variables: dict[str, Any], batch: base.Batch
) -> work_lib.Work:
  """Counts the evaluation of a batch, from images to scores.

  Args:
    task: of the run.
    variables: arrays or shapes.
    batch: arrays or shapes.

  Returns:
    The work of all devices together, which reads the variables and the batch.
  """

  def step(variables: dict[str, Any], batch: base.Batch) -> Any:
    return task.eval_step(variables, batch, _rngs())

  with as_defined():
    work = flops.forward_work(step, variables, batch)
  return work.plus(
    work_lib.Work(0.0, work_lib.tree_bytes((variables, dict(batch))))
  )


def as_defined() -> Any:
  """Returns a context in which modules are traced as they are defined."""

  def call(
    method: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
  ) -> Any:
    definition = DEFINITIONS.get(type(context.module))
    if definition is None or context.method_name != "__call__":
      return method(*args, **kwargs)
    params = context.module.variables["params"]
    return definition(context.module, params, *args, **kwargs)

  return nn.intercept_methods(call)


def _rngs() -> dict[str, jax.Array]:
  return train_state_lib.step_rngs(0, jnp.zeros([], jnp.int32))


def _broadcast_conv_transpose(
  module: convolutions.BroadcastConvTranspose,
  params: Any,
  vectors: jax.Array,
  plane: jax.Array,
) -> jax.Array:
  """[m, d], [h, w, d] -> [m, h, w, out]: vectors lie in every pixel."""
  inputs = vectors[:, None, None] + plane[None]
  kernel = params["kernel"]
  sides = tuple((size // 2, size // 2) for size in kernel.shape[:2])
  return convolution_ops.transpose(
    inputs.astype(module.dtype),
    kernel.astype(module.dtype),
    1,
    sides,
    plane.shape[:2],
  )


def _feature_decoder(
  module: feature_decoder.FeatureDecoder, params: Any, slots: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """[b, k, d] -> [b, n, c], [b, k, n]: every slot explains every token."""
  x = slots[:, :, None] + params["position_embedding"]  # [b, k, n, d]
  for i in range(1 + len(module.hidden_sizes)):
    kernel = params[f"dense_{i}"]["kernel"].astype(module.dtype)
    x = nn.relu(x.astype(module.dtype) @ kernel)
  # [b, k, n, 1 + c] -> [b, k, n], [b, k, n, c]
  masks, features = nn.softmax(x[..., 0], axis=1), x[..., 1:]
  mixed = jnp.einsum("bkn,bknc->bnc", masks, features)
  return mixed.astype(jnp.float32), masks.astype(jnp.float32)


class _Projected(struct.PyTreeNode):
  """`projection.Projected`, of inputs [b, n, d] that were projected."""

  values: jax.Array

  def dot(self, queries: jax.Array) -> jax.Array:
    return jnp.einsum("bkd,bnd->bkn", queries, self.values)

  def weigh(self, weights: jax.Array) -> jax.Array:
    return iteration.weigh(weights, self.values)


def _projection(
  module: projection.Projection, params: Any, inputs: jax.Array
) -> _Projected:
  """[b, n, c] -> [b, n, d]: every input is projected."""
  kernel = params["kernel"].astype(module.dtype)
  return _Projected(inputs.astype(module.dtype) @ kernel)


# A module that takes a shortcut on all platforms is a line here; `flops` passes
# over those of one platform.
DEFINITIONS = {
  convolutions.BroadcastConvTranspose: _broadcast_conv_transpose,
  feature_decoder.FeatureDecoder: _feature_decoder,
  projection.Projection: _projection,
}
