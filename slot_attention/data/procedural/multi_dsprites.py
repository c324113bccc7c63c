"""Draws Multi-dSprites scenes (Kabra et al., 2019) on 64 x 64 pixels.

Sprites are squares, ellipses and hearts with the scales, orientations and
places of dSprites (Matthey et al., 2017), drawn from formulas instead of the
stored pictures; a sprite differs from its picture in one of its pixels on
average. What the published files leave open is drawn uniformly: the number of
sprites, and all factors independently of each other. A sprite may be hidden by
later ones.

Letters: n sprites including absent ones, c channels.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

SIZE = 64
# The files number the shapes from 1; 0 is the background.
SQUARE, ELLIPSE, HEART = 1, 2, 3
SCALES = np.linspace(0.5, 1.0, 6, dtype=np.float32)
POSITIONS = np.linspace(0.0, 1.0, 32, dtype=np.float32)
# dSprites has 40 steps of a full turn, of which the last equals the first.
_STEPS = 39
# A square looks the same after 1 / 4 turn and an ellipse after 1 / 2.
_SYMMETRY = np.array([4, 2, 1])
# [shapes, 40]: the angles in radians by shape - 1, as the files hold them.
ORIENTATIONS = (
  (_SYMMETRY[:, None] * np.arange(_STEPS + 1)[None, :] % _STEPS)
  * (2 * np.pi / _STEPS / _SYMMETRY[:, None])
).astype(np.float32)

# In pixels at scale 1.
_SQUARE_HALF = 9.6
_ELLIPSE_RADII = (12.8, 7.2)
# The heart is the curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t -
# cos 4t times these, and moved up.
_HEART_UNIT = (0.597, 0.663)
_HEART_LIFT = 1.44


@dataclasses.dataclass(frozen=True)
class Variant:
  """One of the published sets.

  Attributes:
    num_sprites: sprites that a record has room for.
    min_num_objects: least number of sprites in the published scenes.
    channels: of images and colours.
  """

  num_sprites: int
  min_num_objects: int
  channels: int = 3


VARIANTS = {
  "binarized": Variant(num_sprites=3, min_num_objects=2, channels=1),
  "colored_on_grayscale": Variant(num_sprites=5, min_num_objects=2),
  "colored_on_colored": Variant(num_sprites=4, min_num_objects=1),
}


@dataclasses.dataclass(frozen=True)
class MultiDspritesConfig:
  """What scenes to draw.

  Attributes:
    variant: "binarized" (white on black), "colored_on_grayscale" (saturated
      colours on gray) or "colored_on_colored" (any colour on any other).
    min_num_objects: Least number of sprites.
    max_num_objects: Largest number, at most what the variant has room for.
  """

  variant: str
  min_num_objects: int
  max_num_objects: int

  def __post_init__(self):
    if self.variant not in VARIANTS:
      raise ValueError(
        f"Multi-dSprites has no variant {self.variant!r}; it has "
        f"{', '.join(VARIANTS)}."
      )
    most = VARIANTS[self.variant].num_sprites
    if not 1 <= self.min_num_objects <= self.max_num_objects <= most:
      raise ValueError(
        f"Scenes of {self.variant} need 1 <= min_num_objects <= "
        f"max_num_objects <= {most}, but got {self.min_num_objects} and "
        f"{self.max_num_objects}."
      )


def generate(
  key: jax.Array, config: MultiDspritesConfig
) -> dict[str, jax.Array]:
  """Draws one scene; use jax.vmap over keys for a batch.

  Args:
    key: A random key, on which alone the scene depends.
    config: A MultiDspritesConfig of a variant with room for n sprites and
      images of c channels.

  Returns:
    image: [64, 64, c] uint8.
    segmentation: [64, 64] int32, 0 for the background, i for sprite i.
    num_objects: [] int32.
    x, y, shape, visibility, orientation, scale: [n + 1] float32, as the files
      hold them; row 0 is the background. Rows of absent sprites come last and
      are filled in, but have a visibility of 0.
    color: [n + 1, c] float32 in [0, 1].
  """
  variant = VARIANTS[config.variant]
  count = (variant.num_sprites,)
  number_key, color_key, *keys = jax.random.split(key, 7)
  num_objects = jax.random.randint(
    number_key, (), config.min_num_objects, config.max_num_objects + 1
  )
  limits = (3, len(SCALES), _STEPS + 1, len(POSITIONS), len(POSITIONS))
  shape, scale, step, x, y = (
    jax.random.randint(k, count, 0, limit)
    for k, limit in zip(keys, limits, strict=True)
  )
  factors = {
    "shape": shape + 1,
    "scale": jnp.asarray(SCALES)[scale],
    "orientation": jnp.asarray(ORIENTATIONS)[shape, step],
    "x": jnp.asarray(POSITIONS)[x],
    "y": jnp.asarray(POSITIONS)[y],
  }
  colors = _draw_colors(color_key, config.variant)
  visible = jnp.arange(variant.num_sprites) < num_objects
  image, segmentation = render(**factors, colors=colors, visible=visible)
  rows = {
    name: jnp.pad(rows.astype(jnp.float32), (1, 0))
    for name, rows in factors.items()
  }
  visibility = jnp.pad(visible.astype(jnp.float32), (1, 0), constant_values=1)
  return {
    "image": image,
    "segmentation": segmentation,
    "num_objects": num_objects,
    "visibility": visibility,
    "color": colors,
    **rows,
  }


def render(
  *,
  shape: jax.Array,
  scale: jax.Array,
  orientation: jax.Array,
  x: jax.Array,
  y: jax.Array,
  colors: jax.Array,
  visible: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Draws sprites; later ones hide earlier ones.

  Args:
    shape: [n] int32, SQUARE, ELLIPSE or HEART.
    scale: [n] float32, 1 is the largest of dSprites.
    orientation: [n] float32 in radians, counter-clockwise.
    x: [n] float32 in [0, 1], from the left.
    y: [n] float32 in [0, 1], from the top.
    colors: [n + 1, c] float32 in [0, 1]; row 0 is the background's.
    visible: [n] bool, which sprites are there.

  Returns:
    image: [64, 64, c] uint8.
    segmentation: [64, 64] int32, 0 for the background, i + 1 for row i.
  """
  inside = jax.vmap(_is_inside)(shape, scale, orientation, x, y)  # [n, 64, 64]
  numbers = jnp.arange(1, shape.shape[0] + 1)
  shown = inside & visible[:, None, None]
  segmentation = jnp.max(shown * numbers[:, None, None], axis=0)
  levels = jnp.floor(255.0 * colors).astype(jnp.uint8)
  return levels[segmentation], segmentation


def _is_inside(
  shape: jax.Array,
  scale: jax.Array,
  orientation: jax.Array,
  x: jax.Array,
  y: jax.Array,
) -> jax.Array:
  """Tells which centres of pixels [64, 64] one sprite covers."""
  # Positions reach over the middle half of the picture only.
  half = SIZE / 2
  across, down = (
    jnp.arange(SIZE) + 0.5 - (half / 2 + half * place) for place in (x, y)
  )
  across, down = across[None, :], down[:, None]
  cos, sin = jnp.cos(orientation) / scale, jnp.sin(orientation) / scale
  u, v = cos * across - sin * down, sin * across + cos * down
  square = jnp.maximum(jnp.abs(u), jnp.abs(v)) <= _SQUARE_HALF
  radii = _ELLIPSE_RADII
  ellipse = (u / radii[0]) ** 2 + (v / radii[1]) ** 2 <= 1
  return jnp.where(
    shape == HEART, _in_heart(u, v), jnp.where(shape == SQUARE, square, ellipse)
  )


def _in_heart(u: jax.Array, v: jax.Array) -> jax.Array:
  """Tells whether points right of and below the centre lie in the heart."""
  # Above each x the curve passes at t and pi - t, where sin^3 t = x / 16.
  x, y = u / _HEART_UNIT[0], (-v - _HEART_LIFT) / _HEART_UNIT[1]
  # The square of cos t. Processors have no fast cubic root for many numbers.
  square = 1.0 - jnp.exp(2.0 / 3.0 * jnp.log(jnp.abs(x / 16.0)))
  # The y of the curve as a polynomial of cos t, its even and odd powers.
  even = 4.0 - square * (2.0 + 8.0 * square)
  odd = jnp.sqrt(jnp.maximum(square, 0.0)) * (19.0 - 8.0 * square)
  return (square >= 0.0) & (jnp.abs(y - even) <= odd)


def _draw_colors(key: jax.Array, variant: str) -> jax.Array:
  """Returns colours [n + 1, c] float32 in [0, 1], the background's first."""
  num_sprites = VARIANTS[variant].num_sprites
  if variant == "binarized":
    return jnp.ones((num_sprites + 1, 1)).at[0].set(0.0)
  values = jax.random.uniform(key, (num_sprites + 1, 3))
  if variant == "colored_on_colored":
    return values
  gray = jnp.broadcast_to(values[:1, :1], (1, 3))
  return jnp.concatenate([gray, _saturated(values[1:])])


def _saturated(values: jax.Array) -> jax.Array:
  """Turns [n, 3] in [0, 1) into RGB of any hue, half saturated and bright.

  That the published sprites are drawn so is inferred: of ten, none has a
  saturation or a value below 0.5.
  """
  hue = 6.0 * values[:, :1]
  saturation, value = 0.5 + 0.5 * values[:, 1:2], 0.5 + 0.5 * values[:, 2:]
  sector = (np.array([[5.0, 3.0, 1.0]], np.float32) + hue) % 6.0
  dip = jnp.clip(jnp.minimum(sector, 4.0 - sector), 0.0, 1.0)
  return value - value * saturation * dip
