import numpy as np
import pytest

from slot_attention.data import clevr
from slot_attention.data.tfds import tfds_writer

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

IN_ORDER = tfds.ReadConfig(interleave_cycle_length=1)


@pytest.fixture(scope="module")
def features():
  return tfds.features.FeaturesDict(
    {"number": tfds.features.Scalar(np.int64), "text": tfds.features.Text()}
  )


def numbered(count, start=0):
  for i in range(start, start + count):
    yield {"number": i, "text": str(i)}


def load(data_dir, name, split):
  dataset = tfds.load(
    name, data_dir=str(data_dir), split=split, read_config=IN_ORDER
  )
  return list(dataset.as_numpy_iterator())


@pytest.mark.parametrize("name", ["toy/1.2.3", "toy/large/1.2.3"])
def test_stock_tfds_reads_what_is_written(tmp_path, features, name):
  path = tfds_writer.write_tfds_directory(
    tmp_path,
    name,
    features,
    {
      "train": tfds_writer.Split(23, numbered(23)),
      "test": tfds_writer.Split(5, numbered(5, start=50)),
      "none": tfds_writer.Split(0, ()),
    },
    examples_per_shard=10,
  )
  assert path == tmp_path / name
  stock = name.rsplit("/", 1)[0] + ":1.2.3"
  train = load(tmp_path, stock, "train")
  assert [x["number"] for x in train] == list(range(23))
  assert train[7]["text"] == b"7"
  assert [x["number"] for x in load(tmp_path, stock, "test")] == [
    *range(50, 55)
  ]
  info = tfds.builder_from_directory(path).info
  assert info.splits["train"].shard_lengths == [8, 8, 7]
  assert set(info.splits) == {"train", "test"}
  assert str(info.version) == "1.2.3"


def test_interrupted_writing_leaves_nothing(tmp_path, features):
  seen = []

  def interrupted():
    yield from numbered(5)
    seen.extend(path.name for path in (tmp_path / "clevr").iterdir())
    raise KeyboardInterrupt

  splits = {"train": tfds_writer.Split(9, interrupted())}
  with pytest.raises(KeyboardInterrupt):
    tfds_writer.write_tfds_directory(
      tmp_path, "clevr/3.1.0", features, splits, examples_per_shard=3
    )
  assert seen == ["incomplete.3.1.0"]
  assert not list((tmp_path / "clevr").iterdir())


def test_what_a_killed_run_leaves(tmp_path, features):
  (tmp_path / "clevr/incomplete.3.1.0").mkdir(parents=True)
  with pytest.raises(FileNotFoundError, match="but nothing is prepared there"):
    clevr.open_clevr(str(tmp_path), "train")
  # It is not overwritten, since another process may be at work there.
  splits = {"train": tfds_writer.Split(9, numbered(9))}
  with pytest.raises(FileExistsError, match=r"incomplete\.3\.1\.0 was left by"):
    tfds_writer.write_tfds_directory(tmp_path, "clevr/3.1.0", features, splits)


def test_leftovers_do_not_disturb_readers(tmp_path, features):
  (tmp_path / "toy/incomplete.1.1.0").mkdir(parents=True)
  splits = {"train": tfds_writer.Split(3, numbered(3))}
  tfds_writer.write_tfds_directory(tmp_path, "toy/1.0.0", features, splits)
  assert len(load(tmp_path, "toy:1.0.0", "train")) == 3
  assert len(load(tmp_path, "toy", "train")) == 3


@pytest.mark.parametrize(
  "count, message", [(4, "9 examples, but only 4 came"), (10, "but more came")]
)
def test_promised_number_of_examples(tmp_path, features, count, message):
  splits = {"train": tfds_writer.Split(9, numbered(count))}
  with pytest.raises(ValueError, match=message):
    tfds_writer.write_tfds_directory(tmp_path, "toy/1.0.0", features, splits)
  assert not (tmp_path / "toy/1.0.0").exists()


def test_nothing_to_write(tmp_path, features):
  with pytest.raises(ValueError, match="no example to write to"):
    tfds_writer.write_tfds_directory(tmp_path, "toy/1.0.0", features, {})


def test_existing_directory(tmp_path, features):
  target = tmp_path / "toy/1.0.0"
  target.mkdir(parents=True)
  splits = {"train": tfds_writer.Split(3, numbered(3))}
  tfds_writer.write_tfds_directory(tmp_path, "toy/1.0.0", features, splits)
  with pytest.raises(FileExistsError, match="exists and is not empty; remove"):
    tfds_writer.write_tfds_directory(tmp_path, "toy/1.0.0", features, splits)
