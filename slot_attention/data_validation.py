"""Which values and combinations of `config.data` can work."""

import ml_collections

from slot_attention import configuration
from slot_attention.data.folders import image_folder_layouts
from slot_attention.data.official import multi_object_specs
from slot_attention.data.tfds import movi_spec

# Procedural scenes of any resolution and up to ten objects.
_RAY_TRACED = ("clevr", "clevr_mirror", "clevrtex")


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks `config.data` and what must fit to it.

  Args:
    config: of the run, whose choices are among those allowed.

  Raises:
    configuration.ConfigError: see `config_validation.validate`.
  """
  data = config.data
  configuration.require(
    len(data.resolution) == 2 and min(data.resolution) >= 8,
    "data.resolution",
    data.resolution,
    "(height, width), each at least 8 pixels",
  )
  configuration.require(
    0 <= data.min_num_objects <= data.max_num_objects,
    "data.min_num_objects",
    data.min_num_objects,
    f"between 0 and data.max_num_objects = {data.max_num_objects}",
  )
  configuration.require(
    data.num_targets >= data.max_num_objects,
    "data.num_targets",
    data.num_targets,
    f"at least data.max_num_objects = {data.max_num_objects}",
  )
  configuration.require(
    len(data.crop) in (0, 4), "data.crop", data.crop, "() or four numbers"
  )
  _validate_source(config)
  _validate_image_folder(config)
  _validate_movi(config)
  procedural = data.procedural
  num_train = procedural.num_train
  configuration.require(
    num_train == 0 or num_train >= config.train.batch_size,
    "data.procedural.num_train",
    num_train,
    "0 (an endless stream) or at least train.batch_size = "
    f"{config.train.batch_size}",
  )
  if data.source == "procedural":
    configuration.require(
      config.eval.num_examples > 0,
      "eval.num_examples",
      config.eval.num_examples,
      "more than 0, since procedural splits have no end",
    )
    if data.dataset not in _RAY_TRACED:
      _validate_procedural(config)


def _validate_source(config: ml_collections.ConfigDict) -> None:
  """Checks what belongs to one source or one kind of batches."""
  data = config.data
  sizes = data.split_sizes
  configuration.require(
    len(sizes) == 3 and min(sizes) >= 0 and sizes[0] > 0,
    "data.split_sizes",
    sizes,
    "three numbers of records (train, validation, test), 0 or more, and of "
    "train more than 0",
  )
  configuration.require(
    not data.keep_on_devices or data.source != "procedural",
    "data.keep_on_devices",
    data.keep_on_devices,
    "False where data.source is procedural, whose scenes lie on the devices "
    "anyway with data.procedural.num_train",
  )
  if data.source == "clevr":
    configuration.require(
      data.dataset == "clevr",
      "data.dataset",
      data.dataset,
      "clevr where data.source is clevr; the others are in "
      "data.source = multi_object_datasets",
    )
  if config.task == "set_prediction":
    configuration.require(
      data.source != "multi_object_datasets",
      "data.source",
      data.source,
      "clevr or procedural for set_prediction, since the Multi-Object Datasets "
      "are read without targets",
    )
    configuration.require(
      not data.horizontal_flip,
      "data.horizontal_flip",
      data.horizontal_flip,
      "False for set_prediction, whose coordinates are not flipped",
    )


def _validate_image_folder(config: ml_collections.ConfigDict) -> None:
  """Checks what only images of folders have, or only the others."""
  data = config.data
  names = image_folder_layouts.LAYOUTS
  is_folder = data.source == "image_folder"
  drawn = data.source == "procedural" and data.dataset in _RAY_TRACED
  configuration.require(
    (data.dataset in names) == is_folder or drawn,
    "data.dataset",
    data.dataset,
    f"{'one of' if is_folder else 'none of'} {', '.join(names)} where "
    f"data.source is {data.source}",
  )
  configuration.require(
    not (is_folder and config.task == "set_prediction"),
    "data.source",
    data.source,
    "clevr or procedural for set_prediction, since folders of images are read "
    "without targets",
  )
  configuration.require(
    data.center_crop >= 0 and not (data.center_crop and data.crop),
    "data.center_crop",
    data.center_crop,
    "0 or more, and 0 where data.crop is not ()",
  )
  if data.source != "procedural":
    for key in ("center_crop", "variant"):
      configuration.require(
        is_folder or not data[key],
        f"data.{key}",
        data[key],
        "left as it is unless data.source is image_folder",
      )


def _validate_movi(config: ml_collections.ConfigDict) -> None:
  """Checks what only MOVi has, and features computed beforehand."""
  data, names = config.data, movi_spec.DATASETS
  is_movi = data.source == "movi"
  configuration.require(
    (data.dataset in names) == is_movi,
    "data.dataset",
    data.dataset,
    f"{'one of' if is_movi else 'none of'} {', '.join(names)} where "
    f"data.source is {data.source}",
  )
  configuration.require(
    not (is_movi and config.task == "set_prediction"),
    "data.source",
    data.source,
    "clevr or procedural for set_prediction, since MOVi is read without "
    "targets",
  )
  if data.features != "precomputed":
    return
  for key in ("horizontal_flip", "grayscale"):
    configuration.require(
      not data[key],
      f"data.{key}",
      data[key],
      "False where data.features is precomputed",
    )
  configuration.require(
    config.task == "dinosaur",
    "data.features",
    data.features,
    "on_the_fly unless task is dinosaur",
  )


def _validate_procedural(config: ml_collections.ConfigDict) -> None:
  """Checks the sets that are drawn in the form of their files only."""
  data = config.data
  name = data.dataset
  configuration.require(
    name != "objects_room",
    "data.dataset",
    name,
    "another where data.source is procedural, which does not draw this one",
  )
  configuration.require(
    config.task != "set_prediction",
    "task",
    config.task,
    f"another where data.dataset is {name}, which has no targets",
  )
  spec = multi_object_specs.SPECS[name]
  size = spec.features["image"].shape[:2]
  configuration.require(
    tuple(data.resolution) == size,
    "data.resolution",
    data.resolution,
    f"{size}, the size of the images of {name}",
  )
  most = spec.num_entities - 1
  least = most if name == "tetrominoes" else 1
  configuration.require(
    least <= data.min_num_objects <= most,
    "data.min_num_objects",
    data.min_num_objects,
    f"from {least} to {most}, the objects in procedural scenes of {name}",
  )
  configuration.require(
    data.max_num_objects <= most,
    "data.max_num_objects",
    data.max_num_objects,
    f"at most {most}, the objects in procedural scenes of {name}",
  )
