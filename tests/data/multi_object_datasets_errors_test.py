"""What is wrong with Multi-Object Datasets is said in one sentence."""

import gzip
import itertools
import json
import shutil

import made_up_records
import multi_object_files
import pytest

from slot_attention.data.records import record_stream

tf = pytest.importorskip("tensorflow")

SPECS, KINDS = multi_object_files.SPECS, multi_object_files.KINDS
open_split = multi_object_files.open_split


def damage(path, how):
  content = bytearray(path.read_bytes())
  if how == "cut":
    content = content[: len(content) // 2]
  elif how == "flipped":
    content[len(content) // 2] ^= 0x55
  elif how == "empty":
    content = b""
  elif how == "no gzip":
    content = gzip.decompress(content)
  elif how == "no records":
    content = gzip.compress(b"")
  elif how == "no examples":
    content = gzip.compress(record_stream.frame(b"\xff" * 9))
  path.write_bytes(content)


@pytest.mark.parametrize(
  "how, message",
  [
    ("cut", r"tetrominoes_train.tfrecords is corrupt at record \d+, .*copy"),
    ("flipped", r"tetrominoes_train.tfrecords is corrupt at record \d+"),
    ("empty", r"tetrominoes_train.tfrecords is empty; copy the file again"),
    ("no gzip", r"tetrominoes_train.tfrecords is no GZIP file"),
    ("no records", r"tetrominoes_train.tfrecords holds no records; copy"),
    ("no examples", r"does not hold tetrominoes: This is no whole tf.Exam"),
  ],
)
def test_damaged_published_file(copied, how, message):
  data_dir = copied("tetrominoes")
  damage(data_dir / SPECS["tetrominoes"].file, how)
  with pytest.raises(ValueError, match=message) as error:
    open_split("tetrominoes", data_dir)
  assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError) as error:
    open_split("clevr", tmp_path)
  message = str(error.value)
  assert f"converted data set in {tmp_path}" in message
  assert f"{tmp_path}/clevr_with_masks/clevr_with_masks_train.tfr" in message
  assert f"{tmp_path}/clevr_with_masks_train.tfrecords" in message
  assert "download https://storage.googleapis.com/multi-object-d" in message


@pytest.mark.parametrize("data_dir", ["", "gs://multi-object-datasets"])
def test_no_local_directory(data_dir):
  with pytest.raises(ValueError, match=r"data_dir is .* a local directory"):
    open_split("clevr", data_dir)


@pytest.mark.parametrize("kind", KINDS)
def test_file_of_another_set(copied, kind):
  data_dir = copied("tetrominoes", kind)
  dataset = "multi_dsprites_binarized"
  if kind == "published":
    path = data_dir / SPECS[dataset].file
    path.parent.mkdir()
    shutil.move(data_dir / SPECS["tetrominoes"].file, path)
    message = (
      r"its feature 'image' has 3675 elements of uint8, not 4096 of uint8, "
      r"\[64, 64, 1\], but tetrominoes would fit; change config.data.dataset"
    )
  else:
    message = f"{data_dir} holds tetrominoes, not {dataset}; change config"
  with pytest.raises(ValueError, match=message):
    open_split(dataset, data_dir)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
  "split, options, message",
  [
    (
      "train",
      {"split_sizes": (20, 3, 5)},
      r"holds 24 records, but config.data.split_sizes = \(20, 3, 5\) takes 28;",
    ),
    ("eval", {}, "no split 'eval'; choose one of train, train_eval, valid"),
    (
      "validation",
      {"split_sizes": (19, 0, 5)},
      r"'validation' of tetrominoes is empty by .* = \(19, 0, 5\)",
    ),
    (
      "train",
      {"max_num_objects": 0},
      r"None of the 16 records of split 'train' in .* has 0 to 0 visible obj",
    ),
    (
      "train",
      {"crop": (4, 0, 32, 35)},
      r"crop = \(4, 0, 32, 35\) .* lie within the 35x35 images of tetrominoes",
    ),
  ],
)
def test_what_cannot_be_read(
  multi_object_directory, kind, split, options, message
):
  data_dir = multi_object_directory("tetrominoes", kind)
  with pytest.raises(ValueError, match=message) as error:
    open_split("tetrominoes", data_dir, split, **options)
  assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "converted_with, view, message",
  [
    (
      {"crop": (8, 4, 48, 56)},
      {"crop": (8, 4, 48, 48)},
      r"converted with crop = \(8, 4, 48, 56\), but config.data.crop is \(8, 4",
    ),
    (
      {"crop": (8, 4, 48, 56)},
      {},
      r"converted with crop = \(8, 4, 48, 56\), but config.data.crop is \(\)",
    ),
    (
      {"resolution": (32, 32)},
      {"resolution": (48, 48)},
      r"to resolution = \(32, 32\), but config.data.resolution is \(48, 48\)",
    ),
    (
      {"resolution": (32, 32)},
      {"crop": (0, 0, 32, 32), "resolution": (32, 32)},
      r"converted with crop = \(\), but config.data.crop is \(0, 0, 32, 32\)",
    ),
  ],
)
def test_converted_in_another_way(
  multi_object_directory, converted_with, view, message
):
  data_dir = multi_object_directory(
    "objects_room", "converted", **converted_with
  )
  with pytest.raises(ValueError, match=message):
    open_split("objects_room", data_dir, **view)


def test_damaged_converted_record_is_named(copied):
  data_dir = copied("tetrominoes", "converted")
  shard = sorted(data_dir.glob("*.tfrecords"))[1]
  damage(shard, "flipped")
  source = open_split("tetrominoes", data_dir)
  with pytest.raises(ValueError, match=rf"Record 3 of {shard} cannot be read"):
    list(itertools.islice(source.train_batches(8, 0, 0, slice(0, 8)), 3))


def test_shard_with_other_records_than_described(copied):
  data_dir = copied("tetrominoes", "converted")
  info = data_dir / "info.json"
  values = json.loads(info.read_text())
  values["shards"][0]["num_records"] -= 1
  values["shards"][1]["num_records"] += 1
  info.write_text(json.dumps(values))
  with pytest.raises(
    ValueError, match=r"has 7 records, but the data set's metadata says 6;"
  ):
    open_split("tetrominoes", data_dir)


def test_record_of_another_kind_behind_the_first(copied):
  """The first records are right, a later one has another number of masks."""
  data_dir = copied("multi_dsprites_colored_on_colored")
  path = data_dir / SPECS["multi_dsprites_colored_on_colored"].file
  other = made_up_records.write(
    data_dir / "other", "multi_dsprites_colored_on_grayscale", 1
  )
  contents = [gzip.decompress(x.read_bytes()) for x in (path, other)]
  path.write_bytes(gzip.compress(b"".join(contents)))
  with pytest.raises(ValueError, match=r"Record 24 of .* 'visibility' has 6"):
    open_split(
      "multi_dsprites_colored_on_colored", data_dir, split_sizes=(25, 0, 0)
    )
