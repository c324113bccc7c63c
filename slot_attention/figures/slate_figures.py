"""Pictures of what SLATE's tokens and slots keep of an image."""

from collections.abc import Mapping

import numpy as np

from slot_attention.figures import drawing
from slot_attention.figures import scene_views
from slot_attention.figures import slot_figures

# Arrays of one example by the names of `figure_outputs`: t iterations, k slots.
Example = Mapping[str, np.ndarray]


def reconstructions(example: Example) -> np.ndarray:
  """Draws the image, both reconstructions, and what each slot attends to.

  Args:
    example: `image` [h, w, 3], `reconstruction` [h, w, 3] by the dVAE and
      `slot_reconstruction` [h, w, 3], generated from the slots, in [-1, 1],
      `attention_maps` [t, k, h', w'] and, where it is known, `segmentation`
      [h, w].

  Returns:
    uint8 [H, W, 3]: pictures of the whole above a row of the slots.
  """
  image, maps = example["image"], example["attention_maps"][-1]
  whole = _whole(example) | {"attention": slot_figures.predicted_segments(maps)}
  slots = [
    drawing.framed(
      drawing.attention_overlay(drawing.enlarge(image), attention),
      slot_figures.slot_color(k),
    )
    for k, attention in enumerate(maps)
  ]
  height = drawing.enlarge(image).shape[0]
  return drawing.image_grid(
    [[drawing.enlarge(picture, height) for picture in whole.values()], slots],
    captions=[list(whole), [f"slot {k}" for k in range(len(maps))]],
  )


def attention(example: Example) -> np.ndarray:
  """Draws every slot's attention at every iteration."""
  return drawing.attention_grid(
    drawing.enlarge(example["image"]), example["attention_maps"]
  )


def scene(example: Example) -> scene_views.Scene:
  """Lays an example out for animations and pages.

  Args:
    example: what `reconstructions` takes.

  Returns:
    The scene; a slot has the image by the light of its attention.
  """
  image = drawing.enlarge(example["image"])
  maps = example["attention_maps"]  # [t, k, h', w']
  slots = [
    scene_views.SlotView(
      slot_figures.slot_color(k),
      {
        "attended": [drawing.attention_overlay(image, a[k]) for a in maps],
        "attention": [drawing.gray(a[k]) for a in maps],
      },
    )
    for k in range(maps.shape[1])
  ]
  pictures = {name: [picture] for name, picture in _whole(example).items()}
  pictures["attention"] = [slot_figures.predicted_segments(a) for a in maps]
  return scene_views.Scene(pictures, slots)


def _whole(example: Example) -> dict[str, np.ndarray]:
  """Returns what there is to see of the whole image; uint8 by caption."""
  pictures = {
    "image": example["image"],
    "dVAE": example["reconstruction"],
    "from slots": example["slot_reconstruction"],
  }
  if "segmentation" in example:
    ids = drawing.segmentation_colors(example["segmentation"])
    pictures["true segments"] = ids
  return {name: drawing.to_uint8(image) for name, image in pictures.items()}
