import gzip
import json
import re

import made_up_records
import numpy as np
import pytest

from slot_attention.data import inspection
from slot_attention.data.official import multi_object_specs
from slot_attention.data.records import conversion as conversion_lib
from slot_attention.data.records import converter
from slot_attention.data.records import example_writer
from slot_attention.data.records import record_stream
from slot_attention.data.records import wire_format


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  path = tmp_path_factory.mktemp("tetrominoes") / "source.tfrecords"
  return made_up_records.write(path, "tetrominoes", 10)


@pytest.fixture
def converted_directory(tmp_path, source):
  conversion = conversion_lib.Conversion(
    str(source), "tetrominoes", records_per_shard=4
  )
  return converter.convert(conversion, tmp_path / "converted")


def inspect(path, **arguments):
  (report,) = inspection.inspect(path, **arguments)
  return report


def visible_objects(name, count):
  numbers = [
    int(example["visibility"][1:].sum())
    for example in made_up_records.examples(name, count)
  ]
  return {n: numbers.count(n) for n in numbers}


@pytest.mark.parametrize("name", sorted(multi_object_specs.SPECS))
def test_knows_every_data_set(tmp_path, name):
  path = made_up_records.write(tmp_path / "file", name, 4)
  report = inspect(path)
  assert (report.dataset, report.num_records) == (name, 4)
  assert report.error is None
  shape = list(multi_object_specs.SPECS[name].features["mask"].shape)
  assert report.features["mask"] == f"uint8 {shape}"
  assert report.file_bytes == path.stat().st_size
  framed = len(gzip.decompress(path.read_bytes()))
  assert report.raw_bytes == framed - 4 * 16
  if name != "objects_room":
    assert report.num_objects == visible_objects(name, 4)
  assert (report.num_overlapping, report.num_uncovered) == (0, 0)


def test_masks_that_do_not_fit(tmp_path):
  examples = list(made_up_records.examples("tetrominoes", 5))
  examples[1]["mask"][:, 3, 4] = 0
  examples[2]["mask"][:, 3, 4] = 255
  examples[4]["mask"][:2, 30, 4] = 255
  examples[4]["mask"][2:, 30, 4] = 0
  spec = multi_object_specs.SPECS["tetrominoes"]
  example_writer.write_examples(tmp_path / "file", spec, iter(examples))
  report = inspect(tmp_path / "file")
  assert (report.num_overlapping, report.num_uncovered) == (2, 1)
  assert report.error is None


def test_table(source):
  text = inspection.format_report(inspect(source))
  lines = text.splitlines()
  assert lines[0] == str(source)
  assert lines[1:3] == ["  data set  tetrominoes", "  records   10"]
  assert "in the file and 25,944 decompressed" in lines[3]
  assert lines[-1] == "  wrong     nothing"
  assert max(map(len, lines[1:])) <= 80


def test_number_of_records_to_look_at(source):
  assert inspect(source, num_records=3).num_records == 3


def write_records(path, payloads):
  path.write_bytes(b"".join(map(record_stream.frame, payloads)))
  return path


def payloads(source):
  return [record.payload for record in record_stream.read_records(source)]


def test_uncompressed_files(tmp_path, source):
  path = write_records(tmp_path / "file", payloads(source))
  report = inspect(path)
  assert (report.dataset, report.num_records) == ("tetrominoes", 10)
  assert report.error is None


def damaged_payload(source, change):
  content = payloads(source)
  content[6] = change(content[6])
  return content


def encode_with(name, array):
  (example,) = made_up_records.examples("tetrominoes", 1)
  return wire_format.encode_example(example | {name: array})


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda payload: payload[:-9], "This is no whole tf.Example"),
    (lambda payload: b"", "its features are none instead of color"),
    (
      lambda payload: encode_with("x", np.zeros(5, np.float32)),
      "'x' is 5 elements of float32 instead of 4 of float32",
    ),
    (
      lambda payload: encode_with("x", np.zeros(4, np.uint8)),
      "'x' is 4 elements of uint8 instead of 4 of float32",
    ),
  ],
)
def test_malformed_record(tmp_path, source, change, message):
  content = damaged_payload(source, change)
  report = inspect(write_records(tmp_path / "file", content))
  assert message in report.error
  assert report.num_records == 6
  assert report.corrupt_record == 6
  assert report.corrupt_offset == 6 * (25_944 + 16)


def test_damaged_bytes(tmp_path, source):
  content = bytearray(gzip.decompress(source.read_bytes()))
  content[7 * (25_944 + 16) + 500] ^= 4
  path = tmp_path / "file"
  path.write_bytes(gzip.compress(content))
  report = inspect(path)
  assert "the checksum of its 25944 bytes is wrong" in report.error
  assert (report.corrupt_record, report.num_records) == (7, 7)
  text = " ".join(inspection.format_report(report).split())
  assert "corrupt at record 7, byte 181720 of the decompressed" in text


def test_file_that_is_cut_off(tmp_path, source):
  path = tmp_path / "file"
  path.write_bytes(source.read_bytes()[:-20])
  report = inspect(path)
  assert "Compressed file ended before" in report.error
  assert report.corrupt_record in (9, 10)


def test_no_records(tmp_path):
  (tmp_path / "file").write_bytes(b"")
  assert inspect(tmp_path / "file").error.endswith("file holds no records.")


def test_other_data_set(source):
  report = inspect(source, dataset="objects_room")
  assert "instead of image, mask" in report.error
  assert report.corrupt_record == 0


def test_unknown_features(tmp_path):
  records = [{"label": np.array([i]), "image": b"png" * i} for i in (1, 2)]
  content = [wire_format.encode_example(record) for record in records]
  report = inspect(write_records(tmp_path / "file", content))
  assert (report.dataset, report.error) == (None, None)
  assert report.features == {"image": "uint8 [3]", "label": "int64 [1]"}
  assert "unknown" in inspection.format_report(report)
  content.append(wire_format.encode_example({"label": np.array([1])}))
  report = inspect(write_records(tmp_path / "file", content))
  assert "its features are label, other than those" in report.error


def test_directories(tmp_path):
  for name in ("tetrominoes", "objects_room"):
    spec = multi_object_specs.SPECS[name]
    made_up_records.write(tmp_path / spec.file, name, 2)
  reports = list(inspection.inspect(tmp_path))
  assert [x.dataset for x in reports] == ["objects_room", "tetrominoes"]


def test_nothing_there(tmp_path):
  for path in (tmp_path, tmp_path / "missing"):
    with pytest.raises(FileNotFoundError, match="There is no TFRecord file at"):
      list(inspection.inspect(path))


def test_converted(converted_directory):
  report = inspect(converted_directory)
  assert report.is_converted and report.error is None
  assert (report.dataset, report.num_records) == ("tetrominoes", 10)
  assert report.num_objects == visible_objects("tetrominoes", 10)
  assert inspect(converted_directory, num_records=5).num_records == 5
  report = inspect(converted_directory, dataset="clevr")
  assert report.error.endswith("is of tetrominoes, not clevr.")


def test_unfinished_conversion(converted_directory):
  (converted_directory / "info.json").unlink()
  with pytest.raises(ValueError, match="has not come to its end"):
    inspect(converted_directory)


def shorter_shard(directory):
  path = directory / "tetrominoes-00001.tfrecords"
  write_records(path, payloads(path)[:3])


def swapped_shards(directory):
  paths = [directory / f"tetrominoes-0000{i}.tfrecords" for i in (0, 1)]
  first, second = (path.read_bytes() for path in paths)
  paths[0].write_bytes(second)
  paths[1].write_bytes(first)


def damaged_shard(directory):
  path = directory / "tetrominoes-00001.tfrecords"
  content = bytearray(path.read_bytes())
  content[-100] ^= 1
  path.write_bytes(content)


def another_resolution(directory):
  info = json.loads((directory / "info.json").read_text())
  text = json.dumps(info | {"resolution": [35, 34]})
  (directory / "info.json").write_text(text)


def another_label(directory):
  path = directory / "tetrominoes-00000.tfrecords"
  content = payloads(path)
  parsed = wire_format.parse_example(content[0])
  labels = parsed["segmentation"].copy()
  labels[5] = 4
  raw = {
    name: vector.tobytes() if vector.dtype == np.uint8 else vector
    for name, vector in parsed.items()
  }
  raw["segmentation"] = labels.tobytes()
  write_records(path, [wire_format.encode_example(raw), *content[1:]])


@pytest.mark.parametrize(
  "change, message, record",
  [
    (shorter_shard, "00001.* holds 3 records, but info.json says 4", None),
    (swapped_shards, r"it has num_objects=\d, but num_objects.npy says", 0),
    (damaged_shard, "00001.tfrecords is corrupt at record 3, byte", 3),
    (another_resolution, "'image': 3675.* instead of .*'image': 3570", 0),
    (another_label, "has label 4, but tetrominoes has 4 entities", 0),
  ],
)
def test_damaged_conversion(converted_directory, change, message, record):
  change(converted_directory)
  report = inspect(converted_directory)
  assert re.search(message, report.error)
  assert report.corrupt_record == record
