"""Draws Tetrominoes (Kabra et al., 2019): three pieces on 35 x 35 pixels.

Pieces are made of four blocks of 5 x 5 pixels with a bevelled rim. Shapes,
colours and places follow the published files; `render` gives their images to
the last bit. Whether the files' places are uniform is not known: pieces touch
in 3 of 20 published scenes, and in a third of those drawn here.

Letters: n pieces, t proposals.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

SIZE = 35
NUM_PIECES = 3
COLORS = np.array(
  [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]],
  np.float32,
)

# The files number the shapes so; 0 is the background, and 1 and 8, which must
# be the flat bar and the mirrored 7, do not occur.
_SHAPES = {
  2: ("1", "1", "1", "1"),
  3: ("111", "100"),
  4: ("100", "111"),
  5: ("001", "111"),
  6: ("111", "001"),
  7: ("11", "01", "01"),
  9: ("11", "10", "10"),
  10: ("10", "10", "11"),
  11: ("110", "011"),
  12: ("011", "110"),
  13: ("01", "11", "10"),
  14: ("10", "11", "01"),
  15: ("010", "111"),
  16: ("111", "010"),
  17: ("01", "11", "01"),
  18: ("10", "11", "10"),
  19: ("11", "11"),
}
SHAPE_IDS = np.array(list(_SHAPES), np.int32)

_BLOCK = 5
# The brightness of a block's pixels, lit from above and from the right.
_BEVEL = np.array(
  [
    [191, 255, 255, 255, 223],
    [127, 159, 159, 159, 191],
    [127, 159, 159, 159, 191],
    [127, 159, 159, 159, 191],
    [95, 63, 63, 63, 127],
  ],
  np.uint8,
)
_LONGEST = 4 * _BLOCK
# Whole scenes are proposed so many at a time; 14 % have no overlap.
_PROPOSALS = 16


@dataclasses.dataclass(frozen=True)
class TetrominoesConfig:
  """The scenes leave no choice: there are always three pieces.

  Attributes:
    min_num_objects: 3.
    max_num_objects: 3.
  """

  min_num_objects: int = NUM_PIECES
  max_num_objects: int = NUM_PIECES

  def __post_init__(self):
    if not self.min_num_objects == self.max_num_objects == NUM_PIECES:
      raise ValueError(
        f"Scenes of Tetrominoes have {NUM_PIECES} objects, but got "
        f"min_num_objects={self.min_num_objects} and "
        f"max_num_objects={self.max_num_objects}."
      )


def generate(key: jax.Array, config: TetrominoesConfig) -> dict[str, jax.Array]:
  """Draws one scene; use jax.vmap over keys for a batch.

  The shapes are drawn uniformly among 17 and the colours among 6, all
  independent. The places are uniform over all those of the three pieces that
  let none overlap another (the whole scene is drawn again otherwise).

  Args:
    key: A random key, on which alone the scene depends.
    config: A TetrominoesConfig.

  Returns:
    image: [35, 35, 3] uint8.
    segmentation: [35, 35] int32, 0 for the background, i for piece i.
    num_objects: [] int32, 3.
    x, y, shape, visibility: [4] float32, as the files hold them: the top row
      and the left column in pixels, the number of the shape and 1; row 0 is
      the background.
    color: [4, 3] float32, 0 or 1.
  """
  del config
  shape_key, color_key, place_key = jax.random.split(key, 3)
  index = jax.random.randint(shape_key, (NUM_PIECES,), 0, len(SHAPE_IDS))
  shape_ids = jnp.asarray(SHAPE_IDS)[index]
  index = jax.random.randint(color_key, (NUM_PIECES,), 0, len(COLORS))
  colors = jnp.asarray(COLORS)[index]
  x, y = _sample_places(place_key, shape_ids)
  image, segmentation = render(shape_ids, x, y, colors)
  return {
    "image": image,
    "segmentation": segmentation,
    "num_objects": jnp.int32(NUM_PIECES),
    "x": _with_background(x),
    "y": _with_background(y),
    "shape": _with_background(shape_ids),
    "visibility": jnp.ones(NUM_PIECES + 1),
    "color": _with_background(colors),
  }


def render(
  shape_ids: jax.Array, x: jax.Array, y: jax.Array, colors: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Draws pieces that do not overlap.

  Args:
    shape_ids: [n] int32, numbers of the files.
    x: [n] int32, the top row of the piece, in pixels.
    y: [n] int32, its left column.
    colors: [n, 3] float32 in [0, 1].

  Returns:
    image: [35, 35, 3] uint8.
    segmentation: [35, 35] int32, 0 for the background, i + 1 for row i.
  """
  brightness = jax.vmap(_draw_piece)(shape_ids, x, y)  # [n, 35, 35]
  light = brightness[:, :, :, None] * colors[:, None, None, :]
  numbers = jnp.arange(1, shape_ids.shape[0] + 1)
  covered = brightness > 0
  return (
    jnp.sum(light, axis=0).astype(jnp.uint8),
    jnp.sum(covered * numbers[:, None, None], axis=0, dtype=jnp.int32),
  )


def _draw_piece(shape_id: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the brightness [35, 35] float32 of one white piece."""
  pixels = jnp.arange(SIZE)
  # Row and column _LONGEST of the templates are empty.
  rows, columns = (
    jnp.where((p >= 0) & (p < _LONGEST), p, _LONGEST)
    for p in (pixels - x, pixels - y)
  )
  template = jnp.asarray(_TEMPLATES)[shape_id]
  return template[rows[:, None], columns[None, :]].astype(jnp.float32)


def _sample_places(
  key: jax.Array, shape_ids: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the x [n] and y [n] of pieces that do not overlap."""
  room = SIZE - jnp.asarray(_EXTENTS)[shape_ids]  # [n, 2]

  def propose(state):
    """Draws t scenes and takes the first of those without overlap."""
    count, _, _ = state
    places = jax.random.randint(
      jax.random.fold_in(key, count),
      (_PROPOSALS, NUM_PIECES, 2),
      0,
      (room + 1)[None, :, :],
    )
    free = jax.vmap(_are_apart, in_axes=(None, 0))(shape_ids, places)  # [t]
    first = jnp.argmax(free)
    return count + 1, free[first], places[first]

  start = jnp.int32(0), False, jnp.zeros((NUM_PIECES, 2), jnp.int32)
  *_, places = jax.lax.while_loop(lambda state: ~state[1], propose, start)
  return places[:, 0], places[:, 1]


def _are_apart(shape_ids: jax.Array, places: jax.Array) -> jax.Array:
  """Tells whether pieces at places [n, 2] have no pixel in common."""
  # [n, 4, 2] + [n, 1, 2] -> [n * 4, 2]
  blocks = jnp.asarray(_CORNERS)[shape_ids] + places[:, None, :]
  blocks = blocks.reshape(-1, 2)
  distance = jnp.abs(blocks[:, None, :] - blocks[None, :, :])
  meets = jnp.all(distance < _BLOCK, axis=-1)  # [n * 4, n * 4]
  owner = np.repeat(np.arange(places.shape[0]), 4)
  return ~jnp.any(meets & (owner[:, None] < owner[None, :]))


def _with_background(rows: jax.Array) -> jax.Array:
  """Puts a row of zeros before float32 rows [n, ...]."""
  background = jnp.zeros((1, *rows.shape[1:]))
  return jnp.concatenate([background, rows.astype(jnp.float32)])


def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Builds the tables by the number of the shape.

  Returns:
    Templates [20, 21, 21] uint8 of the brightness, extents [20, 2] int32 and
    upper left corners of the blocks [20, 4, 2] int32, all in pixels.
  """
  count = max(_SHAPES) + 1
  templates = np.zeros((count, _LONGEST + 1, _LONGEST + 1), np.uint8)
  extents = np.zeros((count, 2), np.int32)
  corners = np.zeros((count, 4, 2), np.int32)
  for number, rows in _SHAPES.items():
    blocks = np.array([[int(cell) for cell in row] for row in rows], np.uint8)
    height, width = extents[number] = _BLOCK * np.array(blocks.shape)
    templates[number, :height, :width] = np.kron(blocks, _BEVEL)
    corners[number] = _BLOCK * np.argwhere(blocks)
  return templates, extents, corners


_TEMPLATES, _EXTENTS, _CORNERS = _tables()
