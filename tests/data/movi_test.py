import itertools
import pathlib
import shutil

import contract
from etils.epath import backend
from etils.epath import gpath
from etils.epath import register
import movi_files
import numpy as np
import pytest

from slot_attention.data import movi

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

ALL = slice(None)
NUM_FRAMES = movi_files.NUM_FRAMES


def open_movi(data_dir, split="train", **arguments):
  defaults = {
    "dataset": "movi_c",
    "view": movi.View(movi_files.SIZE),
    "tfds_config": movi_files.CONFIG,
  }
  return contract.Widened(
    movi.open_movi(
      data_dir=str(data_dir), split=split, **(defaults | arguments)
    )
  )


def take(batches, count):
  return list(itertools.islice(batches, count))


def same(a, b):
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name])


def to_uint8(image):
  return np.rint((image + 1) * 127.5).astype(np.uint8)


def stored_frames(directory, split):
  """All frames as the stock reader gives them: by their first bytes."""
  dataset = tfds.load(
    f"movi_c/{movi_files.CONFIG}", data_dir=str(directory), split=split
  )
  frames = {}
  for video in dataset.as_numpy_iterator():
    for i in range(NUM_FRAMES):
      frames[video["video"][i].tobytes()] = (
        video["segmentations"][i, ..., 0],
        video["metadata"]["num_instances"],
      )
  return frames


@pytest.mark.parametrize("split", ["train", "validation"])
def test_same_frames_as_the_stock_reader(movi_directory, split):
  frames = stored_frames(movi_directory.data_dir, split)
  source = open_movi(movi_directory.data_dir, split)
  assert source.num_examples == len(frames)
  seen = []
  for batch in source.eval_batches(8, ALL):
    for i in np.flatnonzero(batch["valid"]):
      seen.append(to_uint8(batch["image"][i]).tobytes())
      masks, count = frames[seen[-1]]
      np.testing.assert_array_equal(batch["segmentation"][i], masks)
      assert batch["num_objects"][i] == count
  assert sorted(seen) == sorted(frames)
  assert batch["image"].dtype == np.float32
  assert batch["segmentation"].dtype == batch["num_objects"].dtype == np.int32


def test_an_epoch_shows_every_frame_once(movi_directory):
  source = open_movi(movi_directory.data_dir)
  count = source.num_examples
  batches = take(source.train_batches(10, 3, 0, ALL), count // 10)
  seen = {x.tobytes() for batch in batches for x in batch["image"]}
  assert len(seen) == count == 6 * NUM_FRAMES


def test_training_resumes_and_hosts_share_batches(movi_directory):
  source = open_movi(movi_directory.data_dir)
  whole = take(source.train_batches(8, 1, 0, ALL), 6)
  same(take(source.train_batches(8, 1, 5, ALL), 1)[0], whole[5])
  for rows in (slice(0, 4), slice(4, 8)):
    (part,) = take(source.train_batches(8, 1, 5, rows), 1)
    same(part, {name: x[rows] for name, x in whole[5].items()})
  other = next(source.train_batches(8, 2, 5, ALL))
  assert not np.array_equal(other["image"], whole[5]["image"])


def test_number_of_objects(movi_directory):
  source = open_movi(
    movi_directory.data_dir, min_num_objects=4, max_num_objects=6
  )
  (batch,) = source.eval_batches(16, ALL)
  counts = batch["num_objects"][batch["valid"]]
  assert sorted(counts) == np.repeat([4, 5, 6], NUM_FRAMES).tolist()
  with pytest.raises(
    ValueError, match=r"None of the 6 .* \(they have 3 to 8\)"
  ):
    open_movi(movi_directory.data_dir, min_num_objects=20)


def test_evaluation_spreads_over_videos():
  instances = np.arange(3, 103)
  frames = movi.select_frames(instances, 24, "test", (0, 1000), "here")
  assert sorted(frames) == list(range(2_400))
  assert len(np.unique(frames[:100] // 24)) > 60
  assert len(np.unique(frames[:100] % 24)) == 24
  train = movi.select_frames(instances, 24, "train", (0, 1000), "here")
  assert train.tolist() == list(range(2_400))
  few = movi.select_frames(instances, 24, "train_eval", (0, 1000), "here")
  assert sorted(few) == list(range(320))


@pytest.mark.parametrize("size", [1, 2, 3, 24, 1000, 1280, 23_976])
def test_spread_orders_are_permutations(size):
  order = movi.spread_order(size)
  np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_views(movi_directory):
  whole = next(open_movi(movi_directory.data_dir).eval_batches(4, ALL))
  view = movi.View((4, 6), crop=(2, 3, 8, 12), interpolation="nearest")
  source = open_movi(movi_directory.data_dir, view=view)
  batch = next(source.eval_batches(4, ALL))
  for name in ("image", "segmentation"):
    np.testing.assert_array_equal(
      batch[name], whole[name][:, 2:10:2, 3:15:2], err_msg=name
    )


@pytest.mark.parametrize(
  "arguments, error, message",
  [
    (
      {"tfds_config": "128x128"},
      FileNotFoundError,
      r"movi_c/128x128:1\.0\.0 was looked for in .*, but only 16x16/1\.0\.0 is "
      r"prepared there; .* `gsutil .* --dataset=movi_c_procedural`\.",
    ),
    ({"dataset": "movi_d"}, FileNotFoundError, "but nothing is prepared there"),
    ({"split": "dev"}, ValueError, "no split 'dev'; choose one of train, "),
  ],
)
def test_what_is_not_there(movi_directory, arguments, error, message):
  with pytest.raises(error, match=message):
    open_movi(movi_directory.data_dir, **arguments)


@pytest.fixture
def bucket(movi_directory, monkeypatch):
  """A copy of the data set in tensorflow's memory, in place of a bucket."""
  monkeypatch.setattr(gpath, "_URI_PREFIXES", ("ram://",))
  monkeypatch.setattr(gpath, "_URI_SCHEMES", frozenset({"ram"}))
  monkeypatch.setitem(gpath._URI_MAP_ROOT, "ram://", "/ram/")
  monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "ram", backend.tf_backend)
  paths = register._URI_PREFIXES_TO_CLS
  monkeypatch.setitem(paths, "ram://", gpath.PosixGPath)
  root = pathlib.Path(movi_directory.data_dir)
  for path in root.rglob("*"):
    if path.is_file():
      name = f"ram://bucket/{path.relative_to(root)}"
      tf.io.gfile.makedirs(name.rpartition("/")[0])
      tf.io.gfile.copy(str(path), name, overwrite=True)
  return "ram://bucket"


def test_a_bucket_gives_the_same_batches(movi_directory, bucket):
  sources = open_movi(movi_directory.data_dir), open_movi(bucket)
  batches = [take(x.train_batches(5, 7, 2, ALL), 6) for x in sources]
  for local, remote in zip(*batches, strict=True):
    same(local, remote)


def test_what_is_not_in_a_bucket(bucket):
  with pytest.raises(FileNotFoundError, match="ram://bucket/movi_d/16x16"):
    open_movi(bucket, dataset="movi_d")


@pytest.fixture
def copy(movi_directory, tmp_path):
  shutil.copytree(movi_directory.data_dir, tmp_path, dirs_exist_ok=True)
  return tmp_path


def shard(copy):
  (path,) = (copy / "movi_c/16x16/1.0.0").glob("*validation*")
  return path


def test_another_version(copy):
  (copy / "movi_c/16x16/1.0.0").rename(copy / "movi_c/16x16/1.1.0")
  with pytest.raises(FileNotFoundError, match=r"but only 16x16/1\.1\.0 is"):
    open_movi(copy)


def test_another_data_set(copy):
  (copy / "movi_c").rename(copy / "movi_d")
  with pytest.raises(
    ValueError,
    match=r"holds movi_c:1\.0\.0 by its .* instead of movi_d:1\.0\.0",
  ):
    open_movi(copy, dataset="movi_d")


def test_truncated_shards(copy):
  content = shard(copy).read_bytes()
  shard(copy).write_bytes(content[:-100])
  with pytest.raises(ValueError, match="is cut off: it ends at byte"):
    open_movi(copy, "validation")


def test_damaged_frames(copy):
  """Nothing verifies a record's checksum, but the frame's own."""
  source = open_movi(copy, "validation")
  source.index.read(0)
  start, length = source.index._frames[0, 0][0].tolist()
  content = bytearray(shard(copy).read_bytes())
  content[start + length // 2] ^= 0xFF
  shard(copy).write_bytes(content)
  with pytest.raises(ValueError, match=r"Record 0 of .* cannot be decoded"):
    list(source.eval_batches(8, ALL))


def test_directories_of_other_data(clevr_directory, tmp_path):
  target = tmp_path / "movi_c/16x16/1.0.0"
  shutil.copytree(clevr_directory.path, target)
  with pytest.raises(ValueError, match=r"holds clevr:3\.1\.0 by its"):
    open_movi(tmp_path)
