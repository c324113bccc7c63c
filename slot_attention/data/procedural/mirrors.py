"""CLEVR-style scenes before a mirror, as in CLEVR-Mirror (Singh et al., 2022).

A flat upright mirror stands behind the objects at a random place, turned so
that the camera sees the middle of the scene in it. What an object looks like in
the mirror follows from the rest of the picture, which is what the set tests.

Letter: r rays.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slot_attention.data.procedural import scene_geometry as geometry
from slot_attention.data.procedural import scenes

# As in the published scenes: x between these and this half width, in metres,
# where objects lie within 3 metres of the origin. They have y = 5, where one of
# these, which are turned, would touch a large cube in the corner.
_LEFT, _RIGHT, _BACK = -7.0, 0.0, 5.3
_HALF_WIDTH = 2.5
_HEIGHT = 5.0
_PUBLISHED_RANGE = 3.0
# Of nearer objects, whose size stays, half of it: radii and a gap.
_MARGIN = 1.5
# Polished steel: a little darker than what it shows.
_TINT = np.array([0.86, 0.88, 0.88], np.float32)
# Separates these random numbers from those of the scene.
_STREAM = 0x6D6972


class Mirror(NamedTuple):
  """An upright rectangle that stands on the ground.

  Attributes:
    foot: Vector of scalars, the middle of its lower edge.
    normal: Vector of scalars, of length 1, horizontal, to the side that
      reflects.
    half_width: [] float32, in metres.
    height: [] float32, in metres.
  """

  foot: geometry.Vector
  normal: geometry.Vector
  half_width: jax.Array
  height: jax.Array

  def reflect(
    self, objects: geometry.Solids, rays: geometry.Rays
  ) -> tuple[geometry.Rays, jax.Array]:
    """Turns the rays that meet the mirror before any object.

    Args:
      objects: Solids, all on the side of the mirror that reflects, as are the
        origins of the rays; so the mirror hides none.
      rays: Rays of [r].

    Returns:
      Rays, and [r] bool, which of them come from the mirror.
    """
    toward = geometry.dot(rays.direction, self.normal)
    distance = geometry.dot(
      geometry.subtract(self.foot, rays.origin), self.normal
    )
    t = distance / jnp.minimum(toward, -1e-9)
    point = geometry.along(rays, t)
    # Along the edge; the normal is horizontal.
    aside = (point.y - self.foot.y) * self.normal.x - (
      point.x - self.foot.x
    ) * self.normal.y
    inside = (toward < 0.0) & (t > 0.0) & (jnp.abs(aside) < self.half_width)
    inside &= (point.z > 0.0) & (point.z < self.height)
    inside &= ~geometry.any_hit(objects, rays)
    turned = geometry.subtract(
      rays.direction, geometry.scaled(2.0 * toward, self.normal)
    )
    return geometry.Rays(
      geometry.select(inside, point, rays.origin),
      geometry.select(inside, turned, rays.direction),
    ), inside

  def tint(self, colors: jax.Array, in_mirror: jax.Array) -> jax.Array:
    """Darkens the linear colours [3, r] that are seen in it."""
    shade = jnp.asarray(_TINT)[:, None]
    return colors * jnp.where(in_mirror[None, :], shade, 1.0)


def generate(
  key: jax.Array, config: scenes.SceneConfig
) -> dict[str, jax.Array]:
  """Draws one example; it is `scenes.generate`'s with a mirror.

  Args:
    key: A random key, on which alone the example depends.
    config: A SceneConfig.

  Returns:
    See `scenes.generate`; the mirror is background.
  """
  mirror_key = jax.random.fold_in(key, _STREAM)
  decorate = functools.partial(
    _add_mirror, mirror_key, position_range=config.position_range
  )
  return scenes.generate(key, config, decorate)


def _add_mirror(
  key: jax.Array, scene: geometry.Scene, position_range: float
) -> dict[str, Any]:
  return {"mirror": place(key, scene.camera, position_range)}


def place(
  key: jax.Array, camera: jax.Array, position_range: float = 3.0
) -> Mirror:
  """Puts a mirror behind the objects.

  Args:
    key: A random key.
    camera: [3] float32, where the camera is.
    position_range: Largest |x| and |y| of centres of objects in metres; a
      smaller scene gets a smaller mirror nearby.

  Returns:
    A Mirror that no object touches.
  """
  scale = (position_range + _MARGIN) / (_PUBLISHED_RANGE + _MARGIN)
  x = scale * jax.random.uniform(key, minval=_LEFT, maxval=_RIGHT)
  foot = geometry.Vector(x, jnp.float32(scale * _BACK), jnp.float32(0.0))
  to_camera = geometry.Vector(
    camera[0] - foot.x, camera[1] - foot.y, jnp.float32(0.0)
  )
  to_origin = geometry.scaled(-1.0, foot)
  halfway = geometry.add(
    geometry.normalized(to_camera), geometry.normalized(to_origin)
  )
  return Mirror(
    foot,
    geometry.normalized(halfway),
    jnp.float32(scale * _HALF_WIDTH),
    jnp.float32(scale * _HEIGHT),
  )
