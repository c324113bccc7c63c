"""Drawing primitives: grids, overlays and labels as uint8 arrays."""

from collections.abc import Sequence
import colorsys
import itertools
import math

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

Color = tuple[int, int, int]

WHITE = (255, 255, 255)
BLACK = (0, 0, 0)

FONT_SIZE = 12
LINE_HEIGHT = 15
MARGIN = 4


def to_uint8(image: np.ndarray) -> np.ndarray:
  """Converts an image to uint8.

  Args:
    image: [..., 3] uint8, or float in [-1, 1]; values beyond are clipped.

  Returns:
    The same shape in uint8; uint8 input as it is, NaN as 0.

  Raises:
    ValueError: If the image is of another integer type.
  """
  image = np.asarray(image)
  if image.dtype == np.uint8:
    return image
  if image.dtype.kind in "iub":
    raise ValueError(
      f"An image of type {image.dtype} has no known range; pass uint8, or "
      "float in [-1, 1]."
    )
  image = np.nan_to_num(image.astype(np.float32), nan=-1.0)
  return np.round((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)


def upscale(image: np.ndarray, factor: int) -> np.ndarray:
  """Repeats every pixel of [h, w, ...] `factor` times in both directions."""
  return image.repeat(factor, axis=0).repeat(factor, axis=1)


def enlarge(image: np.ndarray, min_height: int = 96) -> np.ndarray:
  """Repeats the pixels of small images, so that details can be seen.

  Args:
    image: [h, w, 3], as `to_uint8` takes it.
    min_height: Rows that small images are brought near to.

  Returns:
    [s * h, s * w, 3] uint8; s is 1, or the largest factor with s * h at most
    min_height.
  """
  return upscale(to_uint8(image), max(1, min_height // image.shape[0]))


def gray(values: np.ndarray) -> np.ndarray:
  """Shows [h, w] float in [0, 1] from black to white; uint8 [h, w, 3]."""
  levels = np.round(np.clip(np.nan_to_num(values), 0, 1) * 255)
  return levels.astype(np.uint8)[:, :, None].repeat(3, axis=2)


def framed(image: np.ndarray, color: Color, width: int = 3) -> np.ndarray:
  """Sets uint8 [h, w, 3] in a frame; [h + 2 width, w + 2 width, 3]."""
  height, length = image.shape[:2]
  canvas = np.empty((height + 2 * width, length + 2 * width, 3), np.uint8)
  canvas[:] = np.array(color, np.uint8)
  canvas[width:-width, width:-width] = image
  return canvas


def image_grid(
  rows: Sequence[Sequence[np.ndarray]],
  row_labels: Sequence[str] | None = None,
  column_labels: Sequence[str] | None = None,
  captions: Sequence[Sequence[str]] | None = None,
  padding: int = 2,
) -> np.ndarray:
  """Arranges images in a grid on black, with optional texts.

  Args:
    rows: Images [h, w, 3] as `to_uint8` takes them; rows may have different
      lengths.
    row_labels: One text left of every row.
    column_labels: One text above every column.
    captions: One text below every image, nested like `rows`.
    padding: Pixels between and around the images.

  Returns:
    [H, W, 3] uint8.

  Raises:
    ValueError: If there is no image, or a number of texts is not that of what
      they label.
  """
  num_columns = max(map(len, rows), default=0)
  if num_columns == 0:
    raise ValueError(f"An image grid got {len(rows)} rows and no image.")
  check_count("row_labels", row_labels, len(rows))
  check_count("column_labels", column_labels, num_columns)
  cells = [[to_uint8(image) for image in row] for row in rows]
  if captions is not None:
    check_count("captions", captions, len(rows))
    cells = list(map(_with_captions, cells, captions))
  if column_labels is not None:
    cells.insert(0, [text_block([label]) for label in column_labels])
  if row_labels is not None:
    # The corner above the row labels stays empty.
    corner = [""] if column_labels is not None else []
    labels = [text_block([label]) for label in [*corner, *row_labels]]
    cells = [[label, *row] for label, row in zip(labels, cells, strict=True)]
  return table(cells, padding)


def attention_overlay(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
  """Shows an image by the light of an attention map.

  The image times the attention, as in figure 6 of the Slot Attention paper:
  what a slot does not attend to is dark.

  Args:
    image: [h, w, 3], as `to_uint8` takes it.
    attention: [hh, ww] float in [0, 1], resized bilinearly to the image.

  Returns:
    [h, w, 3] uint8.
  """
  image = to_uint8(image)
  attention = Image.fromarray(np.asarray(attention, np.float32))
  attention = attention.resize(image.shape[1::-1], Image.Resampling.BILINEAR)
  light = np.clip(np.nan_to_num(np.asarray(attention)), 0, 1)
  return np.round(image * light[:, :, None]).astype(np.uint8)


def attention_grid(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
  """Shows every slot's attention at every iteration.

  Args:
    image: [h, w, 3], as `to_uint8` takes it.
    attention: [t, k, hh, ww] float in [0, 1], t iterations and k slots.

  Returns:
    [H, W, 3] uint8: a row per iteration; the image, then a column per slot.
  """
  num_iterations, num_slots = attention.shape[:2]
  return image_grid(
    [[image, *(attention_overlay(image, a) for a in row)] for row in attention],
    row_labels=[str(t + 1) for t in range(num_iterations)],
    column_labels=["image", *(f"slot {k}" for k in range(num_slots))],
  )


def segmentation_colors(ids: np.ndarray) -> np.ndarray:
  """Paints every segment in a fixed colour.

  Args:
    ids: [h, w] int, 0 black; the colours repeat after `len(PALETTE) - 1` ids.

  Returns:
    [h, w, 3] uint8.

  Raises:
    ValueError: If an id is negative.
  """
  ids = np.asarray(ids)
  if ids.min(initial=0) < 0:
    raise ValueError(
      f"A segmentation holds the id {ids.min()}; ids start at 0, the "
      "background."
    )
  num_colors = len(PALETTE) - 1
  return PALETTE[np.where(ids == 0, 0, (ids - 1) % num_colors + 1)]


def _palette() -> np.ndarray:
  """Returns [25, 3] uint8: black, then 8 hues, each bright, dark and pale."""
  hues = [0.0, 0.33, 0.61, 0.15, 0.83, 0.5, 0.08, 0.72]
  shades = [(0.9, 1.0), (0.9, 0.5), (0.4, 1.0)]
  colors = [colorsys.hsv_to_rgb(h, s, v) for s, v in shades for h in hues]
  return np.round(np.array([BLACK, *colors]) * 255).astype(np.uint8)


PALETTE = _palette()


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
  """Returns the font that Pillow brings along."""
  return ImageFont.load_default(size=FONT_SIZE)


def text_block(
  lines: Sequence[str], colors: Sequence[Color] = ()
) -> np.ndarray:
  """Writes lines on black.

  Args:
    lines: At least one.
    colors: RGB of the lines; those without one are white.

  Returns:
    [h, w, 3] uint8, as large as the lines need.
  """
  font = _font()
  width = max(font.getlength(line) for line in lines)
  size = (math.ceil(width) + 2 * MARGIN, LINE_HEIGHT * len(lines))
  canvas = Image.new("RGB", size)
  draw = ImageDraw.Draw(canvas)
  for i, line in enumerate(lines):
    color = colors[i] if i < len(colors) else WHITE
    draw.text((MARGIN, i * LINE_HEIGHT), line, fill=color, font=font)
  return np.asarray(canvas)


def _with_captions(
  images: Sequence[np.ndarray], captions: Sequence[str]
) -> list[np.ndarray]:
  """Puts a text below every image."""
  check_count("A row of captions", captions, len(images))
  return [
    table([[image], [text_block([caption])]], padding=0)
    for image, caption in zip(images, captions, strict=True)
  ]


def table(cells: Sequence[Sequence[np.ndarray]], padding: int) -> np.ndarray:
  """Sets cells on black, columns as wide as their widest cell.

  Args:
    cells: Rows of uint8 [h, w, 3]; short ones end before the last column.
    padding: Pixels between and around the cells.

  Returns:
    [H, W, 3] uint8.
  """
  heights = [max((c.shape[0] for c in row), default=0) for row in cells]
  widths = [
    max(cell.shape[1] for cell in column if cell is not None)
    for column in itertools.zip_longest(*cells)
  ]
  canvas = np.zeros(
    (
      sum(heights) + padding * (len(heights) + 1),
      sum(widths) + padding * (len(widths) + 1),
      3,
    ),
    np.uint8,
  )
  tops = np.cumsum([padding, *(height + padding for height in heights)])
  lefts = np.cumsum([padding, *(width + padding for width in widths)])
  for row, y in zip(cells, tops[:-1], strict=True):
    # A short row ends before the last column.
    for cell, x in zip(row, lefts, strict=False):
      canvas[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
  return canvas


def check_count(
  name: str, values: Sequence[object] | None, expected: int
) -> None:
  """Raises unless there are as many values as expected, or None."""
  if values is not None and len(values) != expected:
    raise ValueError(
      f"{name} has {len(values)} entries where {expected} are needed."
    )
