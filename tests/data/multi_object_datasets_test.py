"""Batches of the Multi-Object Datasets, from published and converted files."""

import itertools
import pathlib
import shutil

from absl import logging
import jax
import made_up_records
import multi_object_files
import numpy as np
import official_files
import pytest
import reference_arrays

from slot_attention import configuration
from slot_attention.data import multi_object_datasets
from slot_attention.data import pipeline
from slot_attention.data.records import conversion
from slot_attention.data.records import converter
from slot_attention.data.records import example_writer

tf = pytest.importorskip("tensorflow")

SPECS, KINDS = multi_object_files.SPECS, multi_object_files.KINDS
COUNT, SIZES = multi_object_files.COUNT, multi_object_files.SIZES
ALL_ROWS = slice(0, None)
CROP = (29, 64, 192, 192)
open_split = multi_object_files.open_split


def take(batches, count):
  return list(itertools.islice(batches, count))


def everything(source):
  (batch,) = source.eval_batches(source.num_examples, ALL_ROWS)
  return batch


def assert_same(batches, expected):
  for batch, other in zip(batches, expected, strict=True):
    assert batch.keys() == other.keys()
    for key, value in batch.items():
      assert value.dtype == other[key].dtype
      np.testing.assert_array_equal(value, other[key])


def check_content(batch, records):
  """Compares batches of whole images with what stock tf.data reads."""
  for i, record in enumerate(records):
    image = np.broadcast_to(
      record["image"], (*record["image"].shape[:2], 3)
    ).astype(np.float64)
    np.testing.assert_allclose(
      batch["image"][i], image / 127.5 - 1, rtol=0, atol=1e-6
    )
    np.testing.assert_array_equal(batch["segmentation"][i], record["labels"])
    visible = len(set(np.unique(record["labels"])) - {0})
    if "visibility" in record:
      visible = record["visibility"][1:].sum()
    assert batch["num_objects"][i] == visible
  dtypes = {k: v.dtype.name for k, v in batch.items() if k != "valid"}
  assert dtypes == {
    "image": "float32",
    "segmentation": "int32",
    "num_objects": "int32",
  }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dataset", sorted(SPECS))
def test_content_is_that_of_the_file(multi_object_directory, dataset, kind):
  count = 3 if dataset == "clevr" else COUNT
  data_dir = multi_object_directory(dataset, kind, count)
  path = multi_object_directory(dataset, count=count) / SPECS[dataset].file
  sizes = (count, 0, 0)
  source = open_split(dataset, data_dir, split_sizes=sizes)
  check_content(everything(source), official_files.read(path, dataset))


@pytest.mark.parametrize(
  "file, dataset, num_objects",
  [
    ("tetrominoes_first10", "tetrominoes", [3] * 10),
    ("clevr_with_masks_first2", "clevr", None),
    ("multi_dsprites_binarized_first2", "multi_dsprites_binarized", None),
    *(
      (f"{name}_first2", name, None)
      for name in SPECS
      if name.startswith("multi_dsprites_colored")
    ),
  ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_real_records(tmp_path, monkeypatch, file, dataset, num_objects, kind):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  records = official_files.real_records(f"{file}.tfrecords", dataset)
  path = tmp_path / pathlib.Path(SPECS[dataset].file).name
  shutil.copy(
    reference_arrays.find("multi_object_datasets_samples", f"{file}.tfrecords"),
    path,
  )
  data_dir = tmp_path
  if kind == "converted":
    data_dir = tmp_path / "converted"
    converter.convert(conversion.Conversion(str(path), dataset), data_dir)
  sizes = (len(records), 0, 0)
  source = open_split(dataset, data_dir, split_sizes=sizes)
  batch = everything(source)
  check_content(batch, records)
  if num_objects:
    assert batch["num_objects"].tolist() == num_objects
  assert source.num_examples == len(records)


def resize_in_float64(image, size):
  """Bilinear interpolation between centres of pixels, from its definition."""
  for axis, new in enumerate(size):
    old = image.shape[axis]
    place = (np.arange(new) + 0.5) * old / new - 0.5
    low = np.floor(place).astype(int)
    weight = (place - low).reshape([-1 if i == axis else 1 for i in range(3)])
    image = (1 - weight) * np.take(
      image, np.clip(low, 0, old - 1), axis
    ) + weight * np.take(image, np.clip(low + 1, 0, old - 1), axis)
  return image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_crop_and_resize(multi_object_directory, interpolation, kind):
  options = {"crop": CROP} if kind == "converted" else {}
  data_dir = multi_object_directory("clevr", kind, 3, **options)
  batch = everything(
    open_split(
      "clevr",
      data_dir,
      split_sizes=(3, 0, 0),
      resolution=(128, 96),
      crop=CROP,
      interpolation=interpolation,
    )
  )
  rows, columns = np.arange(128) * 192 // 128, np.arange(96) * 192 // 96
  path = multi_object_directory("clevr", count=3) / SPECS["clevr"].file
  for i, record in enumerate(official_files.read(path, "clevr")):
    image = record["image"][29:221, 64:256] / 127.5 - 1
    labels = record["labels"][29:221, 64:256]
    np.testing.assert_array_equal(
      batch["segmentation"][i], labels[rows][:, columns]
    )
    expected = (
      resize_in_float64(image, (128, 96))
      if interpolation == "bilinear"
      else image[rows][:, columns]
    )
    np.testing.assert_allclose(batch["image"][i], expected, rtol=0, atol=2e-6)


VIEWS = [
  ("tetrominoes", {}, {}),
  ("tetrominoes", {}, {"resolution": (32, 48)}),
  ("multi_dsprites_binarized", {}, {"resolution": (32, 32)}),
  (
    "objects_room",
    {"crop": (8, 4, 48, 56)},
    {"crop": (8, 4, 48, 56), "resolution": (32, 32)},
  ),
  (
    "multi_dsprites_colored_on_colored",
    {},
    {"crop": (3, 4, 50, 60), "interpolation": "nearest"},
  ),
]


@pytest.mark.parametrize("dataset, options, view", VIEWS)
def test_both_kinds_give_the_same_batches(
  multi_object_directory, dataset, options, view
):
  limits = {"min_num_objects": 2, "max_num_objects": 3}
  published, converted = (
    open_split(dataset, data_dir, **view, **limits)
    for data_dir in (
      multi_object_directory(dataset),
      multi_object_directory(dataset, "converted", **options),
    )
  )
  assert published.num_examples == converted.num_examples > 4
  assert_same(
    take(published.train_batches(4, 7, 3, slice(1, 4)), 12),
    take(converted.train_batches(4, 7, 3, slice(1, 4)), 12),
  )
  assert_same(
    published.eval_batches(4, slice(1, 4)),
    converted.eval_batches(4, slice(1, 4)),
  )


@pytest.mark.parametrize("options", [{}, {"crop": CROP}])
def test_both_kinds_give_the_same_batches_of_clevr(
  multi_object_directory, options
):
  view = {"crop": CROP, "resolution": (128, 128), "split_sizes": (3, 0, 0)}
  assert_same(
    *(
      take(open_split("clevr", x, **view).train_batches(2, 1, 0, ALL_ROWS), 3)
      for x in (
        multi_object_directory("clevr", count=3),
        multi_object_directory("clevr", "converted", 3, **options),
      )
    )
  )


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_run_and_hosts_see_the_same(multi_object_directory, kind):
  data_dir = multi_object_directory("tetrominoes", kind)
  whole = take(
    open_split("tetrominoes", data_dir).train_batches(8, 5, 0, ALL_ROWS), 7
  )
  source = open_split("tetrominoes", data_dir)
  assert_same(take(source.train_batches(8, 5, 4, ALL_ROWS), 3), whole[4:])
  hosts = [
    take(source.train_batches(8, 5, 0, slice(i, i + 4)), 7) for i in (0, 4)
  ]
  for batch, *parts in zip(whole, *hosts, strict=True):
    for key, value in batch.items():
      np.testing.assert_array_equal(
        value, np.concatenate([part[key] for part in parts])
      )


@pytest.mark.parametrize("kind", KINDS)
def test_splits_follow_one_another(multi_object_directory, kind):
  data_dir = multi_object_directory("tetrominoes", kind)
  whole = everything(
    open_split("tetrominoes", data_dir, split_sizes=(COUNT, 0, 0))
  )
  for split, part in (
    ("train", slice(0, 16)),
    ("train_eval", slice(0, 16)),
    ("validation", slice(16, 19)),
    ("test", slice(19, 24)),
  ):
    batch = everything(open_split("tetrominoes", data_dir, split))
    np.testing.assert_array_equal(batch["image"], whole["image"][part])


def test_paper_sizes():
  sizes = (70_000, 0, 320)
  for split, first, count in (
    ("train", 0, 70_000),
    ("train_eval", 0, 320),
    ("test", 70_000, 320),
    ("validation", 70_000, 0),
  ):
    records = multi_object_datasets.split_records(split, sizes)
    assert records.tolist() == list(range(first, first + count))


@pytest.mark.parametrize("kind", KINDS)
def test_filter_counts_visible_objects(tmp_path, kind):
  dataset = "multi_dsprites_colored_on_grayscale"
  examples = list(made_up_records.examples(dataset, 12))
  for i, example in enumerate(examples):
    example["visibility"] = np.float32([1] + [j < i % 6 for j in range(5)])
  path = tmp_path / SPECS[dataset].file
  example_writer.write_examples(path, SPECS[dataset], examples)
  data_dir = tmp_path
  if kind == "converted":
    data_dir = tmp_path / "converted"
    converter.convert(conversion.Conversion(str(path), dataset), data_dir)
  source = open_split(
    dataset,
    data_dir,
    split_sizes=(12, 0, 0),
    min_num_objects=3,
    max_num_objects=4,
  )
  assert source.records.tolist() == [3, 4, 9, 10]
  assert everything(source)["num_objects"].tolist() == [3, 4, 3, 4]


@pytest.fixture
def messages(monkeypatch):
  lines = []
  monkeypatch.setattr(
    logging, "info", lambda text, *args: lines.append(text % args)
  )
  return lines


def test_where_the_published_file_may_lie(copied, messages):
  data_dir = copied("tetrominoes")
  path = data_dir / SPECS["tetrominoes"].file
  for place in (path, data_dir / path.name):
    path.rename(place)
    path = place
    assert open_split("tetrominoes", data_dir).num_examples == 16
    (line,) = [x for x in messages if x.startswith("Reading tetrominoes")]
    assert f"the published file {place}, its first 24 rec" in line
    messages.clear()


def test_converted_files_are_preferred(
  copied, multi_object_directory, messages
):
  data_dir = copied("tetrominoes", "converted")
  published = data_dir / SPECS["tetrominoes"].file
  published.parent.mkdir()
  published.write_bytes(b"never opened")
  assert open_split("tetrominoes", data_dir).num_examples == 16
  (line,) = [x for x in messages if x.startswith("Reading tetrominoes")]
  assert f"the converted data set in {data_dir}, 24 records; a publ" in line


def test_resized_conversion_is_read_as_it_is(multi_object_directory):
  data_dir = multi_object_directory(
    "objects_room", "converted", resolution=(32, 32)
  )
  batch = everything(open_split("objects_room", data_dir, resolution=(32, 32)))
  assert batch["image"].shape == (16, 32, 32, 3)
  pixels = (batch["image"] + 1) * 127.5
  np.testing.assert_allclose(pixels, np.round(pixels), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("horizontal_flip", [False, True])
def test_pipeline_puts_the_same_batches_on_any_devices(
  multi_object_directory, kind, horizontal_flip
):
  config = configuration.get_default().data
  config.source = "multi_object_datasets"
  config.dataset = "tetrominoes"
  config.data_dir = str(multi_object_directory("tetrominoes", kind))
  config.split_sizes = SIZES
  config.min_num_objects = 0
  config.resolution = (35, 35)
  config.horizontal_flip = horizontal_flip
  batches = []
  for devices in (1, 4):
    mesh = jax.make_mesh(
      (devices,),
      ("data",),
      axis_types=(jax.sharding.AxisType.Auto,),
      devices=jax.devices()[:devices],
    )
    source = pipeline.open_source(config, "train", mesh)
    batches.append(
      [jax.device_get(x) for x in take(source.train_batches(8, 2, 1), 3)]
    )
  assert_same(*batches)
