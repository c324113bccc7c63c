import fcntl
import gzip
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import made_up_records
import numpy as np
import official_files
import pytest
import reference_arrays

from slot_attention.data import converted
from slot_attention.data import preprocess
from slot_attention.data.records import conversion as conversion_lib
from slot_attention.data.records import converter
from slot_attention.data.records import record_stream
from slot_attention.data.records import wire_format

tf = pytest.importorskip("tensorflow")

# (data set, records, crop, resolution)
CASES = [
  ("tetrominoes", 5, (), None),
  ("tetrominoes", 3, (1, 2, 32, 30), None),
  ("multi_dsprites_binarized", 3, (), None),
  ("multi_dsprites_colored_on_grayscale", 3, (), (40, 48)),
  ("multi_dsprites_colored_on_colored", 3, (), (64, 64)),
  ("objects_room", 3, (), (32, 32)),
  ("clevr", 3, (29, 64, 192, 192), None),
  ("clevr", 3, (29, 64, 192, 192), (128, 128)),
]


@pytest.fixture(scope="module")
def tetrominoes(tmp_path_factory):
  path = tmp_path_factory.mktemp("tetrominoes") / "source.tfrecords"
  return made_up_records.write(path, "tetrominoes", 60)


def convert(source, output, dataset="tetrominoes", **arguments):
  conversion = conversion_lib.Conversion(str(source), dataset, **arguments)
  return converter.convert(conversion, output)


def decode(directory):
  """All records, with tensorflow."""
  info = converted.read_info(directory)
  dataset = tf.data.TFRecordDataset(list(info.paths)).batch(1000)
  (batch,) = dataset.map(lambda x: converted.decode_batch(x, info))
  return info, {key: value.numpy() for key, value in batch.items()}


def as_tensorflow(record, crop, resolution):
  """Image and labels of a record, by the arithmetic of the pipelines."""
  image, labels = record["image"], record["labels"]
  if crop:
    top, left, height, width = crop
    window = slice(top, top + height), slice(left, left + width)
    image, labels = image[window], labels[window]
  if resolution:
    image = preprocess.resize_bilinear(image.astype(np.float32), resolution)
    labels = preprocess.resize_nearest(labels[..., None], resolution)[..., 0]
  return np.rint(image), np.asarray(labels)


@pytest.mark.parametrize("dataset, count, crop, resolution", CASES)
def test_same_as_the_published_file(tmp_path, dataset, count, crop, resolution):
  source = made_up_records.write(tmp_path / "source", dataset, count)
  directory = convert(
    source,
    tmp_path / "out",
    dataset,
    crop=crop,
    resolution=resolution,
    records_per_shard=2,
  )
  check_same(official_files.read(source, dataset), directory, crop, resolution)
  info = converted.read_info(directory)
  assert info.shard_lengths == ((2, 1) if count == 3 else (2, 2, 1))
  assert info.source == {"file": "source", "bytes": source.stat().st_size}
  assert info.resized == (resolution not in (None, (64, 64)))


def check_same(records, directory, crop, resolution):
  info, batch = decode(directory)
  assert len(batch["image"]) == len(records)
  for i, record in enumerate(records):
    image, labels = as_tensorflow(record, crop, resolution)
    np.testing.assert_array_equal(batch["image"][i], image)
    np.testing.assert_array_equal(batch["segmentation"][i], labels)
    visible = record.get("visibility")
    if visible is None:
      visible = [k in record["labels"] for k in range(7)]
    assert batch["num_objects"][i] == np.sum(visible[1:])
  np.testing.assert_array_equal(info.num_objects, batch["num_objects"])
  payloads = [
    x.payload for y in info.paths for x in record_stream.read_records(y)
  ]
  for payload, record in zip(payloads, records, strict=True):
    parsed = wire_format.parse_example(payload)
    for name in parsed.keys() - {"image", "segmentation", "num_objects"}:
      np.testing.assert_array_equal(parsed[name], record[name].ravel())


@pytest.mark.parametrize(
  "file, dataset, crop",
  [
    ("tetrominoes_first10", "tetrominoes", ()),
    (
      "multi_dsprites_colored_on_grayscale_first2",
      "multi_dsprites_colored_on_grayscale",
      (),
    ),
    ("clevr_with_masks_first2", "clevr", (29, 64, 192, 192)),
  ],
)
def test_real_records(tmp_path, file, dataset, crop):
  name = f"{file}.tfrecords"
  source = reference_arrays.find("multi_object_datasets_samples", name)
  directory = convert(source, tmp_path / "out", dataset, crop=crop)
  check_same(official_files.real_records(name, dataset), directory, crop, None)


def contents(directory):
  return {path.name: path.read_bytes() for path in directory.iterdir()}


SLOW_CONVERSION = """
import sys, time
from slot_attention.data.records import conversion, converter
apply = conversion.Conversion.apply
def slow_apply(self, payload):
  time.sleep(0.01)
  return apply(self, payload)
conversion.Conversion.apply = slow_apply
converter.convert(conversion.Conversion(
  sys.argv[1], "tetrominoes", records_per_shard=7), sys.argv[2])
"""


def test_killed_conversions_go_on(tmp_path, tetrominoes):
  """The result is the same as if nobody had killed it, whenever it was."""
  whole = convert(tetrominoes, tmp_path / "whole", records_per_shard=7)
  output = tmp_path / "out"
  command = [sys.executable, "-c", SLOW_CONVERSION, tetrominoes, output]
  num_kills, shards = 0, 0
  while not (output / "info.json").exists():
    process = subprocess.Popen(command)
    # Until there is a shard more, and something of the next one.
    while process.poll() is None and count_shards(output) <= shards:
      time.sleep(0.005)
    time.sleep(0.004 * (1 + num_kills))
    process.send_signal(signal.SIGKILL)
    num_kills += process.wait() == -signal.SIGKILL
    shards = count_shards(output)
    for path in output.glob("tetrominoes-*"):
      assert path.read_bytes() == (whole / path.name).read_bytes()
    assert (converted.read_info(output) is None) == (
      not (output / "info.json").exists()
    )
  assert num_kills >= 4
  assert contents(output) == contents(whole)


def count_shards(directory):
  return len(list(directory.glob("tetrominoes-*.tfrecords")))


def test_killed_before_the_description(tmp_path, tetrominoes):
  output = convert(tetrominoes, tmp_path / "out", records_per_shard=7)
  whole = contents(output)
  for name in ("info.json", "num_objects.npy"):
    (output / name).unlink()
  convert(tetrominoes, output, records_per_shard=7)
  assert contents(output) == whole


def test_complete_conversions_stay(tmp_path, tetrominoes):
  output = convert(tetrominoes, tmp_path / "out", num_records=5)
  before = {x: x.stat().st_mtime_ns for x in output.iterdir()}
  convert(tetrominoes, output, num_records=5)
  assert {x: x.stat().st_mtime_ns for x in output.iterdir()} == before
  assert converted.read_info(output).num_records == 5


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"crop": (0, 0, 35, 34)},
      r"begun with crop=\[\], which is now \[0, 0, 35",
    ),
    ({"records_per_shard": 10}, "begun with records_per_shard=20, which is"),
    ({"num_records": 3}, "begun with num_records=None, which is now 3"),
  ],
)
def test_other_arguments(tmp_path, tetrominoes, changes, message):
  arguments = {"records_per_shard": 20}
  output = convert(tetrominoes, tmp_path / "out", **arguments)
  for _ in range(2):  # Complete, then as killed before the end.
    before = contents(output)
    with pytest.raises(ValueError, match=message):
      convert(tetrominoes, output, **(arguments | changes))
    assert contents(output) == before
    (output / "info.json").unlink(missing_ok=True)


def test_other_source(tmp_path, tetrominoes):
  output = convert(tetrominoes, tmp_path / "out")
  other = made_up_records.write(tmp_path / "other", "tetrominoes", 2)
  with pytest.raises(ValueError, match="was begun with source="):
    convert(other, output)


def test_foreign_directories(tmp_path, tetrominoes):
  (tmp_path / "thesis.txt").write_text("precious")
  with pytest.raises(FileExistsError, match="is not empty and holds nothing"):
    convert(tetrominoes, tmp_path)
  assert list(contents(tmp_path)) == ["thesis.txt"]


def test_wrong_data_set(tmp_path, tetrominoes):
  with pytest.raises(
    ValueError, match=r"Record 0 of .* is not one of clevr: its"
  ):
    convert(tetrominoes, tmp_path / "out", "clevr")
  name = "multi_dsprites_colored_on_colored"
  source = made_up_records.write(tmp_path / "dsprites", name, 1)
  wrong = "multi_dsprites_colored_on_grayscale"
  with pytest.raises(ValueError, match=f"; it is one of {name}."):
    convert(source, tmp_path / "out", wrong)
  # After a mistake, the directory can still be used.
  convert(source, tmp_path / "out", name)
  assert converted.read_info(tmp_path / "out").dataset == name


def damage(source, path, record):
  """Writes a copy in which a byte of one record is flipped."""
  content = bytearray(gzip.decompress(source.read_bytes()))
  content[len(content) // 60 * record + 1000] ^= 1
  path.write_bytes(gzip.compress(content, 1))
  return path


def test_corrupt_source(tmp_path, tetrominoes):
  source = damage(tetrominoes, tmp_path / "source", 33)
  output = tmp_path / "out"
  for _ in range(2):  # Also when it goes on.
    with pytest.raises(
      ValueError, match="source is corrupt at record 33, byte"
    ):
      convert(source, output, records_per_shard=20)
    assert set(contents(output)) == {
      "conversion.json",
      "tetrominoes-00000.tfrecords",
    }


def test_source_that_is_cut_off(tmp_path, tetrominoes):
  content = tetrominoes.read_bytes()
  source = tmp_path / "source"
  source.write_bytes(content[: len(content) // 2])
  with pytest.raises(ValueError, match="Compressed file ended before"):
    convert(source, tmp_path / "out", records_per_shard=10)
  assert converted.read_info(tmp_path / "out") is None


def test_too_few_records(tmp_path, tetrominoes):
  with pytest.raises(ValueError, match="holds 60 records, not num_records=61"):
    convert(tetrominoes, tmp_path / "out", num_records=61)
  assert converted.read_info(tmp_path / "out") is None
  (tmp_path / "empty").write_bytes(gzip.compress(b""))
  with pytest.raises(ValueError, match="empty holds 0 records"):
    convert(tmp_path / "empty", tmp_path / "out2")


def test_full_disk(tmp_path, tetrominoes):
  """A limit on the size of files, as a full disk takes root to make."""
  output = tmp_path / "out"
  code = SLOW_CONVERSION.replace("0.01", "0")
  limit = 30_000  # A shard of 7 records takes 34 kB.
  process = subprocess.run(
    [sys.executable, "-c", code, tetrominoes, output],
    capture_output=True,
    text=True,
    check=False,
    preexec_fn=lambda: resource.setrlimit(
      resource.RLIMIT_FSIZE, (limit, limit)
    ),
  )
  assert process.returncode == 1
  assert process.stderr.strip().splitlines()[-1] == (
    f"OSError: There is no room for {output}/tetrominoes-00000.tfrecords "
    "(File too large); make room and run the same command again."
  )
  assert set(contents(output)) == {"conversion.json"}
  convert(tetrominoes, output, records_per_shard=7)


def test_two_conversions_to_one_directory(tmp_path, tetrominoes):
  descriptor = os.open(tmp_path, os.O_RDONLY)
  fcntl.flock(descriptor, fcntl.LOCK_EX)
  with pytest.raises(FileExistsError, match="Another process is writing to"):
    convert(tetrominoes, tmp_path)
  os.close(descriptor)
  convert(tetrominoes, tmp_path)


@pytest.mark.parametrize(
  "arguments, message",
  [
    ({"crop": (0, 0, 36, 35)}, r"crop=\(0, 0, 36, 35\) is not .* 35x35 images"),
    ({"crop": (-1, 0, 5, 5)}, "is not a top, left, height, width within"),
    ({"crop": (0, 0, 5)}, "is not a top, left, height, width within"),
    ({"resolution": (0, 5)}, r"resolution=\(0, 5\) is not a height and a"),
    ({"resolution": (5,)}, r"resolution=\(5,\) is not a height and a"),
  ],
)
def test_impossible_arguments(tetrominoes, arguments, message):
  with pytest.raises(ValueError, match=message):
    conversion_lib.Conversion(str(tetrominoes), "tetrominoes", **arguments)


def test_missing_source(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"There is no file .*nothing"):
    conversion_lib.Conversion(str(pathlib.Path(tmp_path, "nothing")), "clevr")


def test_uncompressed_source(tmp_path, tetrominoes):
  source = tmp_path / "source"
  source.write_bytes(gzip.decompress(tetrominoes.read_bytes()))
  first = convert(tetrominoes, tmp_path / "a")
  second = convert(source, tmp_path / "b")
  shard = "tetrominoes-00000.tfrecords"
  assert (first / shard).read_bytes() == (second / shard).read_bytes()
