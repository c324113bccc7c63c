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

from slot_attention.figures import scene_views
from slot_attention.metrics import health
from slot_attention.modules import slot_attention
from slot_attention.tasks import slots as slots_lib

Batch = Mapping[str, jax.Array]
Rngs = Mapping[str, jax.Array]

# What `eval_step` calls the images that it generated.
GENERATED = "generated"

_MAX_ENTITIES = 10  # Objects of the Multi-Object Datasets, at most.


class Task(Protocol):
  """The protocol; letters as in the contracts: b batch, k slots, t iterations.

  All functions are pure, so that the loop can jit, shard and donate.
  """

  model: nn.Module

  def init(self, key: jax.Array) -> dict[str, Any]:
    """Returns the model's variables: {"params": ..., other collections}."""

  def load_frozen(self, needs_images: bool = False) -> dict[str, Any]:
    """Returns variables that are not trained: {"frozen": ...}, or nothing.

    Args:
      needs_images: whether the model will see images even if the config's
        batches hold something else.
    """

  def frozen_shapes(self) -> dict[str, Any]:
    """Returns the shapes of `load_frozen`'s arrays, without loading them."""

  def observed(self, batch: Batch) -> jax.Array:
    """Returns what of a batch `encode` and `predict` take: the images."""

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
    Only `GENERATED`, see `generates_images`, is large, and is not kept.
    """

  def generates_images(self) -> bool:
    """Says whether `eval_step` returns `GENERATED`, for the FID.

    These are images [b, h, w, 3] in [-1, 1], which the model made of each image
    of the batch.
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

  A task's model says in `read_out` what it makes of them.

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

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    slot_noise: jax.Array | None = None,
    train: bool = False,
    inputs: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Finds the slots of images and reads them out.

    Args:
      images: [b, h, w, 3] in [-1, 1].
      num_slots: k, or None for the configured number.
      num_iterations: t, or None for the configured number.
      slot_noise: [b, k, d], or [b, k, 2 d] for mixtures, see the initializer.
      train: passed to the slot module.
      inputs: [b, n, c] of the images, from `encode`; None computes them.

    Returns:
      What `read_out` returns, `attention` [b, t, k, n], `slots` [b, k, d] and
      `slots_per_iteration` [b, t, k, d].
    """
    if inputs is None:
      inputs = self.encode(images)
    output = self.infer_slots(
      inputs, num_slots, num_iterations, slot_noise, train
    )
    return self.read_out(output) | {
      "attention": output.attention,
      "slots": output.slots,
      "slots_per_iteration": output.slots_per_iteration,
    }

  def read_out(self, output: slot_attention.SlotOutput) -> dict[str, jax.Array]:
    """Returns what the task wants to know of the slots."""
    raise NotImplementedError

  def encode(self, images: jax.Array) -> jax.Array:
    """Returns the slot module's inputs [b, n, c] of images [b, h, w, 3]."""
    grid = self.tokens(images)
    return grid.reshape(grid.shape[0], -1, grid.shape[-1])  # [b, h'w', c]

  def infer_slots(
    self,
    inputs: jax.Array,
    num_slots: int | None,
    num_iterations: int | None,
    slot_noise: jax.Array | None,
    train: bool,
  ) -> slot_attention.SlotOutput:
    """Returns the slots of inputs [b, n, c]; the others as of a call."""
    request = inputs.shape[0], num_slots, slot_noise
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

  def load_frozen(self, needs_images: bool = False) -> dict[str, Any]:
    """Returns nothing: all variables are trained; see `Task.load_frozen`."""
    del needs_images
    return {}

  def frozen_shapes(self) -> dict[str, Any]:
    """Returns nothing; see `Task.frozen_shapes`."""
    return {}

  def observed(self, batch: Batch) -> jax.Array:
    """Returns the images [b, h, w, 3]; see `Task.observed`."""
    return batch["image"]

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
      num_iterations or self.config.eval.num_iterations or None,
      slot_noise,
      inputs=inputs,
      rngs=rngs,
    )

  def encode(
    self, variables: Mapping[str, Any], images: jax.Array
  ) -> jax.Array:
    """Returns the slot module's inputs [b, n, c]; see `Task.encode`."""
    return self.model.apply(variables, images, method="encode")

  def generates_images(self) -> bool:
    """Returns False; see `Task.generates_images`."""
    return False

  def figure_outputs(
    self, variables: Mapping[str, Any], outputs: Mapping[str, jax.Array]
  ) -> dict[str, jax.Array]:
    """Returns the outputs as they are; see `Task.figure_outputs`."""
    del variables
    return dict(outputs)

  def warnings(self, scalars: Mapping[str, float]) -> list[str]:
    """Says whether slots lie idle or ignore the image; see `Task.warnings`."""
    return health.warnings(scalars, self.config.model.num_slots)

  def examples(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> list[dict[str, np.ndarray]]:
    """Returns outputs and batch example by example, with `attention_maps`."""
    maps = {"attention_maps": self.attention_maps(outputs["attention"])}
    rows = dict(batch) | dict(outputs) | maps
    return [
      {name: values[i] for name, values in rows.items()}
      for i in range(len(rows["image"]))
    ]

  def max_id(self) -> int:
    """Returns the largest segment id that the metrics count.

    Ids are as in the source: a scene of few objects may hold the largest.
    """
    data = self.config.data
    return max(_MAX_ENTITIES, data.num_targets, data.max_num_objects)

  def attention_maps(self, attention: np.ndarray) -> np.ndarray:
    """Lays attention out on the encoder's grid: [..., n] -> [..., h', w']."""
    return attention.reshape(
      *attention.shape[:-1], *slots_lib.encoder_grid(self.config)
    )


def require_known_ids(outputs: Mapping[str, np.ndarray], max_id: int) -> None:
  """Raises if a segmentation holds a larger id than the metrics count.

  Args:
    outputs: [n] each, of `eval_step`; `ari`, where there are masks, is defined
      for every image whose ids are in range.
    max_id: the largest id.

  Raises:
    ValueError: it is not, for some image.
  """
  out_of_range = np.isnan(outputs.get("ari", 0.0)).sum()
  if out_of_range:
    raise ValueError(
      f"The segmentations of {out_of_range} images hold ids above {max_id}, "
      "which no metric counts; set config.data.num_targets to the largest id "
      "of the data."
    )
