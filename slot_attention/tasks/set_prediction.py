"""Set prediction: properties of objects (paper A, sections 2.3 and 4.2)."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import losses
from slot_attention.figures import drawing
from slot_attention.figures import scene_views
from slot_attention.figures import set_figures
from slot_attention.metrics import ari
from slot_attention.metrics import average_precision
from slot_attention.metrics import health
from slot_attention.modules import mlp
from slot_attention.modules import slot_attention
from slot_attention.tasks import base
from slot_attention.tasks import slots as slots_lib

NUM_PROPERTIES = average_precision.NUM_FEATURES


class SetPredictionModel(base.SlotModel):
  """Encoder, slots and a head shared by all slots (paper A, appendix E.4).

  Attributes:
    head: "joint", one MLP with sigmoids, or "split", that of paper B's code:
      coordinates apart from the other properties, and softmax over classes.
    head_hidden_size: hidden width of the head.
    dtype: type of the head's matrix products.
  """

  head: str = "joint"
  head_hidden_size: int = 64
  dtype: jnp.dtype = jnp.float32

  def read_out(self, output: slot_attention.SlotOutput) -> dict[str, jax.Array]:
    """Predicts a set of objects at every iteration.

    Args:
      output: of the slot module.

    Returns:
      `predictions` [b, k, 19] float32 in (0, 1) and
      `predictions_per_iteration` [b, t, k, 19].
    """
    slots = output.slots_per_iteration
    if self.head == "joint":
      logits = self._logits("mlp_classifier", NUM_PROPERTIES, slots)
      predictions = nn.sigmoid(logits)
    else:
      predictions = self._split_head(slots)
    return {
      "predictions": predictions[:, -1],
      "predictions_per_iteration": predictions,
    }

  def _logits(self, name: str, size: int, slots: jax.Array) -> jax.Array:
    """[b, t, k, d] -> [b, t, k, size] float32."""
    head = mlp.MLP(self.head_hidden_size, size, self.dtype, name=name)
    return head(slots).astype(jnp.float32)

  def _split_head(self, slots: jax.Array) -> jax.Array:
    """[b, t, k, d] -> [b, t, k, 19]."""
    first = average_precision.COORDINATES.stop
    coordinates = self._logits("mlp_coordinates", first, slots)
    logits = self._logits("mlp_properties", NUM_PROPERTIES - first, slots)
    presence = average_precision.PRESENCE - first
    return jnp.concatenate(
      [
        nn.sigmoid(coordinates),
        *(
          nn.softmax(logits[..., classes.start - first : classes.stop - first])
          for classes in average_precision.ATTRIBUTES.values()
        ),
        nn.sigmoid(logits[..., presence : presence + 1]),
      ],
      axis=-1,
    )


class SetPrediction(base.SlotTask):
  """The task; see `base.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    super().__init__(
      config,
      SetPredictionModel(
        **slots_lib.build_slots(config),
        head=config.model.head,
        head_hidden_size=config.model.head_hidden_size,
        dtype=slots_lib.compute_dtype(config),
      ),
    )

  def loss(
    self, variables: Mapping[str, Any], batch: base.Batch, rngs: base.Rngs
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
    """Returns the set loss, mean over the batch; see `base.Task.loss`.

    With model.stepwise_loss it is the mean over all iterations too.
    """
    outputs, state = self.apply_train(variables, batch["image"], rngs)
    predictions, targets = outputs["predictions"], batch["target"]
    if self.config.model.stepwise_loss:
      predictions = outputs["predictions_per_iteration"]
      num_iterations = predictions.shape[1]
      # [b, t, k, 19] -> [b * t, k, 19]
      predictions = predictions.reshape(-1, *predictions.shape[2:])
      targets = jnp.repeat(targets, num_iterations, axis=0)
    per_example, _ = self.set_loss(predictions, targets)
    return jnp.mean(per_example), ({}, state)

  def set_loss(
    self,
    predictions: jax.Array,
    targets: jax.Array,
    matching: str | None = None,
  ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Returns the loss in the coordinates that the config names.

    Outside of it, coordinates are always (x + 3) / 6. The range [-1, 1] is
    paper B's (section 4.1), other scales are paper A's (appendix C.2).

    Args:
      predictions: [b, k, 19] in (0, 1).
      targets: [b, o, 19] in [0, 1]; padding rows stay zero in every range.
      matching: a key of `matching.METHODS`, or None for the configured one.

    Returns:
      See `losses.set_loss`.
    """
    model = self.config.model
    low = -1.0 if model.coordinate_range == "symmetric" else 0.0
    real = targets[..., average_precision.PRESENCE :] != 0  # [b, o, 1]
    return losses.set_loss(
      _rescale(predictions, low, model.coordinate_scale),
      _rescale(targets, low, model.coordinate_scale) * real,
      matching or model.matching,
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
    """Returns predictions, targets, loss, matching and, with masks, ARI."""
    outputs = self.predict(
      variables,
      batch["image"],
      rngs,
      num_slots,
      num_iterations,
      inputs=inputs,
    )
    loss, (rows, columns) = self.set_loss(
      outputs["predictions"], batch["target"]
    )
    result = {
      "predictions": outputs["predictions"],
      "target": batch["target"],
      "loss": loss,
      "rows": rows,
      "columns": columns,
    }
    if self.config.slot_module == "slot_mlp":  # It has no attention.
      return result
    labels = jnp.argmax(outputs["attention"][:, -1], axis=1)  # [b, n]
    num_slots = outputs["attention"].shape[2]
    result |= health.slot_health(labels, num_slots, batch["valid"])
    if "segmentation" in batch:
      result |= ari.attention_indices(
        batch["segmentation"],
        self.attention_maps(outputs["attention"][:, -1]),
        batch["target"].shape[1],
      )
    return result

  def summarize(self, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns loss, average precision, attribute accuracy and ARI."""
    scalars = {"loss": float(np.mean(outputs["loss"]))}
    precision = average_precision.average_precision(
      outputs["predictions"], outputs["target"]
    )
    scalars |= {f"ap_{t:g}": value for t, value in precision.items()}
    accuracy = average_precision.attribute_accuracy(
      outputs["predictions"],
      outputs["target"],
      outputs["rows"],
      outputs["columns"],
    )
    scalars |= {f"accuracy_{name}": value for name, value in accuracy.items()}
    for name in ("ari", "ari_fg", *health.NAMES):
      rows = outputs.get(name, np.array([]))
      rows = rows[~np.isnan(rows)]  # An image alone is like no other.
      if rows.size:
        scalars[name] = float(np.mean(rows))
    return scalars

  def figures(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> dict[str, list[np.ndarray]]:
    """Draws predicted against true objects, and attention per iteration."""
    attention = self.attention_maps(outputs["attention"])
    _, (rows, columns) = self.set_loss(
      outputs["predictions"], batch["target"], "scipy"
    )
    return {
      "objects": [
        set_figures.objects_figure(*example)
        for example in zip(
          batch["image"],
          outputs["predictions"],
          batch["target"],
          np.asarray(rows),
          np.asarray(columns),
          attention[:, -1],
          strict=True,
        )
      ],
      "attention": [
        drawing.attention_grid(drawing.enlarge(image), maps)
        for image, maps in zip(batch["image"], attention, strict=True)
      ],
    }

  def scenes(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> list[scene_views.Scene]:
    """Lays examples out for animations and pages; see `base.Task`."""
    return [
      set_figures.scene(*example)
      for example in zip(
        batch["image"],
        self.figures(outputs, batch)["objects"],
        outputs["predictions"],
        self.attention_maps(outputs["attention"]),
        strict=True,
      )
    ]


def _rescale(objects: jax.Array, low: float, scale: float) -> jax.Array:
  """Maps coordinates from [0, 1] to [low, 1] times scale; [b, k, 19]."""
  first = average_precision.COORDINATES.stop
  coordinates = objects[..., :first] * (1.0 - low) + low
  return jnp.concatenate([coordinates * scale, objects[..., first:]], axis=-1)
