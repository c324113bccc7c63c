"""Files of the Multi-Object Datasets that tests share, and their opening."""

import pathlib

import contract
import made_up_records

from slot_attention.data import multi_object_datasets
from slot_attention.data.official import multi_object_specs
from slot_attention.data.records import conversion
from slot_attention.data.records import converter

SPECS = multi_object_specs.SPECS
KINDS = ("published", "converted")
COUNT = 24  # Records in a file, unless another number is asked for.
SIZES = (16, 3, 5)


class Directories:
  """Writes each published or converted data set once."""

  def __init__(self, root: pathlib.Path):
    self._root = root

  def __call__(
    self, dataset: str, kind: str = "published", count: int = COUNT, **options
  ) -> pathlib.Path:
    """Returns the directory; `options` are those of a conversion."""
    name = "_".join(map(str, [dataset, kind, count, *options.values()]))
    directory = self._root / "".join(c for c in name if c.isalnum() or c == "_")
    if directory.exists():
      return directory
    if kind == "published":
      made_up_records.write(directory / SPECS[dataset].file, dataset, count)
    else:
      source = self(dataset, count=count) / SPECS[dataset].file
      converter.convert(
        conversion.Conversion(
          source=str(source), dataset=dataset, records_per_shard=7, **options
        ),
        directory,
      )
    return directory


def open_split(
  dataset: str, data_dir: pathlib.Path, split: str = "train", **options
) -> contract.Widened:
  """Opens whole images of records with any number of objects."""
  options = {
    "split_sizes": SIZES,
    "min_num_objects": 0,
    "max_num_objects": 20,
    "resolution": SPECS[dataset].features["image"].shape[:2],
  } | options
  return contract.Widened(
    multi_object_datasets.open_dataset(dataset, str(data_dir), split, **options)
  )
