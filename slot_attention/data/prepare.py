"""Prepares data sets before training.

  python -m slot_attention.data.prepare generate --dataset=clevr \
    --output=DIR --num_train=70000 --num_validation=15000

writes procedural CLEVR scenes so that `tfds.load("clevr:3.1.0", data_dir=DIR)`
and `--config.data.source=clevr --config.data.data_dir=DIR` read them; the other
data sets become files in the format of the Multi-Object Datasets, of
`num_train` records.

  python -m slot_attention.data.prepare inspect --input=FILE_OR_DIRECTORY

says what TFRecord files hold and whether they are whole.

  python -m slot_attention.data.prepare convert --dataset=tetrominoes \
    --input=tetrominoes_train.tfrecords --output=DIR

makes a published file of the Multi-Object Datasets one that reads fast.

  python -m slot_attention.data.prepare convert --dataset=clevrtex \
    --input=DIR --output=DIR --resolution=96,96 --center_crop=0.8

does so with folders of images (clevr_mirror, shapestacks, clevrtex, coco, and
folder for one's own); `inspect --dataset=clevrtex --input=DIR` counts what is
in each split and reads all of it.

  python -m slot_attention.data.prepare features \
    --config=configs/movi_c_dinosaur.py --config.data.data_dir=DIR --output=DIR

computes the features of DINOSAUR's frozen transformer once; a run that was
killed goes on. `generate --dataset=movi_c_procedural` writes small videos in
the form of MOVi.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import json
import pathlib
from typing import Any

from absl import flags
from absl import logging

from slot_attention import cli
from slot_attention.data import feature_command
from slot_attention.data import image_folders
from slot_attention.data import inspection
from slot_attention.data import preprocess
from slot_attention.data.folders import image_conversion
from slot_attention.data.folders import image_folder_layouts
from slot_attention.data.folders import image_inspection
from slot_attention.data.official import generate_official
from slot_attention.data.official import multi_object_specs
from slot_attention.data.records import conversion
from slot_attention.data.records import converter
from slot_attention.data.records import whole_files
from slot_attention.data.tfds import generate_clevr
from slot_attention.data.tfds import generate_movi

# What the Multi-Object Datasets' CLEVR is called where another CLEVR is, too.
_WITH_MASKS = "clevr_with_masks"


def _generate(values: flags.FlagValues) -> None:
  """Runs `prepare generate`."""
  _require(values, "output")
  dataset = values.dataset or "clevr"
  if dataset == "clevr":
    path = generate_clevr.generate(
      values.output,
      {name: values[f"num_{name}"].value for name in generate_clevr.SPLITS},
      seed=values.seed,
      size=(_or(values.height, 320), _or(values.width, 480)),
      min_num_objects=_or(values.min_num_objects, 3),
      max_num_objects=_or(values.max_num_objects, 10),
    )
  elif dataset in generate_movi.DATASETS:
    path = _generate_movi(generate_movi.DATASETS[dataset], values)
  else:
    path = generate_official.generate(
      dataset,
      values.output,
      values.num_train,
      values.seed,
      values.min_num_objects,
      values.max_num_objects,
    )
  logging.info("Wrote %s.", path)


def _generate_movi(dataset: str, values: flags.FlagValues) -> pathlib.Path:
  limits = values.min_num_objects, values.max_num_objects
  if None in limits and limits != (None, None):
    raise ValueError(
      "Procedural MOVi takes --min_num_objects and --max_num_objects together."
    )
  return generate_movi.generate(
    dataset,
    values.output,
    {name: values[f"num_{name}"].value for name in generate_movi.SPLITS},
    seed=values.seed,
    size=(_or(values.height, 256), _or(values.width, 256)),
    limits=None if None in limits else limits,
  )


def _features(values: flags.FlagValues) -> None:
  """Runs `prepare features`."""
  _require(values, "config", "output")
  feature_command.run(values)


def _or(value: int | None, default: int) -> int:
  return default if value is None else value


def _inspect(values: flags.FlagValues) -> None:
  """Runs `prepare inspect`."""
  _require(values, "input")
  reports = []
  for report, text in _look_at(values):
    print(cli.printable(text), flush=True)
    reports.append(report)
  if values.output:
    text = json.dumps([dataclasses.asdict(x) for x in reports], indent=2)
    with whole_files.open_whole(values.output) as file:
      file.write(f"{text}\n".encode())
  wrong = [report.error for report in reports if report.error]
  if wrong:
    raise ValueError(wrong[0])


def _look_at(values: flags.FlagValues) -> Iterator[tuple[Any, str]]:
  """Yields reports, and their texts."""
  path, count = values.input, values.num_records
  is_converted = inspection.converted_directories(path)
  if values.dataset in image_folder_layouts.LAYOUTS and not is_converted:
    for report in image_inspection.inspect(
      values.dataset, path, values.variant, count
    ):
      yield report, image_inspection.format_report(report)
    return
  for report in inspection.inspect(path, _spec_name(values.dataset), count):
    yield report, inspection.format_report(report)


def _convert(values: flags.FlagValues) -> None:
  """Runs `prepare convert`."""
  _require(values, "input", "dataset", "output")
  if values.dataset in image_folder_layouts.LAYOUTS:
    _convert_images(values)
    return
  dataset = _spec_name(values.dataset)
  crop = _integers("crop", values.crop)
  path = converter.convert(
    conversion.Conversion(
      source=values.input,
      dataset=dataset,
      crop=conversion.DEFAULT_CROPS.get(dataset, ()) if crop is None else crop,
      resolution=_integers("resolution", values.resolution) or None,
      num_records=values.num_records,
      records_per_shard=_or(values.records_per_shard, 1000),
    ),
    values.output,
  )
  logging.info("Wrote %s.", path)


def _convert_images(values: flags.FlagValues) -> None:
  """Runs `prepare convert` on a folder of images."""
  _require(values, "resolution")
  resolution = _integers("resolution", values.resolution)
  path = image_conversion.convert(
    values.dataset,
    values.input,
    values.output,
    image_folders.View(
      resolution=resolution,
      center_crop=values.center_crop,
      crop=_integers("crop", values.crop) or (),
      interpolation=values.interpolation,
    ),
    values.variant,
    values.num_records,
    _or(values.records_per_shard, 1000),
  )
  logging.info("Wrote %s.", path)


def _spec_name(dataset: str | None) -> str | None:
  return "clevr" if dataset == _WITH_MASKS else dataset


def _require(values: flags.FlagValues, *names: str) -> None:
  missing = [f"--{name}" for name in names if not values[name].value]
  if missing:
    raise ValueError(f"This subcommand needs {' and '.join(missing)}.")


def _integers(
  name: str, values: Sequence[str] | None
) -> tuple[int, ...] | None:
  try:
    return None if values is None else tuple(int(value) for value in values)
  except ValueError as error:
    raise ValueError(
      f"--{name}={','.join(values)} is not a list of whole numbers."
    ) from error


SUBCOMMANDS = {
  "convert": _convert,
  "features": _features,
  "generate": _generate,
  "inspect": _inspect,
}


def define_flags() -> None:
  """Defines the command line; not on import, for the sake of other programs."""
  datasets = {
    "clevr",
    *multi_object_specs.SPECS,
    *generate_official.DATASETS,
    *generate_movi.DATASETS,
    *image_folder_layouts.LAYOUTS,
  }
  flags.DEFINE_enum(
    "dataset",
    None,
    sorted(datasets),
    "Which data set. generate: clevr is TFDS' CLEVR; convert and inspect: "
    "clevr is clevr_with_masks.",
  )
  flags.DEFINE_string("input", None, "File (or directory) to read.")
  flags.DEFINE_string("output", None, "Directory (inspect: file) to write.")
  _define_generate_flags()
  flags.DEFINE_list(
    "crop",
    None,
    "Top, left, height, width of the part of the images that is kept; --crop= "
    "for all. 29,64,192,192 for CLEVR and all for others by default.",
  )
  flags.DEFINE_list("resolution", None, "Height, width to resize to.")
  _define_image_flags()
  flags.DEFINE_integer("num_records", None, "Read only so many records.", 1)
  flags.DEFINE_integer(
    "records_per_shard", None, "Records in a file; 1000, features: 240.", 1
  )
  feature_command.define_flags()


def _define_image_flags() -> None:
  flags.DEFINE_string("variant", "", "Of a folder of images, see README.")
  flags.DEFINE_float(
    "center_crop",
    0.0,
    "Side of the middle of a folder's images that is kept: up to 1 of the "
    "shorter side, otherwise in pixels; 0 for all.",
    0.0,
  )
  flags.DEFINE_enum(
    "interpolation",
    "bilinear",
    ["bilinear", "nearest", *preprocess.ANTIALIASED],
    "How a folder's images are resized.",
  )


def _define_generate_flags() -> None:
  flags.DEFINE_integer("num_train", 0, "Training scenes, or records.", 0)
  flags.DEFINE_integer("num_validation", 0, "TFDS' validation scenes.", 0)
  flags.DEFINE_integer("num_test", 0, "TFDS' test scenes.", 0)
  flags.DEFINE_integer("seed", 0, "Which scenes.")
  flags.DEFINE_integer(
    "height", None, "Of images in pixels; 320 for CLEVR, 256 for MOVi.", 8
  )
  flags.DEFINE_integer(
    "width", None, "Of images in pixels; 480 for CLEVR, 256 for MOVi.", 8
  )
  flags.DEFINE_integer("min_num_objects", None, "Fewest objects in a scene.", 1)
  flags.DEFINE_integer("max_num_objects", None, "Most objects in a scene.", 1)


def main(argv: Sequence[str]) -> None:
  """Runs the subcommand that is the first positional argument."""
  if len(argv) != 2 or argv[1] not in SUBCOMMANDS:
    raise ValueError(
      f"Give one of the subcommands {', '.join(SUBCOMMANDS)}, not "
      f"{' '.join(argv[1:]) or 'nothing'}."
    )
  SUBCOMMANDS[argv[1]](flags.FLAGS)


if __name__ == "__main__":
  define_flags()
  cli.run(main)
