"""What the records of MOVi-C and MOVi-D hold (Greff et al., 2022, Kubric)."""

from typing import TYPE_CHECKING

import numpy as np

from slot_attention.data import preprocess

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

DATASETS = ("movi_c", "movi_d")
VERSION = "1.0.0"
CONFIGS = ("256x256", "128x128")  # As published; the first is TFDS' default.
NUM_FRAMES = 24
FRAMES_PER_SECOND = 12
CATEGORIES = (
  "Action Figures",
  "Bag",
  "Board Games",
  "Bottles and Cans and Cups",
  "Camera",
  "Car Seat",
  "Consumer Goods",
  "Hat",
  "Headphones",
  "Keyboard",
  "Legos",
  "Media Cases",
  "Mouse",
  "None",
  "Shoe",
  "Stuffed Toys",
  "Toys",
)
# Stands for floor and background among the instances of a collision.
NO_INSTANCE = 65535


def build_features(
  dataset: str, size: tuple[int, int], num_frames: int = NUM_FRAMES
) -> "tfds.features.FeaturesDict":
  """Returns the features as published, with which records are written.

  Args:
    dataset: one of DATASETS.
    size: (height, width) of the frames in pixels.
    num_frames: frames of a video, s; 24 in the published sets.

  Returns:
    The features. `video` is [s, h, w, 3] uint8, `segmentations` [s, h, w, 1]
    uint8: 0 background, i + 1 instance i.
  """
  preprocess.import_tensorflow()
  import tensorflow_datasets as tfds

  image, tensor = tfds.features.Image, tfds.features.Tensor
  shape = (num_frames, *size)

  def frames(
    feature: "tfds.features.FeatureConnector",
  ) -> "tfds.features.Sequence":
    return tfds.features.Sequence(feature, length=num_frames)

  flow = tensor(shape=(*size, 2), dtype=np.uint16)
  return tfds.features.FeaturesDict(
    {
      "metadata": _metadata(tfds),
      "background": tfds.features.Text(),
      "instances": tfds.features.Sequence(_instance(tfds, dataset, num_frames)),
      "camera": {
        "focal_length": np.float32,
        "sensor_width": np.float32,
        "field_of_view": np.float32,
        "positions": tensor(shape=(num_frames, 3), dtype=np.float32),
        "quaternions": tensor(shape=(num_frames, 4), dtype=np.float32),
      },
      "events": {"collisions": tfds.features.Sequence(_collision(tensor))},
      "video": tfds.features.Video(shape=(*shape, 3)),
      "segmentations": frames(image(shape=(*size, 1), dtype=np.uint8)),
      "forward_flow": frames(flow),
      "backward_flow": frames(flow),
      "depth": frames(image(shape=(*size, 1), dtype=np.uint16)),
      "normal": tfds.features.Video(shape=(*shape, 3), dtype=np.uint16),
      "object_coordinates": tfds.features.Video(
        shape=(*shape, 3), dtype=np.uint16
      ),
    }
  )


def _metadata(tfds) -> dict:
  pair = tfds.features.Tensor(shape=(2,), dtype=np.float32)
  return {
    "video_name": tfds.features.Text(),
    "width": np.int32,
    "height": np.int32,
    "num_frames": np.int32,
    "num_instances": np.uint16,
    "depth_range": pair,
    "forward_flow_range": pair,
    "backward_flow_range": pair,
  }


def _instance(tfds, dataset: str, num_frames: int) -> dict:
  def tensor(*shape: int) -> "tfds.features.Tensor":
    return tfds.features.Tensor(shape=(num_frames, *shape), dtype=np.float32)

  features = {
    "mass": np.float32,
    "friction": np.float32,
    "restitution": np.float32,
    "positions": tensor(3),
    "quaternions": tensor(4),
    "velocities": tensor(3),
    "angular_velocities": tensor(3),
    "bboxes_3d": tensor(8, 3),
    "image_positions": tensor(2),
    "bboxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
    "bbox_frames": tfds.features.Sequence(
      tfds.features.Tensor(shape=(), dtype=np.int32)
    ),
    "visibility": tfds.features.Tensor(shape=(num_frames,), dtype=np.uint16),
    "asset_id": tfds.features.Text(),
    "category": tfds.features.ClassLabel(names=list(CATEGORIES)),
    "scale": np.float32,
  }
  return features | ({"is_dynamic": np.bool_} if dataset == "movi_d" else {})


def _collision(tensor) -> dict:
  return {
    "instances": tensor(shape=(2,), dtype=np.uint16),
    "frame": np.int32,
    "force": np.float32,
    "position": tensor(shape=(3,), dtype=np.float32),
    "image_position": tensor(shape=(2,), dtype=np.float32),
    "contact_normal": tensor(shape=(3,), dtype=np.float32),
  }
