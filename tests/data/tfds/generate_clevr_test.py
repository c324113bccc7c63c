import jax
import numpy as np
import pytest

from slot_attention.data import clevr
from slot_attention.data.procedural import ray_tracer
from slot_attention.data.procedural import scene_sampler
from slot_attention.data.tfds import generate_clevr

tfds = pytest.importorskip("tensorflow_datasets")

SIZE = (32, 48)
IN_ORDER = tfds.ReadConfig(interleave_cycle_length=1)


def load(data_dir, name, split):
  dataset = tfds.load(
    name, data_dir=str(data_dir), split=split, read_config=IN_ORDER
  )
  return list(dataset.as_numpy_iterator())


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("generated")
  generate_clevr.generate(
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
  generate_clevr.generate(
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
    generate_clevr.view_window((320, 480)), ray_tracer.TFDS_WINDOW
  )
  assert generate_clevr.view_window((240, 320)) == (0, 0, 240, 320)
  assert generate_clevr.view_window((480, 640)) == (0, 0, 240, 320)


def test_pixels_of_published_images():
  # Centre and corners of what a 320x480 image shows of the 240x320 view.
  view = [[160, 120, 9.5], [0, 40 / 3, 10.0], [320, 240 - 40 / 3, 11.0]]
  pixels = generate_clevr.to_image_pixels(
    np.array(view, np.float32), (320, 480)
  )
  np.testing.assert_array_equal(
    pixels, np.array([[240, 160, 9.5], [0, 0, 10], [480, 320, 11]], np.float32)
  )


@pytest.mark.parametrize("limits", [(0, 3), (5, 4), (3, 40)])
def test_impossible_numbers_of_objects(tmp_path, limits):
  with pytest.raises(ValueError, match=f"max_num_objects={limits[1]}"):
    generate_clevr.generate(
      str(tmp_path),
      {"train": 1},
      min_num_objects=limits[0],
      max_num_objects=limits[1],
    )
  assert not list(tmp_path.iterdir())
