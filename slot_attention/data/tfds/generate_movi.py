"""Writes procedural videos as MOVi-C or MOVi-D, in the form that TFDS reads."""

from collections.abc import Iterator
import pathlib
from typing import Any

import jax
import numpy as np
from scipy.spatial import transform

from slot_attention.data.procedural import movi
from slot_attention.data.procedural import movi_scenes
from slot_attention.data.procedural import scene_geometry
from slot_attention.data.tfds import movi_spec
from slot_attention.data.tfds import tfds_writer

SPLITS = ("train", "validation", "test")
# How the command line calls these sets, lest they be taken for the published.
DATASETS = {f"{name}_procedural": name for name in movi_spec.DATASETS}
_MOST_OBJECTS = {"movi_c": 10, "movi_d": 23}
_VIDEOS_PER_SHARD = 10  # A published one has tens of megabytes.
_DESCRIPTION = (
  "Procedural videos in the form of {name}, written by slot_attention. These "
  "are not the published MOVi videos: objects are textured spheres, cubes and "
  "cylinders, ray-traced with a simple simulation."
)
_MAX_UINT16 = 65535


def generate(
  dataset: str,
  output: str,
  num_videos: dict[str, int],
  seed: int = 0,
  size: tuple[int, int] = (256, 256),
  limits: tuple[int, int] | None = None,
  num_frames: int = movi_spec.NUM_FRAMES,
  antialias: int = 2,
) -> pathlib.Path:
  """Writes a prepared TFDS directory in the published layout.

  Video i of a split is a function of (seed, split, i), so a larger set begins
  with the videos of a smaller one. Its description says that it is procedural.

  Args:
    dataset: "movi_c" or "movi_d", whose features and numbers of objects it has.
    output: the directory that will hold DATASET/HEIGHTxWIDTH/1.0.0.
    num_videos: number of videos by split: "train", "validation", "test".
    seed: which videos.
    size: (height, width) of the frames in pixels, which must be equal;
      published are 256x256 and 128x128.
    limits: least and largest number of objects; None for those of MOVi.
    num_frames: of each video; 24 are published.
    antialias: rays per pixel along each axis.

  Returns:
    The directory.

  Raises:
    FileExistsError: there is something at the target already.
    ValueError: no video was asked for, or the objects find no room.
  """
  _check(dataset, size, limits)
  name = f"{dataset}/{size[0]}x{size[1]}/{movi_spec.VERSION}"
  tfds_writer.check_target(pathlib.Path(output) / name)

  def examples(number: int, split: str, count: int) -> Iterator[dict[str, Any]]:
    for i in range(count):
      rng = np.random.default_rng([seed, number, i])
      title = f"procedural_{split}_{i}"
      yield make_video(rng, dataset, title, size, limits, num_frames, antialias)

  splits = {
    split: tfds_writer.Split(count, examples(number, split, count))
    for number, split in enumerate(SPLITS)
    for count in [num_videos.get(split, 0)]
  }
  return tfds_writer.write_tfds_directory(
    output,
    name,
    movi_spec.build_features(dataset, size, num_frames),
    splits,
    _VIDEOS_PER_SHARD,
    description=_DESCRIPTION.format(name=dataset),
  )


def _check(
  dataset: str, size: tuple[int, int], limits: tuple[int, int] | None
) -> None:
  if size[0] != size[1]:
    raise ValueError(
      f"Procedural MOVi frames of {size[0]}x{size[1]} pixels were asked for; "
      "they are square, give --height and --width the same value."
    )
  most = _MOST_OBJECTS[dataset]
  if limits is not None and not 1 <= limits[0] <= limits[1] <= most:
    raise ValueError(
      f"A procedural video of {dataset} with {limits[0]} to {limits[1]} "
      f"objects was asked for; it can have 1 to {most}."
    )


def make_video(
  rng: np.random.Generator,
  dataset: str,
  name: str,
  size: tuple[int, int],
  limits: tuple[int, int] | None,
  num_frames: int,
  antialias: int,
) -> dict[str, Any]:
  """Returns one example, in the form that `movi_spec`'s features encode."""
  scene = movi_scenes.sample(rng, dataset, num_frames, limits)
  frames = _render(scene, _MOST_OBJECTS[dataset], size, antialias)
  num_objects = len(scene.shape)
  # [f, h, w] -> [f, o]
  visibility = np.stack(
    [
      np.bincount(x.ravel(), minlength=num_objects + 1)[1:]
      for x in frames["segmentations"]
    ]
  )
  # As published, instances are sorted by how much is seen of them.
  order = np.argsort(-visibility.sum(axis=0), kind="stable")
  rank = np.concatenate([[0], np.argsort(order) + 1]).astype(np.uint8)
  masks = rank[frames["segmentations"]]  # [f, h, w]
  instances = [
    _instance(scene, i, masks == rank[i + 1], frames["centers"][:, i])
    for i in order
  ]
  if dataset == "movi_d":
    for instance, i in zip(instances, order, strict=True):
      instance["is_dynamic"] = bool(scene.is_dynamic[i])
  depth, depth_range = _to_uint16(frames["depth"])
  forward, forward_range = _to_uint16(frames["forward_flow"])
  backward, backward_range = _to_uint16(frames["backward_flow"])
  return {
    "metadata": {
      "video_name": name,
      "width": size[1],
      "height": size[0],
      "num_frames": num_frames,
      "num_instances": num_objects,
      "depth_range": depth_range,
      "forward_flow_range": forward_range,
      "backward_flow_range": backward_range,
    },
    "background": "procedural",
    "instances": instances,
    "camera": _camera(scene.camera, num_frames),
    "events": {"collisions": _collisions(scene, rank, num_frames)},
    "video": frames["video"],
    "segmentations": masks[..., None],
    "forward_flow": forward,
    "backward_flow": backward,
    "depth": depth[..., None],
    "normal": _fraction_to_uint16((frames["normal"] + 1) / 2),
    "object_coordinates": _fraction_to_uint16(frames["object_coordinates"]),
  }


def _render(
  scene: movi_scenes.Scene, most: int, size: tuple[int, int], antialias: int
) -> dict[str, np.ndarray]:
  """Returns what `movi.render` does of all frames, [f, ...]."""

  def pad(array: np.ndarray, rows: int) -> np.ndarray:
    missing = np.zeros((rows - len(array), *array.shape[1:]), array.dtype)
    return np.concatenate([array, missing])

  setting = movi.Setting(
    pad(scene.shape, most),
    pad(scene.radius, most),
    np.int32(len(scene.shape)),
    scene.camera,
    movi.Surfaces(
      *(
        pad(getattr(scene.textures, field), most + 2)
        for field in movi.Surfaces._fields
      )
    ),
  )
  poses = [
    movi.Pose(pad(position, most), pad(angle, most))
    for position, angle in zip(scene.position, scene.angle, strict=True)
  ]
  frames = [
    jax.device_get(
      movi.render(setting, *poses[i : i + 3], size=size, antialias=antialias)
    )
    for i in range(len(poses) - 2)
  ]
  return {name: np.stack([x[name] for x in frames]) for name in frames[0]}


def _instance(
  scene: movi_scenes.Scene, i: int, mask: np.ndarray, centers: np.ndarray
) -> dict[str, Any]:
  """Describes object i, whose pixels are mask [f, h, w]."""
  import tensorflow_datasets as tfds

  shape = scene_geometry.SHAPES[scene.shape[i]]
  frames = np.flatnonzero(mask.any(axis=(1, 2)))
  angle, spin = scene.angle[1:-1, i], scene.spin[1:-1, i]
  zeros = np.zeros_like(angle)
  return {
    "mass": scene.mass[i],
    "friction": movi_scenes.FRICTION,
    "restitution": movi_scenes.RESTITUTION,
    "positions": scene.position[1:-1, i],
    "quaternions": np.stack(
      [np.cos(angle / 2), zeros, zeros, np.sin(angle / 2)], axis=-1
    ),
    "velocities": scene.velocity[1:-1, i],
    "angular_velocities": np.stack([zeros, zeros, spin], axis=-1),
    "bboxes_3d": _corners(scene, i),
    "image_positions": centers,
    "bboxes": [tfds.features.BBox(*_box(mask[f])) for f in frames],
    "bbox_frames": frames.astype(np.int32),
    "visibility": mask.sum(axis=(1, 2)).astype(np.uint16),
    "asset_id": f"procedural_{shape}",
    "category": "None",
    "scale": 2 * scene.radius[i],
  }


def _corners(scene: movi_scenes.Scene, i: int) -> np.ndarray:
  """Returns the corners [f, 8, 3] of the box around an object."""
  signs = np.indices((2, 2, 2)).reshape(3, 8).T * 2.0 - 1.0  # [8, 3]
  x, y, z = (scene.radius[i] * signs).T
  cos, sin = (f(scene.angle[1:-1, i, None]) for f in (np.cos, np.sin))  # [f, 1]
  turned = (
    cos * x - sin * y,
    sin * x + cos * y,
    np.broadcast_to(z, (len(cos), 8)),
  )
  corners = np.stack(turned, axis=-1) + scene.position[1:-1, i, None]
  return corners.astype(np.float32)


def _box(mask: np.ndarray) -> tuple[float, float, float, float]:
  """Returns ymin, xmin, ymax, xmax of a mask [h, w], in [0, 1]."""
  sides = []
  for axis in (1, 0):
    places = np.flatnonzero(mask.any(axis=axis))
    size = mask.shape[1 - axis]
    sides.append((places[0] / size, (places[-1] + 1) / size))
  (top, bottom), (left, right) = sides
  return float(top), float(left), float(bottom), float(right)


def _camera(position: np.ndarray, num_frames: int) -> dict[str, Any]:
  """Describes a camera that stands still and looks at the origin."""
  axes = scene_geometry.camera_axes(position)
  right, up, forward = (np.array(jax.device_get(axis)) for axis in axes)
  rotation = transform.Rotation.from_matrix(np.stack([right, up, -forward], 1))
  x, y, z, w = rotation.as_quat()
  width, focal_length = 32.0, 35.0
  quaternion = np.array([w, x, y, z], np.float32)
  return {
    "focal_length": focal_length,
    "sensor_width": width,
    "field_of_view": 2 * np.arctan(width / 2 / focal_length),
    "positions": np.tile(position, (num_frames, 1)),
    "quaternions": np.tile(quaternion, (num_frames, 1)),
  }


def _collisions(
  scene: movi_scenes.Scene, rank: np.ndarray, num_frames: int
) -> list[dict[str, Any]]:
  if not scene.collisions:
    return []
  points = np.stack([x.position for x in scene.collisions]).astype(np.float32)
  places = movi.image_positions(scene.camera, scene_geometry.Vector(*points.T))
  collisions = []
  for collision, place in zip(
    scene.collisions, np.asarray(places), strict=True
  ):
    bodies = [
      movi_spec.NO_INSTANCE if body is None else rank[body + 1] - 1
      for body in collision.bodies
    ]
    collisions.append(
      {
        "instances": np.array(bodies, np.uint16),
        "frame": min(collision.frame, num_frames - 1),
        "force": collision.force,
        "position": collision.position.astype(np.float32),
        "image_position": place,
        "contact_normal": collision.normal.astype(np.float32),
      }
    )
  return collisions


def _to_uint16(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Spreads values over all of uint16; also returns least and largest."""
  low, high = float(array.min()), float(array.max())
  fraction = (array - low) / max(high - low, 1e-9)
  return _fraction_to_uint16(fraction), np.array([low, high], np.float32)


def _fraction_to_uint16(fraction: np.ndarray) -> np.ndarray:
  return np.round(np.clip(fraction, 0, 1) * _MAX_UINT16).astype(np.uint16)
