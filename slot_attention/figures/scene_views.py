"""What there is to see of one example: for animations and browsable pages."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np
from PIL import Image

from slot_attention.figures import drawing

FRAME_MILLISECONDS = 700

# By name, a uint8 [h, w, 3] picture per iteration, or one for all of them.
Frames = Mapping[str, Sequence[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class SlotView:
  """One slot of an example.

  Attributes:
    color: RGB in [0, 255] that stands for the slot.
    pictures: Of this slot; the first is its thumbnail.
    text: What the model says of it in words, such as its properties.
  """

  color: drawing.Color
  pictures: Frames
  text: str = ""


@dataclasses.dataclass(frozen=True)
class Scene:
  """One example.

  Attributes:
    pictures: Of the whole example; the first is its thumbnail.
    slots: All slots, with the same names of pictures.
    text: What is known of the example in words, one line each.
  """

  pictures: Frames
  slots: Sequence[SlotView]
  text: Sequence[str] = ()

  @property
  def num_iterations(self) -> int:
    """Returns the number of iterations shown."""
    groups = [self.pictures, *(slot.pictures for slot in self.slots)]
    return max(len(frames) for group in groups for frames in group.values())


def frame_at(frames: Sequence[np.ndarray], iteration: int) -> np.ndarray:
  """Returns the picture of an iteration, or the only one there is."""
  return frames[iteration if len(frames) > 1 else 0]


def draw_iteration(scene: Scene, iteration: int) -> np.ndarray:
  """Draws all pictures of one iteration.

  Args:
    scene: The example.
    iteration: Counted from 0.

  Returns:
    uint8 [H, W, 3]: the example's pictures in the first row, then a row per
    kind of picture that slots have, a column per slot; of one size for all
    iterations.
  """
  height = drawing.enlarge(next(iter(scene.pictures.values()))[0]).shape[0]
  rows = [_row(scene.pictures, iteration, height)]
  captions = [list(scene.pictures)]
  kinds = list(scene.slots[0].pictures)
  for kind in kinds:
    views = [{kind: slot.pictures[kind]} for slot in scene.slots]
    rows.append(
      [
        drawing.framed(*_row(view, iteration, height), color=slot.color)
        for view, slot in zip(views, scene.slots, strict=True)
      ]
    )
    captions.append([f"slot {i}" for i in range(len(scene.slots))])
  position = f"iteration {iteration + 1} / {scene.num_iterations}"
  return drawing.image_grid(rows, [position, *kinds], captions=captions)


def save_animation(scene: Scene, path: str) -> None:
  """Writes a GIF with a frame per iteration that starts over for ever."""
  frames = [
    Image.fromarray(draw_iteration(scene, i))
    for i in range(scene.num_iterations)
  ]
  frames[0].save(
    path,
    save_all=True,
    append_images=frames[1:],
    duration=FRAME_MILLISECONDS,
    loop=0,
  )


def _row(frames: Frames, iteration: int, height: int) -> list[np.ndarray]:
  """Returns each kind's picture, small ones enlarged to about `height`."""
  return [
    drawing.enlarge(frame_at(pictures, iteration), height)
    for pictures in frames.values()
  ]
