import json
import shutil

import image_folders_cases as cases
import image_trees
import jax
import numpy as np
import PIL.Image
import pytest

from slot_attention import configuration
from slot_attention import sharding
from slot_attention.data import image_folders
from slot_attention.data import pipeline
from slot_attention.data.folders import image_folder_layouts

pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
  return {
    name: write(tmp_path_factory.mktemp(name))
    for name, write in cases.WRITERS.items()
  }


@pytest.fixture
def copied(trees, tmp_path):
  def copy(name):
    return shutil.copytree(trees[name], tmp_path / "copy")

  return copy


@pytest.mark.parametrize("dataset", cases.WRITERS)
def test_splits_are_as_published_and_have_nothing_in_common(trees, dataset):
  found = {
    split: image_folder_layouts.find(dataset, trees[dataset], split).images
    for split in image_folder_layouts.SPLITS
  }
  assert tuple(map(len, found.values())) == cases.SIZES[dataset]
  everything = sum(found.values(), ())
  assert len(set(everything)) == len(everything) == sum(cases.SIZES[dataset])
  for split, images in found.items():
    assert cases.open_split(trees[dataset], dataset, split).num_examples == len(
      images
    )
  assert (
    cases.open_split(trees[dataset], dataset, "train_eval").num_examples
    == (cases.SIZES[dataset][0])
  )


@pytest.mark.parametrize("dataset", cases.WRITERS)
def test_batches_keep_the_contract(trees, dataset):
  size = cases.VIEWS[dataset].resolution
  for split in image_folders.SPLITS:
    source = cases.open_split(trees[dataset], dataset, split)
    batch = next(source.train_batches(4, 0, 0, slice(0, 4)))
    expected = {"image"}
    if split != "train" and dataset != "folder":
      expected.add("num_objects")
    has_masks = dataset in ("shapestacks", "clevrtex", "coco")
    if split == "test" and dataset == "coco":
      has_masks = False
      expected.discard("num_objects")
    if split != "train" and has_masks:
      expected.add("segmentation")
      assert batch["segmentation"].shape == (4, *size)
      assert batch["segmentation"].dtype == np.int32
    assert set(batch) == expected
    assert batch["image"].shape == (4, *size, 3)
    assert batch["image"].dtype == np.float32
    assert -1 <= batch["image"].min() < batch["image"].max() <= 1
    batches = list(source.eval_batches(3, slice(0, 3)))
    assert set(batches[-1]) == expected | {"valid"}
    rest = (source.num_examples - 1) % 3 + 1
    assert batches[-1]["valid"].tolist() == [i < rest for i in range(3)]


@pytest.mark.parametrize("dataset", ["shapestacks", "clevrtex"])
def test_masks_hold_the_labels_that_were_written(trees, dataset):
  batch = cases.whole(cases.open_split(trees[dataset], dataset, "train_eval"))
  for labels, count in zip(
    batch["segmentation"], batch["num_objects"], strict=True
  ):
    assert set(np.unique(labels)) == set(range(count + 1))
  assert batch["num_objects"].min() == (2 if dataset == "shapestacks" else 3)
  assert batch["num_objects"].max() == (6 if dataset == "shapestacks" else 5)


def test_masks_are_those_of_the_camera(trees):
  source = cases.open_split(trees["shapestacks"], "shapestacks", "validation")
  names = source.index.files.images
  labels = cases.whole(source)["segmentation"]
  first = labels[[("cam_1-" in name) for name in names]]
  other = labels[[("cam_14-" in name) for name in names]]
  assert (first == first[0]).all() and (other == other[0]).all()
  # The crop is 28 pixels off a symmetric middle of labels 3, 2, 1.
  assert next(x for x in first[0, 48] if x) == 1
  assert next(x for x in other[0, 48] if x) == 3


def test_crops_and_sizes_are_the_papers(trees):
  """Pixel by pixel against Pillow, with which the papers' loaders read."""
  for dataset, box in (
    ("shapestacks", (14, 14, 210, 210)),
    ("clevrtex", (64, 24, 256, 216)),
    ("coco", (10, 0, 50, 40)),
    ("clevr_mirror", (0, 0, 128, 128)),
  ):
    for name, method in (("bilinear", 2), ("bicubic", 3)):
      source = cases.open_split(
        trees[dataset],
        dataset,
        "validation",
        view={"interpolation": f"{name}_antialiased"},
      )
      batch = cases.whole(source)
      for i in range(source.num_examples):
        image = PIL.Image.open(source.index.files.path(i)).convert("RGB")
        image = image.crop(box).resize(cases.VIEWS[dataset].resolution, method)
        difference = (batch["image"][i] + 1) * 127.5 - np.array(image)
        # Pillow rounds twice, and JPEG decoders differ by a level.
        assert np.abs(difference).max() < 2.1


def test_masks_take_the_nearest_pixel_of_the_crop(trees):
  source = cases.open_split(trees["clevrtex"], "clevrtex", "validation")
  labels = cases.whole(source)["segmentation"]
  for i in range(source.num_examples):
    path = source.index.files.path(i).replace(".png", "_flat.png")
    full = np.array(PIL.Image.open(path))[24:216, 64:256]
    assert (labels[i] == full[::2, ::2]).all()


def test_coco_paints_higher_categories_over_lower_ones(trees):
  source = cases.open_split(
    trees["coco"],
    "coco",
    "validation",
    view={"resolution": (40, 60), "center_crop": 0.0},
  )
  batch = cases.whole(source)
  assert batch["num_objects"].tolist() == [2, 2, 0]
  expected = np.zeros((40, 60), int)
  expected[15:35, 20:50] = 2
  expected[5:25, 10:30] = 1  # Of category 50.
  np.testing.assert_array_equal(batch["segmentation"][0], expected)
  assert not batch["segmentation"][2].any()  # Has no annotation.


def test_coco_runs_go_down_the_columns(trees, copied):
  root = copied("coco")
  path = root / "annotations" / "instances_val2017.json"
  values = json.loads(path.read_text())
  values["annotations"] = values["annotations"][:1]
  runs = [3 * 40 + 2, 5, 40 * 56 + 33]
  values["annotations"][0]["segmentation"] = {"counts": runs, "size": [40, 60]}
  path.write_text(json.dumps(values))
  view = {"resolution": (40, 60), "center_crop": 0.0}
  labels = cases.whole(cases.open_split(root, "coco", "validation", view=view))
  expected = np.zeros((40, 60), int)
  expected[2:7, 3] = 1
  assert (labels["segmentation"][0] == expected).all()


@pytest.mark.parametrize("masks", ["iseg", None])
def test_shapestacks_masks_may_lie_apart_or_be_missing(tmp_path, masks):
  root = image_trees.shapestacks(tmp_path, masks)
  batch = cases.whole(cases.open_split(root, "shapestacks", "test"))
  assert ("segmentation" in batch) == (masks is not None)
  assert (batch["num_objects"] == 2).all()


def test_second_version_of_clevrtex(tmp_path):
  root = image_trees.clevrtex(tmp_path, version=2, scenes=False)
  batch = cases.whole(cases.open_split(root, "clevrtex", "test"))
  assert batch["num_objects"].tolist() == [3, 4]
  inner = cases.open_split(root / "clevrtexv2_full", "clevrtex", "test")
  assert (cases.whole(inner)["image"] == batch["image"]).all()


def test_split_directories_win_over_shares(tmp_path):
  for split, count in (("train", 2), ("val", 3), ("test", 4)):
    for i in range(count):
      image = image_trees.noise(i, 20, 30)
      image_trees.save(tmp_path / split / f"{i}.JPG", image)
  sizes = [
    cases.open_split(tmp_path, "folder", split).num_examples
    for split in image_folder_layouts.SPLITS
  ]
  assert sizes == [2, 3, 4]
  image_trees.save(tmp_path / "test" / "more" / "x.png", image)
  assert cases.open_split(tmp_path, "folder", "test").num_examples == 5


def test_fiftyone_layout(tmp_path):
  names = ["b.jpg", "a.jpg"]
  for name in names:
    image = image_trees.noise(0, 40, 60)
    image_trees.save(tmp_path / "validation" / "data" / name, image)
  values = image_trees.coco_annotations(names)
  (tmp_path / "validation" / "labels.json").write_text(json.dumps(values))
  batch = cases.whole(cases.open_split(tmp_path, "coco", "validation"))
  assert batch["num_objects"].tolist() == [0, 2]


def test_images_are_filtered_by_their_number_of_objects(trees):
  limits = {"min_num_objects": 4, "max_num_objects": 5}
  for dataset in ("clevr_mirror", "clevrtex"):
    source = cases.open_split(trees[dataset], dataset, "train_eval", **limits)
    kept = cases.whole(source)["num_objects"]
    every = cases.whole(cases.open_split(trees[dataset], dataset, "train_eval"))
    wanted = [n for n in every["num_objects"] if 4 <= n <= 5]
    assert kept.tolist() == wanted and 0 < len(wanted) < 16
    train = cases.open_split(trees[dataset], dataset, "train", **limits)
    assert train.num_examples == len(wanted)


def test_resumes_at_any_step_and_hosts_read_their_own_rows(trees):
  source = cases.open_split(trees["clevrtex"], "clevrtex", "train")
  batches = source.train_batches(6, 3, 0, slice(0, 6))
  straight = [next(batches)["image"] for _ in range(5)]
  resumed = next(source.train_batches(6, 3, 4, slice(0, 6)))["image"]
  assert (resumed == straight[4]).all()
  for rows in (slice(0, 3), slice(3, 6)):
    part = next(source.train_batches(6, 3, 2, rows))["image"]
    assert (part == straight[2][rows]).all()
  other = next(source.train_batches(6, 4, 0, slice(0, 6)))["image"]
  assert (other != straight[0]).any()


def test_pipeline_opens_it(trees):
  config = configuration.get_default()
  config.data.source = "image_folder"
  config.data.dataset = "clevrtex"
  config.data.data_dir = str(trees["clevrtex"])
  config.data.resolution = (24, 24)
  config.data.center_crop = 0.8
  config.data.horizontal_flip = True
  mesh = sharding.create_mesh()
  with jax.set_mesh(mesh):
    source = pipeline.open_source(config.data, "train", mesh)
    batch = next(source.train_batches(8, 0, 0))
    assert batch["image"].shape == (8, 24, 24, 3)
    source = pipeline.open_source(config.data, "test", mesh)
    (batch,) = source.eval_batches(4, 0)
    assert batch["valid"].tolist() == [True, True, False, False]
