"""What the files of the Multi-Object Datasets hold (Kabra et al., 2019).

All files are TFRecords in one GZIP stream. A record is a tf.Example; uint8
features are lists of one-byte strings, one for each element, and the others
float lists. Entity 0 is the background.
"""

import dataclasses

UINT8, FLOAT32 = "uint8", "float32"


@dataclasses.dataclass(frozen=True)
class Feature:
  """One feature of every record.

  Attributes:
    shape: of the array.
    dtype: "uint8" or "float32".
  """

  shape: tuple[int, ...]
  dtype: str = FLOAT32


@dataclasses.dataclass(frozen=True)
class Spec:
  """One of the data sets.

  Attributes:
    file: of the (training) records, below the directory of all data sets.
    features: by name, as stored; `image` and `mask` are 0 to 255.
    entities_last: whether the mask is [h, w, k, 1] instead of [k, h, w, 1].
    num_records: in the published file.
  """

  file: str
  features: dict[str, Feature]
  entities_last: bool = False
  num_records: int = 1_000_000

  @property
  def num_entities(self) -> int:
    """Returns the number of masks of every record, the background included."""
    return self.features["mask"].shape[2 if self.entities_last else 0]


def _factors(num_entities: int, *names: str) -> dict[str, Feature]:
  return {name: Feature((num_entities,)) for name in names}


def _multi_dsprites(name: str, num_entities: int, channels: int) -> Spec:
  names = ("x", "y", "shape", "visibility", "orientation", "scale")
  return Spec(
    file=f"multi_dsprites/multi_dsprites_{name}.tfrecords",
    features={
      "image": Feature((64, 64, channels), UINT8),
      "mask": Feature((64, 64, num_entities, 1), UINT8),
      **_factors(num_entities, *names),
      "color": Feature((num_entities, channels)),
    },
    entities_last=True,
  )


SPECS = {
  "tetrominoes": Spec(
    file="tetrominoes/tetrominoes_train.tfrecords",
    features={
      "image": Feature((35, 35, 3), UINT8),
      "mask": Feature((4, 35, 35, 1), UINT8),
      **_factors(4, "x", "y", "shape", "visibility"),
      "color": Feature((4, 3)),
    },
  ),
  "multi_dsprites_binarized": _multi_dsprites("binarized", 4, 1),
  "multi_dsprites_colored_on_grayscale": _multi_dsprites(
    "colored_on_grayscale", 6, 3
  ),
  "multi_dsprites_colored_on_colored": _multi_dsprites(
    "colored_on_colored", 5, 3
  ),
  "clevr": Spec(
    file="clevr_with_masks/clevr_with_masks_train.tfrecords",
    features={
      "image": Feature((240, 320, 3), UINT8),
      "mask": Feature((11, 240, 320, 1), UINT8),
      **_factors(11, "x", "y", "z", "rotation", "visibility"),
      "pixel_coords": Feature((11, 3)),
      **{
        name: Feature((11,), UINT8)
        for name in ("size", "material", "shape", "color")
      },
    },
    num_records=100_000,
  ),
  "objects_room": Spec(
    file="objects_room/objects_room_train.tfrecords",
    features={
      "image": Feature((64, 64, 3), UINT8),
      "mask": Feature((7, 64, 64, 1), UINT8),
    },
  ),
}
