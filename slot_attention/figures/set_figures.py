"""Objects in images, with labels: what set prediction shows."""

from collections.abc import Sequence
import dataclasses

import numpy as np
from PIL import Image
from PIL import ImageDraw

from slot_attention.figures import drawing
from slot_attention.figures import scene_views
from slot_attention.figures import slot_figures
from slot_attention.metrics import average_precision

GREEN = (90, 220, 110)
RED = (255, 110, 100)
MARK_RADIUS = 3

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


@dataclasses.dataclass(frozen=True)
class Label:
  """A text beside an object.

  Attributes:
    text: What to write.
    position: The object's (x, y) in pixels of the image, or None if it is not
      known; such labels are listed at the upper left.
    color: RGB in [0, 255] of the text and the mark.
  """

  text: str
  position: tuple[float, float] | None = None
  color: drawing.Color = drawing.WHITE


def draw_objects(
  image: np.ndarray, objects: Sequence[Label], scale: int = 3
) -> np.ndarray:
  """Writes a small label beside every object.

  Args:
    image: [h, w, 3], as `drawing.to_uint8` takes it.
    objects: The labels; positions are in pixels of `image`.
    scale: Factor by which the image is enlarged before the texts are written;
      on 64 to 128 pixels a text needs 3.

  Returns:
    [scale * h, scale * w, 3] uint8.
  """
  canvas = Image.fromarray(drawing.upscale(drawing.to_uint8(image), scale))
  draw = ImageDraw.Draw(canvas)
  unplaced_y = 0
  for label in objects:
    text = Image.fromarray(drawing.text_block([label.text], [label.color]))
    if label.position is None:
      canvas.paste(text, (0, unplaced_y))
      unplaced_y += text.height
      continue
    # An object outside the image is marked at its border.
    x, y = (
      max(0, min(round((position + 0.5) * scale), length - 1))
      for position, length in zip(label.position, canvas.size, strict=True)
    )
    draw.circle((x, y), MARK_RADIUS, fill=label.color, outline=drawing.BLACK)
    canvas.paste(text, _beside(x, y, text.size, canvas.size))
  return np.asarray(canvas)


def set_prediction_panel(
  image: np.ndarray,
  predicted: Sequence[str],
  true: Sequence[str],
  predicted_correct: Sequence[bool] | None = None,
  true_correct: Sequence[bool] | None = None,
  scale: int = 3,
) -> np.ndarray:
  """Shows an image beside two columns of text, the prediction and the truth.

  Args:
    image: [h, w, 3], as `drawing.to_uint8` takes it.
    predicted: One line per prediction.
    true: One line per true object.
    predicted_correct: Which predicted lines are green and which red; None
      writes all in white.
    true_correct: The same for the true lines.
    scale: Factor by which the image is enlarged.

  Returns:
    [H, W, 3] uint8, as large as image and texts need.

  Raises:
    ValueError: If verdicts are given and there is not one per line.
  """
  drawing.check_count("predicted_correct", predicted_correct, len(predicted))
  drawing.check_count("true_correct", true_correct, len(true))
  texts = [
    drawing.text_block(
      ["predicted", *predicted], _verdict_colors(predicted_correct)
    ),
    drawing.text_block(["true", *true], _verdict_colors(true_correct)),
  ]
  return drawing.table(
    [[drawing.upscale(drawing.to_uint8(image), scale), *texts]],
    drawing.MARGIN,
  )


def objects_figure(
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
    Label(str(slot), _center(attention[slot], image.shape)) for slot in listed
  ]
  return set_prediction_panel(
    draw_objects(image, marks),
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


def scene(
  image: np.ndarray,
  objects: np.ndarray,
  predictions: np.ndarray,
  attention: np.ndarray,
) -> scene_views.Scene:
  """Lays an example out for animations and pages.

  Args:
    image: [h, w, 3] in [-1, 1].
    objects: the picture of `objects_figure`.
    predictions: [k, 19].
    attention: [t, k, h', w'].

  Returns:
    The scene; a slot has its attention, upon the image and as it is.
  """
  presence = average_precision.PRESENCE
  slots = [
    scene_views.SlotView(
      slot_figures.slot_color(k),
      {
        "attention": [
          drawing.attention_overlay(image, maps[k]) for maps in attention
        ],
        "map": [drawing.gray(maps[k]) for maps in attention],
      },
      f"{_describe(prediction)}, present {prediction[presence]:.2f}",
    )
    for k, prediction in enumerate(predictions)
  ]
  pictures = {"image": [drawing.to_uint8(image)], "objects": [objects]}
  return scene_views.Scene(pictures, slots)


def _beside(
  x: int, y: int, size: tuple[int, int], canvas_size: tuple[int, int]
) -> tuple[int, int]:
  """Returns the corner of a text right of a mark, left where it is too wide."""
  width, height = size
  offset = 2 * MARK_RADIUS
  fits = x + offset + width <= canvas_size[0]
  left = x + offset if fits else max(0, x - offset - width)
  top = max(0, min(y - height // 2, canvas_size[1] - height))
  return left, top


def _verdict_colors(correct: Sequence[bool] | None) -> list[drawing.Color]:
  """Returns white for the title, then green or red for every line."""
  verdicts = () if correct is None else correct
  return [drawing.WHITE, *(GREEN if right else RED for right in verdicts)]


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
