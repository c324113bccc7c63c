"""Draws scenes like those of MOVi and lets their objects fly, fall and collide.

Much simpler than MOVi: objects are spheres, upright cubes and cylinders that
turn about the vertical axis; they collide as spheres do. Numbers that MOVi
publishes are kept: 3 to 10 tossed objects (C), or 10 to 20 lying and 1 to 3
tossed ones (D), start velocities, friction, restitution, frames per second.

Letters: o objects, f frames.
"""

import dataclasses

import numpy as np

from slot_attention.data.tfds import movi_spec

GRAVITY, FRICTION, RESTITUTION, DENSITY = 9.81, 0.5, 0.5, 1.0
NUM_KINDS = 3  # Of textures, see movi.TEXTURES.
_NUM_SHAPES = 3
_STEPS_PER_FRAME = 20
_RADII = (0.35, 0.9)
# The spheres that stand for shapes in collisions: a cube's corners stick out.
_BODY = np.array([1.25, 1.0, 1.15])
_SPAWN = np.array([[-3.5, -3.5, 1.0], [3.5, 3.5, 4.5]])
_SPREAD = 4.5  # Lying objects: largest |x| and |y|.
_SPEED = np.array([4.0, 4.0, 0.0])
_CAMERA_DISTANCE, _CAMERA_HEIGHT = (9.0, 12.0), (0.35, 0.75)
_TRIES = 200
# Slower than this, in m/s, contacts are rest and not collisions.
_LEAST_SPEED = 0.2


@dataclasses.dataclass(frozen=True)
class Collision:
  """One collision; the second body is None for the floor."""

  bodies: tuple[int, int | None]
  frame: int
  force: float
  position: np.ndarray
  normal: np.ndarray


@dataclasses.dataclass(frozen=True)
class Textures:
  """Colours and patterns of m surfaces: the floor, the sky, then the objects.

  Attributes:
    kind: [m] int32, 0 stripes, 1 checks, 2 blotches.
    axis: [m, 3] float32 of length 1.
    frequency: [m] float32, per unit of the surface's own frame.
    phase: [m, 3] float32.
    colors: [m, 2, 3] float32, linear light.
  """

  kind: np.ndarray
  axis: np.ndarray
  frequency: np.ndarray
  phase: np.ndarray
  colors: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scene:
  """A video's objects and where they are.

  Attributes:
    shape: [o] int32, 0 cube, 1 sphere, 2 cylinder.
    radius: [o] float32, half of width and height in metres.
    is_dynamic: [o] bool, tossed and not lying.
    position: [f + 2, o, 3] float32, centres in metres, of the frame before the
      first one, of all frames, and of the frame after the last one.
    velocity: [f + 2, o, 3] float32.
    angle: [f + 2, o] float32, about the vertical axis.
    spin: [f + 2, o] float32, change of the angle by second.
    collisions: those of the f frames.
    camera: [3] float32; it looks at the origin.
    textures: of the floor, the sky and the objects.
  """

  shape: np.ndarray
  radius: np.ndarray
  is_dynamic: np.ndarray
  position: np.ndarray
  velocity: np.ndarray
  angle: np.ndarray
  spin: np.ndarray
  collisions: list[Collision]
  camera: np.ndarray
  textures: Textures

  @property
  def mass(self) -> np.ndarray:
    """Returns [o] masses, those of spheres, in MOVi's units."""
    return DENSITY * 4 / 3 * np.pi * self.radius**3


def sample(
  rng: np.random.Generator,
  dataset: str,
  num_frames: int = movi_spec.NUM_FRAMES,
  limits: tuple[int, int] | None = None,
) -> Scene:
  """Draws a scene and simulates it.

  Args:
    rng: of random numbers, on which alone the scene depends.
    dataset: "movi_c" or "movi_d".
    num_frames: f.
    limits: least and largest number of objects; None for the data set's.

  Returns:
    The scene.

  Raises:
    ValueError: so many objects find no room.
  """
  is_dynamic = _sample_numbers(rng, dataset, limits)
  count = len(is_dynamic)
  shape = rng.integers(0, _NUM_SHAPES, count, np.int32)
  radius = rng.uniform(*_RADII, count)
  position = _place(rng, radius * _BODY[shape], radius, is_dynamic)
  velocity = rng.uniform(-_SPEED, _SPEED, (count, 3)) - position
  velocity[:, 2] = np.maximum(velocity[:, 2], -2.0)
  velocity[~is_dynamic] = 0.0
  spin = np.where(is_dynamic, rng.uniform(-4, 4, count), 0.0)
  world = _World(radius, radius * _BODY[shape], position, velocity, spin)
  world.angle += rng.uniform(0, 2 * np.pi, count)
  states = [world.state()]
  for frame in range(num_frames + 1):
    world.advance(frame)
    states.append(world.state())
  tracks = [np.stack(x).astype(np.float32) for x in zip(*states, strict=True)]
  return Scene(
    shape,
    radius.astype(np.float32),
    is_dynamic,
    *tracks,
    [x for x in world.collisions if x.frame < num_frames],
    _sample_camera(rng),
    _sample_textures(rng, count),
  )


def _sample_numbers(
  rng: np.random.Generator, dataset: str, limits: tuple[int, int] | None
) -> np.ndarray:
  """Returns [o] bool, which objects are tossed; the lying ones come first."""
  if dataset == "movi_c":
    return np.ones(rng.integers(*(limits or (3, 10)), endpoint=True), bool)
  tossed = rng.integers(1, 3, endpoint=True)
  if limits is None:
    return (
      np.arange(rng.integers(10, 20, endpoint=True) + tossed)[::-1] < tossed
    )
  count = rng.integers(*limits, endpoint=True)
  return np.arange(count)[::-1] < min(tossed, count)


def _place(
  rng: np.random.Generator,
  body: np.ndarray,
  radius: np.ndarray,
  is_dynamic: np.ndarray,
) -> np.ndarray:
  """Returns [o, 3] places at which no two objects touch."""
  places: list[np.ndarray] = []
  for i, dynamic in enumerate(is_dynamic):
    for _ in range(_TRIES):
      place = rng.uniform(*_SPAWN)
      if not dynamic:
        place = np.array([*rng.uniform(-_SPREAD, _SPREAD, 2), radius[i]])
      gaps = [
        np.linalg.norm(place - other) - body[i] - body[j]
        for j, other in enumerate(places)
      ]
      if min(gaps, default=1.0) > 0.0:
        break
    else:
      raise ValueError(
        f"{len(body)} objects find no room in a procedural MOVi scene; lower "
        "max_num_objects."
      )
    places.append(place)
  return np.array(places)


class _World:
  """Spheres that fall on a floor and collide, step by step."""

  def __init__(
    self,
    radius: np.ndarray,
    body: np.ndarray,
    position: np.ndarray,
    velocity: np.ndarray,
    spin: np.ndarray,
  ):
    self.collisions: list[Collision] = []
    self.angle = np.zeros_like(spin)
    self._radius, self._body, self._mass = radius, body, radius**3
    self._position, self._velocity, self._spin = position, velocity, spin
    self._step = 1 / (movi_spec.FRAMES_PER_SECOND * _STEPS_PER_FRAME)

  def state(self) -> tuple[np.ndarray, ...]:
    """Returns position, velocity, angle and spin."""
    parts = self._position, self._velocity, self.angle, self._spin
    return tuple(x.copy() for x in parts)

  def advance(self, frame: int) -> None:
    """Moves everything by the time between two frames."""
    for _ in range(_STEPS_PER_FRAME):
      self._velocity[:, 2] -= GRAVITY * self._step
      self._position += self._velocity * self._step
      self.angle += self._spin * self._step
      self._meet_floor(frame)
      self._meet_each_other(frame)

  def _meet_floor(self, frame: int) -> None:
    below = self._position[:, 2] < self._radius
    self._position[below, 2] = self._radius[below]
    falling = below & (self._velocity[:, 2] < 0)
    for i in np.flatnonzero(falling):
      speed = -self._velocity[i, 2]
      bounces = speed > _LEAST_SPEED
      self._velocity[i, 2] = RESTITUTION * speed if bounces else 0.0
      if bounces:
        up = np.array([0.0, 0.0, 1.0])
        impulse = self._mass[i] * speed * (1 + RESTITUTION)
        foot = self._position[i] - self._radius[i] * up
        self._collide((i, None), frame, impulse, foot, up)
    slow = FRICTION * GRAVITY * self._step
    pace = np.linalg.norm(self._velocity[:, :2], axis=1)
    kept = np.maximum(pace - slow, 0.0) / np.maximum(pace, 1e-9)
    self._velocity[:, :2] *= np.where(below, kept, 1.0)[:, None]
    self._spin *= np.where(below, 1 - 2 * self._step, 1.0)

  def _meet_each_other(self, frame: int) -> None:
    delta = self._position[:, None] - self._position[None]  # [o, o, 3]
    distance = np.linalg.norm(delta, axis=-1)
    reach = self._body[:, None] + self._body[None]
    for i, j in np.argwhere(np.triu(distance < reach, 1)):
      normal = delta[i, j] / max(distance[i, j], 1e-6)
      share = self._mass[[j, i]] / (self._mass[i] + self._mass[j])
      apart = reach[i, j] - distance[i, j]
      self._position[i] += share[0] * apart * normal
      self._position[j] -= share[1] * apart * normal
      speed = -(self._velocity[i] - self._velocity[j]) @ normal
      if speed <= 0:
        continue
      reduced = self._mass[i] * share[0]
      impulse = reduced * speed * (1 + RESTITUTION)
      self._velocity[i] += impulse / self._mass[i] * normal
      self._velocity[j] -= impulse / self._mass[j] * normal
      if speed > _LEAST_SPEED:
        touch = self._position[i] - self._body[i] * normal
        self._collide((i, j), frame, impulse, touch, normal)

  def _collide(
    self,
    bodies: tuple[int, int | None],
    frame: int,
    impulse: float,
    position: np.ndarray,
    normal: np.ndarray,
  ) -> None:
    force = DENSITY * 4 / 3 * np.pi * impulse / self._step
    self.collisions.append(Collision(bodies, frame, force, position, normal))


def _sample_camera(rng: np.random.Generator) -> np.ndarray:
  """Returns a position [3] float32 from which all of the floor is seen."""
  turn, distance = rng.uniform(0, 2 * np.pi), rng.uniform(*_CAMERA_DISTANCE)
  height = rng.uniform(*_CAMERA_HEIGHT)
  flat = np.sqrt(1 - height**2)
  direction = [flat * np.cos(turn), flat * np.sin(turn), height]
  return (distance * np.array(direction)).astype(np.float32)


def _sample_textures(rng: np.random.Generator, num_objects: int) -> Textures:
  count = num_objects + 2
  axis = rng.normal(size=(count, 3))
  frequency = rng.uniform(1.5, 4.0, count)
  frequency[:2] = rng.uniform(0.4, 0.9), rng.uniform(1.0, 2.5)
  kind = rng.integers(0, NUM_KINDS, count, np.int32)
  kind[:2] = NUM_KINDS - 1  # No pattern is sharper than those of objects.
  colors = rng.uniform(0.0, 1.0, (count, 2, 3)) ** 2.2
  colors[:2] = 0.15 + 0.5 * colors[:2]
  return Textures(
    kind,
    (axis / np.linalg.norm(axis, axis=1, keepdims=True)).astype(np.float32),
    frequency.astype(np.float32),
    rng.uniform(0, 2 * np.pi, (count, 3)).astype(np.float32),
    colors.astype(np.float32),
  )
