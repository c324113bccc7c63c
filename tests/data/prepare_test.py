import subprocess
import sys

import jax
import numpy as np
import pytest

from slot_attention.data import clevr
from slot_attention.data import prepare
from slot_attention.data import tfds_writer
from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_sampler

tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

SIZE = (32, 48)
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


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("generated")
  prepare.generate_clevr(
    str(data_dir),
    {"train": 4, "validation": 2},
    seed=7,
    size=SIZE,
    min_num_objects=2,
    max_num_objects=5,
  )
  return data_dir


@jax.jit
def make_again(key):
  """What the generator gives for a key, with the segmentation."""
  scene = scene_sampler.sample_scene(key, min_num_objects=2, max_num_objects=5)
  window = ray_tracer.TFDS_WINDOW
  return scene, *ray_tracer.render(scene, height=32, width=48, window=window)


def scenes_again(split_number, count):
  """The scenes, images and segmentations of a split."""
  key = jax.random.fold_in(jax.random.key(7), split_number)
  keys = [jax.random.fold_in(key, i) for i in range(count)]
  return jax.device_get([make_again(key) for key in keys])


def test_generated_scenes_are_those_of_the_generator(generated):
  examples = load(generated, "clevr:3.1.0", "validation")
  for i, (example, (scene, image, _)) in enumerate(
    zip(examples, scenes_again(1, 2), strict=True)
  ):
    # Compiled as part of another program, a pixel may be rounded otherwise.
    difference = example["image"].astype(int) - image
    assert np.abs(difference).max() <= 2
    objects = example["objects"]
    n = int(scene.num_objects)
    assert 2 <= n <= 5
    for name in ("size", "material", "shape", "color", "rotation"):
      np.testing.assert_array_equal(objects[name], getattr(scene, name)[:n])
    np.testing.assert_array_equal(objects["3d_coords"], scene.position[:n])
    assert example["file_name"] == f"CLEVR_val_{i:06d}.png".encode()
    assert not len(example["question_answer"]["question"])


def test_generated_pixel_coordinates_lie_on_the_objects(generated):
  """The rows must follow the 3:2 picture, not the generator's 4:3 view."""
  rows, columns = np.mgrid[:32, :48] + 0.5
  examples = load(generated, "clevr:3.1.0", "train")
  for example, (_, _, segmentation) in zip(
    examples, scenes_again(0, 4), strict=True
  ):
    for i, (x, y, _) in enumerate(example["objects"]["pixel_coords"]):
      inside = segmentation == i + 1
      distance = np.hypot(rows - y, columns - x)[inside]
      assert distance.min() <= 2.0


def test_our_reader_reads_generated_scenes(generated):
  source = clevr.open_clevr(
    str(generated), "train", min_num_objects=2, max_num_objects=5
  )
  assert source.num_examples == 4
  batch = next(source.train_batches(4, 0, 0, slice(None)))
  assert batch["image"].std() > 0.05
  present = batch["target"][..., -1].sum(1)
  np.testing.assert_array_equal(present, batch["num_objects"])


def test_larger_set_begins_with_the_smaller(generated, tmp_path):
  prepare.generate_clevr(
    str(tmp_path),
    {"train": 2},
    seed=7,
    size=SIZE,
    min_num_objects=2,
    max_num_objects=5,
  )
  small = load(tmp_path, "clevr:3.1.0", "train")
  large = load(generated, "clevr:3.1.0", "train")[:2]
  jax.tree.map(np.testing.assert_array_equal, small, large)
  assert not np.array_equal(small[0]["image"], small[1]["image"])


def test_window_of_published_images():
  np.testing.assert_allclose(
    prepare.view_window((320, 480)), ray_tracer.TFDS_WINDOW
  )
  assert prepare.view_window((240, 320)) == (0, 0, 240, 320)
  assert prepare.view_window((480, 640)) == (0, 0, 240, 320)


def test_pixels_of_published_images():
  # Centre and corners of what a 320x480 image shows of the 240x320 view.
  view = [[160, 120, 9.5], [0, 40 / 3, 10.0], [320, 240 - 40 / 3, 11.0]]
  pixels = prepare.to_image_pixels(np.array(view, np.float32), (320, 480))
  np.testing.assert_array_equal(
    pixels, np.array([[240, 160, 9.5], [0, 0, 10], [480, 320, 11]], np.float32)
  )


@pytest.mark.parametrize("limits", [(0, 3), (5, 4), (3, 40)])
def test_impossible_numbers_of_objects(tmp_path, limits):
  with pytest.raises(ValueError, match=f"max_num_objects={limits[1]}"):
    prepare.generate_clevr(
      str(tmp_path),
      {"train": 1},
      min_num_objects=limits[0],
      max_num_objects=limits[1],
    )
  assert not list(tmp_path.iterdir())


def run(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "slot_attention.data.prepare", *arguments],
    capture_output=True,
    text=True,
    check=False,
  )


def test_command_line(tmp_path):
  arguments = [
    "generate",
    "--dataset=clevr",
    f"--output={tmp_path}",
    "--num_train=3",
    "--num_validation=1",
    "--height=16",
    "--width=24",
    "--max_num_objects=4",
  ]
  process = run(*arguments)
  assert process.returncode == 0, process.stderr
  assert "4 of 4 examples written" in process.stderr
  assert len(load(tmp_path, "clevr:3.1.0", "train")) == 3
  assert len(load(tmp_path, "clevr:3.1.0", "validation")) == 1
  again = run(*arguments)
  assert again.returncode == 1
  last_line = again.stderr.strip().splitlines()[-1]
  assert last_line.endswith(
    f"] {tmp_path}/clevr/3.1.0 exists and is not empty; remove it or choose "
    "another directory."
  )


def test_unknown_subcommand(tmp_path):
  process = run("genrate", f"--output={tmp_path}")
  assert process.returncode == 1
  assert process.stderr.strip().endswith(
    "Give one of the subcommands generate, not genrate."
  )
