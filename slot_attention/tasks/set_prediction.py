"""Set prediction: properties of objects (paper A, sections 2.3 and 4.2)."""

from collections.abc import Mapping
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import figures
from slot_attention import losses
from slot_attention.metrics import ari
from slot_attention.metrics import average_precision
from slot_attention.modules import mlp
from slot_attention.tasks import base

NUM_PROPERTIES = average_precision.NUM_FEATURES

# TFDS' order of the classes, as in the one-hots of `batch["target"]`.
_CLASS_NAMES = {
  "size": ("small", "large"),
  "color": (
    *("gray", "blue", "brown", "yellow"),
    *("red", "green", "purple", "cyan"),
  ),
  "material": ("rubber", "metal"),
  "shape": ("cube", "sphere", "cylinder"),
}
_PRESENT = 0.5  # Predictions less sure than this are not listed in figures.


class SetPredictionModel(base.SlotModel):
  """Encoder, slots and a head shared by all slots (paper A, appendix E.4).

  Attributes:
    head_hidden_size: hidden width of the head.
    dtype: type of the head's matrix products.
  """

  head_hidden_size: int = 64
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    slot_noise: jax.Array | None = None,
    train: bool = False,
  ) -> dict[str, jax.Array]:
    """Predicts a set of objects.

    Args:
      images: [b, h, w, 3] in [-1, 1].
      num_slots: see `SlotModel.infer_slots`, and for the others.
      num_iterations: t.
      slot_noise: [b, k, d].
      train: whether in training.

    Returns:
      `predictions` [b, k, 19] float32 in (0, 1), `attention` [b, t, k, n] and
      `slots` [b, k, d].
    """
    output = self.infer_slots(
      images, num_slots, num_iterations, slot_noise, train
    )
    logits = mlp.MLP(
      self.head_hidden_size, NUM_PROPERTIES, self.dtype, name="mlp_classifier"
    )(output.slots)
    return {
      "predictions": nn.sigmoid(logits.astype(jnp.float32)),
      "attention": output.attention,
      "slots": output.slots,
    }


class SetPrediction(base.SlotTask):
  """The task; see `base.Task`."""

  def __init__(self, config: ml_collections.ConfigDict):
    super().__init__(
      config,
      SetPredictionModel(
        **base.build_slots(config),
        head_hidden_size=config.model.head_hidden_size,
        dtype=base.compute_dtype(config),
      ),
    )

  def loss(
    self, variables: Mapping[str, Any], batch: base.Batch, rngs: base.Rngs
  ) -> tuple[jax.Array, tuple[dict[str, jax.Array], dict[str, Any]]]:
    """Returns the set loss, mean over the batch; see `base.Task.loss`."""
    outputs, state = self.apply_train(variables, batch["image"], rngs)
    per_example, _ = losses.set_loss(
      outputs["predictions"], batch["target"], self.config.model.matching
    )
    return jnp.mean(per_example), ({}, state)

  def eval_step(
    self,
    variables: Mapping[str, Any],
    batch: base.Batch,
    rngs: base.Rngs,
    num_slots: int | None = None,
    num_iterations: int | None = None,
  ) -> dict[str, jax.Array]:
    """Returns predictions, targets, loss, matching and, with masks, ARI."""
    outputs = self.predict(
      variables, batch["image"], rngs, num_slots, num_iterations
    )
    loss, (rows, columns) = losses.set_loss(
      outputs["predictions"], batch["target"], self.config.model.matching
    )
    result = {
      "predictions": outputs["predictions"],
      "target": batch["target"],
      "loss": loss,
      "rows": rows,
      "columns": columns,
    }
    if "segmentation" in batch:
      result |= _attention_ari(
        batch["segmentation"],
        outputs["attention"],
        self._grid(),
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
    for name in ("ari", "ari_fg"):
      if name in outputs:
        scalars[name] = float(np.mean(outputs[name]))
    return scalars

  def figures(
    self, outputs: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
  ) -> dict[str, list[np.ndarray]]:
    """Draws predicted against true objects, and attention per iteration."""
    attention = outputs["attention"]
    # [b, t, k, n] -> [b, t, k, h', w']
    attention = attention.reshape(*attention.shape[:3], *self._grid())
    _, (rows, columns) = losses.set_loss(
      outputs["predictions"], batch["target"], "scipy"
    )
    return {
      "objects": [
        _objects_figure(*example)
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
        figures.attention_grid(figures.enlarge(image), maps)
        for image, maps in zip(batch["image"], attention, strict=True)
      ],
    }

  def _grid(self) -> tuple[int, int]:
    """Returns (h', w'), the layout of the attention maps."""
    stride = math.prod(self.config.model.encoder_strides)
    height, width = self.config.data.resolution
    return -(-height // stride), -(-width // stride)


def _attention_ari(
  segmentation: jax.Array,
  attention: jax.Array,
  grid: tuple[int, int],
  num_objects: int,
) -> dict[str, jax.Array]:
  """Scores the last attention maps as a segmentation (paper A, section 4.2).

  Args:
    segmentation: [b, h, w] int32, 0 = background.
    attention: [b, t, k, n].
    grid: (h', w') with h'w' = n.
    num_objects: o, the largest id.

  Returns:
    `ari` over all pixels and `ari_fg` over the objects' pixels, both [b].
  """
  rows, columns = (
    jnp.arange(small) * full // small
    for small, full in zip(grid, segmentation.shape[1:], strict=True)
  )
  true_ids = segmentation[:, rows[:, None], columns[None, :]]  # [b, h', w']
  true_ids = true_ids.reshape(true_ids.shape[0], -1)  # [b, n]
  predicted_ids = jnp.argmax(attention[:, -1], axis=1)  # [b, n]
  return ari.both_indices(
    true_ids, predicted_ids, num_objects, attention.shape[2]
  )


def _objects_figure(
  image: np.ndarray,
  predictions: np.ndarray,
  target: np.ndarray,
  rows: np.ndarray,
  columns: np.ndarray,
  attention: np.ndarray,
) -> np.ndarray:
  """Draws one image with its predicted and its true objects.

  Args:
    image: [h, w, 3] in [-1, 1].
    predictions: [k, 19].
    target: [o, 19].
    rows: [min(o, k)] matched targets.
    columns: [min(o, k)] the predictions matched to them.
    attention: [k, h', w'] of the last iteration; a prediction's number stands
      at its centre of mass.

  Returns:
    uint8 [H, W, 3].
  """
  presence = average_precision.PRESENCE
  listed = np.flatnonzero(predictions[:, presence] > _PRESENT)
  real = np.flatnonzero(target[:, presence] != 0)
  match = dict(zip(columns.tolist(), rows.tolist(), strict=True))
  correct = {
    slot: row
    for slot, row in match.items()
    if row in real and _describe(predictions[slot]) == _describe(target[row])
  }
  marks = [
    figures.Label(str(slot), _center(attention[slot], image.shape))
    for slot in listed
  ]
  return figures.set_prediction_panel(
    figures.draw_objects(image, marks),
    [
      f"{slot}: {_describe(predictions[slot])} "
      f"{predictions[slot, presence]:.2f}"
      for slot in listed
    ],
    [_describe(target[row]) for row in real],
    [slot in correct for slot in listed],
    [row in correct.values() for row in real],
    scale=1,
  )


def _describe(properties: np.ndarray) -> str:
  """[19] -> "large red metal sphere"."""
  return " ".join(
    names[int(np.argmax(properties[average_precision.ATTRIBUTES[attribute]]))]
    for attribute, names in _CLASS_NAMES.items()
  )


def _center(
  attention: np.ndarray, image_shape: tuple[int, ...]
) -> tuple[float, float]:
  """Returns the centre of mass (x, y) of [h', w'], in pixels of the image."""
  weights = attention / max(attention.sum(), 1e-8)
  y, x = (
    (weights.sum(axis=other) * (np.arange(cells) + 0.5)).sum() * pixels / cells
    for other, cells, pixels in zip(
      (1, 0), weights.shape, image_shape[:2], strict=True
    )
  )
  return float(x), float(y)
