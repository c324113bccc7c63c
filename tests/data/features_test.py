import collections
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import contract
import movi_files
import numpy as np
import pytest

from slot_attention import configuration
from slot_attention.data import feature_identity
from slot_attention.data import feature_writer
from slot_attention.data import features
from slot_attention.data import movi
from slot_attention.data.records import record_index
from slot_attention.data.records import wire_format

tf = pytest.importorskip("tensorflow")

ALL = slice(None)
Usage = collections.namedtuple("Usage", "total used free")


def extract(images):
  """A stand-in for a transformer: [b, 16, 16, 3] -> [b, 16, 12]."""
  b = len(images)
  patches = images.reshape(b, 4, 4, 4, 4, 3).mean(axis=(2, 4))
  powers = np.stack([patches**k for k in (1, 2, 3, 4)], axis=-1)
  return powers.reshape(b, 16, 12).astype(np.float16)


def get_config(data_dir, features_dir="", weights=""):
  config = configuration.get_dinosaur()
  config.data.source, config.data.dataset = "movi", "movi_c"
  config.data.data_dir = str(data_dir)
  config.data.tfds_config = movi_files.CONFIG
  config.data.resolution = movi_files.SIZE
  config.data.features = "precomputed"
  config.data.features_dir = str(features_dir)
  config.model.vit.weights = str(weights)
  return config


def create_job(config, split="train", **arguments):
  data = config.data
  reader = movi.open_movi(
    data.dataset,
    data.data_dir,
    split,
    movi.View(data.resolution),
    data.tfds_config,
    data.min_num_objects,
    data.max_num_objects,
  )
  return feature_writer.Job(
    reader,
    extract,
    feature_identity.describe_data(data),
    feature_identity.describe_vit(config.model.vit),
    split,
    **({"batch_size": 4, "records_per_shard": 7} | arguments),
  )


@pytest.fixture(scope="session")
def written(movi_directory, tmp_path_factory):
  """Features of two splits, and the config that reads them."""
  root = tmp_path_factory.mktemp("features")
  (root / "vit.safetensors").write_bytes(b"weights")
  weights = root / "vit.safetensors"
  config = get_config(movi_directory.data_dir, root, weights)
  for split in ("train", "validation"):
    feature_writer.write_features(create_job(config, split), root / split)
  return config


@pytest.fixture
def copy(written, tmp_path):
  shutil.copytree(written.data.features_dir, tmp_path, dirs_exist_ok=True)
  config = configuration.from_json(configuration.to_json(written))
  config.data.features_dir = str(tmp_path)
  return config


def open_features(config, split="train"):
  return contract.Widened(
    features.open_features(config.data, split, config.model.vit)
  )


def examples(source):
  for batch in source.eval_batches(8, ALL):
    for i in np.flatnonzero(batch["valid"]):
      yield {name: x[i] for name, x in batch.items()}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_frame_has_its_features_once(written, split):
  images = contract.Widened(create_job(written, split).reader)
  stored = list(examples(open_features(written, split)))
  assert len(stored) == images.num_examples
  for example, found in zip(examples(images), stored, strict=True):
    expected = extract(example["image"][None])[0]
    assert found["features"].dtype == np.float16
    np.testing.assert_array_equal(found["features"], expected)
    np.testing.assert_array_equal(
      found["segmentation"], example["segmentation"]
    )
    assert found["segmentation"].dtype == np.int32
    assert found["num_objects"] == example["num_objects"]
    if split == "train":
      assert "image" not in found
    else:
      np.testing.assert_array_equal(found["image"], example["image"])


def test_training_batches(written):
  source = open_features(written)
  batches = source.train_batches(6, 0, 2, slice(0, 3))
  batch = next(batches)
  assert batch["features"].shape == (3, 16, 12)
  assert set(batch) == {"features", "segmentation", "num_objects"}


def test_fewer_objects(written, copy):
  copy.data.max_num_objects = 4
  source = open_features(copy)
  counts = [x["num_objects"] for x in examples(source)]
  assert sorted(counts) == [3] * 5 + [4] * 5
  copy.data.max_num_objects = 12
  with pytest.raises(ValueError, match="with 0 to 10 objects, but 0 to 12 are"):
    open_features(copy)
  copy.data.min_num_objects = copy.data.max_num_objects = 10
  with pytest.raises(ValueError, match="None of the 30 records in"):
    open_features(copy)


def contents(directory):
  return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_hosts_share_the_work(movi_directory, written, tmp_path):
  job = create_job(written)
  for host in (1, 0):
    assert features.read_info(tmp_path) is None
    feature_writer.write_features(job, tmp_path, host, num_hosts=2)
    if host == 1:
      shards = sorted(path.name for path in tmp_path.glob("*.tfrecords"))
      assert shards == ["train-00001.tfrecords", "train-00003.tfrecords"]
  whole = os.path.join(written.data.features_dir, "train")
  assert contents(tmp_path) == contents(tmp_path.__class__(whole))


SLOW = """
import sys, time
sys.path[:0] = sys.argv[1:3]
import features_test
from slot_attention.data import feature_writer
def slow(images):
  time.sleep(0.15)
  return features_test.extract(images)
config = features_test.get_config(sys.argv[3], weights=sys.argv[5])
job = features_test.create_job(config)
object.__setattr__(job, "extract", slow)
print("ready", flush=True)
feature_writer.write_features(job, sys.argv[4])
"""


@pytest.mark.slow
def test_killed_runs_go_on(movi_directory, written, tmp_path):
  """The result is that of a run that nobody killed, byte for byte."""
  here = os.path.dirname(__file__)
  command = [sys.executable, "-c", SLOW, here, os.path.join(here, "../oracles")]
  command += [str(movi_directory.data_dir), str(tmp_path)]
  command += [written.model.vit.weights]
  kept = []
  for wanted in (1, 3):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    while len(list(tmp_path.glob("*.tfrecords"))) < wanted:
      assert process.poll() is None
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept.append({x.name: x.stat().st_mtime_ns for x in shards(tmp_path)})
    with pytest.raises(FileNotFoundError, match="is not finished; run the sam"):
      config = get_config("", tmp_path.parent)
      features.open_features(config.data, tmp_path.name, config.model.vit)
  feature_writer.write_features(create_job(written), tmp_path)
  now = {x.name: x.stat().st_mtime_ns for x in shards(tmp_path)}
  for earlier in kept:
    assert earlier.items() <= now.items()  # No shard was written again.
  assert contents(tmp_path) == contents(
    tmp_path.__class__(written.data.features_dir) / "train"
  )


def shards(directory):
  names = directory.glob("train-*.tfrecords")
  return [path for path in names if "incomplete" not in path.name]


def test_what_it_says_before_it_starts(written, tmp_path, caplog, monkeypatch):
  caplog.set_level("INFO")
  monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, 9_000))
  with pytest.raises(OSError, match=r"GiB for 30 images, but only 0.00 GiB"):
    feature_writer.write_features(create_job(written), tmp_path)
  assert "30 of 30 images of split train are missing, 0.00 GiB" in caplog.text
  assert "(16x12); this host computes 30 of them in about" in caplog.text
  assert not shards(tmp_path)


def test_other_arguments(written, copy, tmp_path):
  job = create_job(written, records_per_shard=8)
  with pytest.raises(
    ValueError, match="with records_per_shard=7, which is now"
  ):
    feature_writer.write_features(job, tmp_path / "train")


def test_infinite_features(written, tmp_path):
  job = create_job(written)
  job = dataclasses.replace(
    job, extract=lambda x: extract(x) + np.float16("inf")
  )
  with pytest.raises(ValueError, match="Features became infinite or"):
    feature_writer.write_features(job, tmp_path)


def set_info(config, **values):
  path = os.path.join(config.data.features_dir, "train/info.json")
  with open(path, encoding="utf-8") as file:
    info = json.load(file)
  with open(path, "w", encoding="utf-8") as file:
    json.dump(info | values, file)


def change_weights(config):
  path = config.data.features_dir + "/other.safetensors"
  with open(path, "wb") as file:
    file.write(b"others")
  config.model.vit.weights = path


def cut_shard(config):
  path = os.path.join(config.data.features_dir, "train/train-00002.tfrecords")
  os.truncate(path, 500)


@pytest.mark.parametrize(
  "change, error, message",
  [
    (change_weights, ValueError, "of the weights .*vit.safe.*, but config.mod"),
    (
      lambda config: config.model.vit.update(final_norm=False),
      ValueError,
      r"with final_norm=True, but config\.model\.vit\.final_norm is False;",
    ),
    (
      lambda config: config.model.vit.update(init="random"),
      ValueError,
      r"but config\.model\.vit names {'seed': 0}; change it, or write",
    ),
    (
      lambda config: config.data.update(dataset="movi_d"),
      ValueError,
      r"with dataset=movi_c, but config\.data\.dataset is movi_d; change it",
    ),
    (
      lambda config: config.data.update(resolution=(32, 32)),
      ValueError,
      r"with resolution=\[16, 16\], but config\.data\.resolution is \[32, 32\]",
    ),
    (
      lambda config: config.data.update(features_dir="/nowhere"),
      FileNotFoundError,
      "There are no features in /nowhere/train; write them with `python",
    ),
    (
      lambda config: config.data.update(features_dir=""),
      ValueError,
      "features_dir is ''; it must be a local directory of features",
    ),
    (
      lambda config: set_info(config, format_version=2),
      ValueError,
      "version 2",
    ),
    (
      lambda config: set_info(config, tokens=3),
      ValueError,
      "does not describe",
    ),
    (
      lambda config: set_info(config, split="test"),
      ValueError,
      "holds features of split 'test'; give the directory",
    ),
    (cut_shard, ValueError, "00002.tfrecords is cut off: it ends at byte 500"),
    (
      lambda config: os.remove(
        config.data.features_dir + "/train/train-00001.tfrecords"
      ),
      FileNotFoundError,
      "train-00001.tfrecords is missing; copy the file again",
    ),
  ],
)
def test_what_does_not_fit(copy, change, error, message):
  open_features(copy)
  change(copy)
  with pytest.raises(error, match=message) as info:
    open_features(copy)
  assert "\n" not in str(info.value)


def test_weights_may_be_missing(copy):
  copy.model.vit.weights = ""
  open_features(copy)


def test_records_say_what_they_are(written):
  path = os.path.join(written.data.features_dir, "train/train-00000.tfrecords")
  index = record_index.RecordIndex.build([path], [7])
  record = wire_format.parse_example(index.read(0))
  assert set(record) == {"features", "num_objects", "segmentation"}
  assert record["features"].size == 2 * 16 * 12
