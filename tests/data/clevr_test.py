import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest

from slot_attention.data import clevr
from slot_attention.data import preprocess
from slot_attention.data.tfds import tfds_writer

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

HEIGHT, WIDTH = 24, 36  # Of the stored images; see clevr_files.py.
ALL_ROWS = slice(0, None)


def open_split(directory, split, **kwargs):
  kwargs = {"resolution": (HEIGHT, WIDTH)} | kwargs
  return clevr.open_clevr(directory.data_dir, split, **kwargs)


def numbers(batch):
  """The numbers that the first pixels hold."""
  pixels = (batch["image"][:, 0, 0, 0] / 2 + 0.5) * 255
  return np.round(pixels).astype(int).tolist()


def take(batches, count):
  return list(itertools.islice(batches, count))


def expected_target(example, num_targets):
  rows = np.zeros((num_targets, 19), np.float32)
  for row, o in zip(rows, example["objects"], strict=False):
    row[:3] = (o["3d_coords"] + 3) / 6
    row[3 + o["size"]] = row[5 + o["material"]] = row[7 + o["shape"]] = 1
    row[10 + o["color"]] = row[18] = 1
  return rows


@pytest.mark.parametrize(
  "split, tfds_split, part",
  [
    ("train", "train", slice(4, None)),
    ("train_eval", "train", slice(0, 4)),
    ("validation", "validation", slice(None)),
  ],
)
def test_content_is_what_was_written(clevr_directory, split, tfds_split, part):
  source = open_split(clevr_directory, split, num_targets=12)
  examples = clevr_directory.examples[tfds_split][part]
  assert source.num_examples == len(examples)
  (batch,) = source.eval_batches(len(examples), ALL_ROWS)
  for i, example in enumerate(examples):
    np.testing.assert_allclose(
      batch["image"][i], example["image"] / 127.5 - 1.0, rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
      batch["target"][i], expected_target(example, 12), rtol=0, atol=1e-6
    )
    assert batch["num_objects"][i] == len(example["objects"])
  assert batch["valid"].all()
  assert {k: v.dtype.name for k, v in batch.items()} == {
    "image": "float32",
    "target": "float32",
    "num_objects": "int32",
    "valid": "bool",
  }


def test_values_are_those_of_stock_tfds(clevr_directory):
  dataset = tfds.load(
    "clevr:3.1.0",
    data_dir=clevr_directory.data_dir,
    split="validation",
    read_config=tfds.ReadConfig(interleave_cycle_length=1),
  )
  crop, resolution = (3, 5, 16, 16), (8, 12)
  dataset = dataset.map(
    lambda x: preprocess.preprocess_clevr(x, resolution, crop)
  )
  source = open_split(
    clevr_directory, "validation", resolution=resolution, crop=crop
  )
  batches = source.eval_batches(1, ALL_ROWS)
  for expected, batch in zip(dataset.as_numpy_iterator(), batches, strict=True):
    for key, value in expected.items():
      np.testing.assert_array_equal(batch[key][0], value)


def test_nearest_pixels_instead_of_interpolation(clevr_directory):
  source = open_split(
    clevr_directory, "validation", resolution=(8, 9), interpolation="nearest"
  )
  batch = next(source.eval_batches(1, ALL_ROWS))
  image = clevr_directory.examples["validation"][0]["image"][::3, ::4]
  np.testing.assert_allclose(
    batch["image"][0], image / 127.5 - 1.0, rtol=0, atol=1e-6
  )


def test_splits_have_nothing_in_common(clevr_directory):
  seen = {
    split: numbers(
      next(open_split(clevr_directory, split).eval_batches(100, ALL_ROWS))
    )[: open_split(clevr_directory, split).num_examples]
    for split in clevr.SPLITS
  }
  assert sorted(itertools.chain(*seen.values())) == [
    *range(40),
    *range(100, 111),
  ]
  assert seen["train_eval"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
  "size, num_train_eval",
  [(70_000, 512), (5_120, 512), (512, 51), (40, 4), (9, 0)],
)
def test_size_of_train_eval(size, num_train_eval):
  train_eval = clevr.split_records("train_eval", size)
  train = clevr.split_records("train", size)
  assert len(train_eval) == num_train_eval
  assert [*train_eval, *train] == list(range(size))


def test_order_is_a_function_of_seed_and_step(clevr_directory):
  source = open_split(clevr_directory, "train")
  whole = take(source.train_batches(8, 5, 0, ALL_ROWS), 9)
  again = take(source.train_batches(8, 5, 6, ALL_ROWS), 3)
  for skipped, started in zip(whole[6:], again, strict=True):
    assert set(skipped) == set(started)
    for key in skipped:
      np.testing.assert_array_equal(skipped[key], started[key])


def test_every_epoch_visits_every_example_once(clevr_directory):
  source = open_split(clevr_directory, "train")
  # 27 batches of 8 are 6 epochs of 36; batches reach into the next epoch.
  batches = take(source.train_batches(8, 0, 0, ALL_ROWS), 27)
  stream = list(itertools.chain(*map(numbers, batches)))
  epochs = [tuple(stream[i : i + 36]) for i in range(0, len(stream), 36)]
  assert len(epochs) == 6
  assert all(sorted(epoch) == list(range(4, 40)) for epoch in epochs)
  assert len(set(epochs)) == 6


def test_seeds_give_different_orders(clevr_directory):
  source = open_split(clevr_directory, "train")
  first = [
    tuple(numbers(next(source.train_batches(36, seed, 0, ALL_ROWS))))
    for seed in range(4)
  ]
  assert len(set(first)) == 4


def test_start_far_into_the_run(clevr_directory):
  source = open_split(clevr_directory, "train")
  batch = next(source.train_batches(36, 0, 10_000_000_000, ALL_ROWS))
  assert sorted(numbers(batch)) == list(range(4, 40))


@pytest.mark.parametrize("parts", [2, 4])
def test_hosts_read_their_rows_of_the_same_batches(clevr_directory, parts):
  source = open_split(clevr_directory, "train")
  whole = take(source.train_batches(8, 3, 2, ALL_ROWS), 5)
  size = 8 // parts
  hosts = [
    take(source.train_batches(8, 3, 2, slice(i * size, (i + 1) * size)), 5)
    for i in range(parts)
  ]
  for batch, *pieces in zip(whole, *hosts, strict=True):
    for key, value in batch.items():
      np.testing.assert_array_equal(
        value, np.concatenate([piece[key] for piece in pieces])
      )


@pytest.mark.parametrize("num_examples", [None, 5, 8, 1])
def test_evaluation_is_padded_alike_on_all_hosts(clevr_directory, num_examples):
  source = open_split(clevr_directory, "validation")
  total = num_examples or 11
  hosts = [
    list(source.eval_batches(4, slice(start, start + 2), num_examples))
    for start in (0, 2)
  ]
  batches = [
    {key: np.concatenate([a[key], b[key]]) for key in a}
    for a, b in zip(*hosts, strict=True)
  ]
  assert len(batches) == -(-total // 4)
  valid = np.concatenate([batch["valid"] for batch in batches])
  assert valid.tolist() == [True] * total + [False] * (-total % 4)
  assert [
    number
    for batch in batches
    for number, is_valid in zip(numbers(batch), batch["valid"], strict=True)
    if is_valid
  ] == list(range(100, 100 + total))
  assert not batches[-1]["image"][~batches[-1]["valid"]].any()
  assert not batches[-1]["target"][~batches[-1]["valid"]].any()


@pytest.mark.parametrize("num_examples", [0, 12])
def test_more_evaluation_than_there_is(clevr_directory, num_examples):
  source = open_split(clevr_directory, "validation")
  with pytest.raises(ValueError, match=rf"{num_examples} examples .* has 11;"):
    next(source.eval_batches(4, ALL_ROWS, num_examples))


def test_filter_by_number_of_objects(clevr_directory):
  source = open_split(
    clevr_directory, "train", min_num_objects=4, max_num_objects=6
  )
  expected = [i for i in range(4, 40) if 4 <= 3 + i % 8 <= 6]
  assert source.num_examples == len(expected)
  (batch,) = source.eval_batches(len(expected), ALL_ROWS)
  assert numbers(batch) == expected
  (shuffled,) = take(source.train_batches(len(expected), 0, 0, ALL_ROWS), 1)
  assert sorted(numbers(shuffled)) == expected


def test_filter_that_keeps_nothing(clevr_directory):
  with pytest.raises(ValueError, match="None of the 36 examples of split 'tra"):
    open_split(clevr_directory, "train", min_num_objects=0, max_num_objects=2)


def test_only_published_data_is_known_without_reading_it(
  clevr_directory, monkeypatch
):
  counted = []
  count = clevr._count_objects

  def spy(*arguments):
    counted.append(True)
    return count(*arguments)

  monkeypatch.setattr(clevr, "_count_objects", spy)
  open_split(clevr_directory, "train")
  assert len(counted) == 1
  sizes = {"train": 40, "validation": 11}
  monkeypatch.setattr(clevr, "_PUBLISHED_SIZES", sizes)
  assert open_split(clevr_directory, "train").num_examples == 36
  assert len(counted) == 1
  open_split(clevr_directory, "train", max_num_objects=9)
  assert len(counted) == 2


def test_targets_with_too_few_rows(clevr_directory):
  with pytest.raises(
    ValueError, match=r"up to 10 objects do not fit .* 6 rows"
  ):
    open_split(clevr_directory, "train", num_targets=6)


def test_unknown_split(clevr_directory):
  with pytest.raises(ValueError, match="'test'; choose one of train, train_ev"):
    open_split(clevr_directory, "test")


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_missing_data(tmp_path, monkeypatch, how):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "environment"))
  data_dir = str(tmp_path / "argument") if how == "argument" else None
  with pytest.raises(FileNotFoundError) as error:
    clevr.open_clevr(data_dir, "train")
  message = str(error.value)
  assert f"{tmp_path / how}/clevr/3.1.0, but nothing is prepared" in message
  assert "--config.data.download=True (a download of 17.7 GB)" in message
  assert "--config.data.source=procedural" in message


def test_data_directory_from_the_environment(clevr_directory, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", clevr_directory.data_dir)
  assert clevr.open_clevr(None, "validation").num_examples == 11


def test_other_version(clevr_directory, tmp_path):
  shutil.copytree(clevr_directory.path, tmp_path / "clevr/3.0.0")
  with pytest.raises(
    FileNotFoundError, match=r"but only version 3.0.0 is prep"
  ):
    clevr.open_clevr(str(tmp_path), "train")


def test_downloads_only_when_told(clevr_directory, tmp_path, monkeypatch):
  calls = []

  def prepare(builder):
    calls.append(builder.data_dir)
    shutil.copytree(clevr_directory.path, builder.data_dir)
    builder.info.read_from_directory(builder.data_dir)

  monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", prepare)
  with pytest.raises(FileNotFoundError):
    clevr.open_clevr(str(tmp_path), "validation", download=False)
  assert not calls
  for _ in range(2):
    source = clevr.open_clevr(str(tmp_path), "validation", download=True)
    assert source.num_examples == 11
  assert calls == [str(tmp_path / "clevr/3.1.0")]


@pytest.fixture
def copied_directory(clevr_directory, tmp_path):
  """A copy that a test may damage, and its first training file."""
  path = tmp_path / "clevr/3.1.0"
  shutil.copytree(clevr_directory.path, path)
  return str(tmp_path), path / "clevr-train.tfrecord-00000-of-00003"


def test_truncated_file(copied_directory):
  data_dir, path = copied_directory
  path.write_bytes(path.read_bytes()[:-10])
  with pytest.raises(
    ValueError, match=r"00000-of-00003 is cut off: .* record 13"
  ):
    clevr.open_clevr(data_dir, "train")


def test_file_with_fewer_records_than_the_metadata_says(copied_directory):
  data_dir, path = copied_directory
  shutil.copy(path.with_name("clevr-train.tfrecord-00001-of-00003"), path)
  with pytest.raises(
    ValueError, match=r"00000-of-00003 has 13 records, .* 14;"
  ):
    clevr.open_clevr(data_dir, "train")


@pytest.mark.parametrize("kind", ["train", "eval"])
def test_corrupt_image_is_named(copied_directory, kind):
  data_dir, path = copied_directory
  source = clevr.open_clevr(data_dir, "train")
  content = bytearray(path.read_bytes())
  start = source.index.offsets[7]
  image = content.index(b"\x89PNG", start)
  content[image + 200] ^= 0xFF  # Somewhere in the pixels.
  path.write_bytes(content)
  if kind == "train":
    batches = source.train_batches(6, 0, 0, ALL_ROWS)
  else:
    batches = source.eval_batches(6, ALL_ROWS)
  with pytest.raises(ValueError, match=r"Record 7 of .*-00000-of-00003 cannot"):
    take(batches, 6)


def test_set_too_small_for_train_eval(clevr_directory, tmp_path):
  examples = clevr_directory.examples["train"][:9]
  tfds_writer.write_tfds_directory(
    tmp_path,
    "clevr/3.1.0",
    tfds.builder("clevr:3.1.0", data_dir="/nonexistent").info.features,
    {"train": tfds_writer.Split(9, examples)},
  )
  with pytest.raises(
    ValueError, match=r"'train_eval' of .* which has 9 exampl"
  ):
    clevr.open_clevr(str(tmp_path), "train_eval")
  with pytest.raises(ValueError, match="no split 'validation', only train;"):
    clevr.open_clevr(str(tmp_path), "validation")


def test_imports_without_tensorflow(tmp_path):
  program = f"""
import sys
sys.modules["tensorflow"] = sys.modules["tensorflow_datasets"] = None
from slot_attention.data import clevr, multi_object_datasets, prepare, stored
from slot_attention.data.official import official_reader
from slot_attention.data.records import file_access, gzip_index, record_source
from slot_attention.data.tfds import frame_index, tfds_writer
try:
  clevr.open_clevr({str(tmp_path)!r}, "train")
except ImportError as error:
  assert "pip install tensorflow" in str(error), error
else:
  raise AssertionError("opened without tensorflow")
"""
  subprocess.run([sys.executable, "-c", program], check=True)
