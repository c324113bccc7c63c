"""Pictures of a scene's decomposition into slots (paper A, Figure 3)."""

from collections.abc import Mapping

import numpy as np

from slot_attention.figures import drawing
from slot_attention.figures import scene_views

# Arrays of one example by the names of `figure_outputs`: t iterations, k slots.
Example = Mapping[str, np.ndarray]


def decomposition(example: Example) -> np.ndarray:
  """Draws Figure 3a: the image, what the slots make of it, and each slot.

  Args:
    example: `image` [h, w, 3] and `reconstruction` [h, w, 3] in [-1, 1],
      `slot_reconstructions` [k, h, w, 3], `masks` [k, h, w] and, where it is
      known, `segmentation` [h, w].

  Returns:
    uint8 [H, W, 3]: each slot's picture times its mask above the mask.
  """
  masks = example["masks"]
  slots = masked_slots(example["slot_reconstructions"], masks)
  first = [
    drawing.to_uint8(example["image"]),
    drawing.to_uint8(example["reconstruction"]),
    predicted_segments(masks),
  ]
  truth = _true_segments(example)
  second = [truth.get("true segments", np.zeros_like(first[0]))]
  second += [np.zeros_like(first[0])] * 2
  rows = [
    [*first, *_framed_slots(slots)],
    [*second, *_framed_slots([drawing.gray(mask) for mask in masks])],
  ]
  captions = [
    ["image", "reconstruction", "segments", *_numbered("slot", masks)],
    [*(truth or [""]), "", "", *_numbered("mask", masks)],
  ]
  enlarged = [[drawing.enlarge(cell) for cell in row] for row in rows]
  return drawing.image_grid(enlarged, captions=captions)


def iterations(example: Example) -> np.ndarray:
  """Draws Figure 3c: reconstruction and slots after every iteration.

  Args:
    example: `image` [h, w, 3] and, decoded after every iteration,
      `reconstruction_per_iteration` [t, h, w, 3],
      `slot_reconstructions_per_iteration` [t, k, h, w, 3] and
      `masks_per_iteration` [t, k, h, w].

  Returns:
    uint8 [H, W, 3]: a row per iteration.
  """
  rows = [
    [
      example["image"],
      reconstruction,
      predicted_segments(masks),
      *_framed_slots(masked_slots(slots, masks)),
    ]
    for reconstruction, slots, masks in zip(
      example["reconstruction_per_iteration"],
      example["slot_reconstructions_per_iteration"],
      example["masks_per_iteration"],
      strict=True,
    )
  ]
  slots = _numbered("slot", example["masks"])
  return drawing.image_grid(
    [[drawing.enlarge(cell) for cell in row] for row in rows],
    row_labels=[str(t + 1) for t in range(len(rows))],
    column_labels=["image", "reconstruction", "segments", *slots],
  )


def scene(example: Example) -> scene_views.Scene:
  """Lays an example out for animations and pages.

  Args:
    example: what `decomposition` and `iterations` take, and `attention_maps`
      [t, k, h', w'].

  Returns:
    The scene; a slot has its masked picture, mask, attention and whole picture.
  """
  masks = example["masks_per_iteration"]  # [t, k, h, w]
  whole = example["slot_reconstructions_per_iteration"]
  masked = [masked_slots(*pair) for pair in zip(whole, masks, strict=True)]
  slots = [
    scene_views.SlotView(
      slot_color(k),
      {
        "slot": [pictures[k] for pictures in masked],
        "mask": [drawing.gray(mask[k]) for mask in masks],
        "attention": [drawing.gray(a[k]) for a in example["attention_maps"]],
        "without mask": [drawing.to_uint8(pictures[k]) for pictures in whole],
      },
    )
    for k in range(masks.shape[1])
  ]
  pictures = {
    "image": [drawing.to_uint8(example["image"])],
    "reconstruction": [
      drawing.to_uint8(picture)
      for picture in example["reconstruction_per_iteration"]
    ],
    "segments": [predicted_segments(mask) for mask in masks],
  }
  truth = {name: [image] for name, image in _true_segments(example).items()}
  return scene_views.Scene(pictures | truth, slots)


def masked_slots(
  slot_reconstructions: np.ndarray, masks: np.ndarray
) -> list[np.ndarray]:
  """Returns uint8 [h, w, 3] of every slot, white where its mask is 0.

  Args:
    slot_reconstructions: [k, h, w, 3], 1 is white.
    masks: [k, h, w] in [0, 1].
  """
  weights = masks[..., None]  # [k, h, w] -> [k, h, w, 1]
  # A color beyond the range must not shine through a mask of nearly 0.
  colors = np.clip(slot_reconstructions, -1.0, 1.0)
  return list(drawing.to_uint8(weights * colors + (1.0 - weights)))


def predicted_segments(masks: np.ndarray) -> np.ndarray:
  """Paints every pixel in the color of its slot: [k, h, w] -> [h, w, 3]."""
  # Slots start at 1: 0 is black in the palette.
  return drawing.segmentation_colors(masks.argmax(axis=0) + 1)


def slot_color(slot: int) -> drawing.Color:
  """Returns the color of a slot in `predicted_segments`."""
  color = drawing.segmentation_colors(np.array([[slot + 1]]))[0, 0]
  return tuple(int(channel) for channel in color)


def _framed_slots(pictures: list[np.ndarray]) -> list[np.ndarray]:
  """Frames each slot in its color, as in the paper."""
  return [
    drawing.framed(drawing.enlarge(picture), slot_color(i))
    for i, picture in enumerate(pictures)
  ]


def _true_segments(example: Example) -> dict[str, np.ndarray]:
  """Returns the true segmentation in colors, if there is one."""
  if "segmentation" not in example:
    return {}
  return {"true segments": drawing.segmentation_colors(example["segmentation"])}


def _numbered(name: str, rows: np.ndarray) -> list[str]:
  return [f"{name} {i}" for i in range(len(rows))]
