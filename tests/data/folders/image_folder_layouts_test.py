"""Which files belong to a split, and what is wrong with a folder of images."""

import json
import os
import re
import struct
import zlib

import image_folders_cases as cases
import image_trees
import numpy as np
import pytest

from slot_attention.data import image_folders
from slot_attention.data.folders import annotation_files
from slot_attention.data.folders import folder_files
from slot_attention.data.folders import image_folder_layouts


@pytest.fixture
def clevrtex(tmp_path):
  return image_trees.clevrtex(tmp_path / "data", count=10)


@pytest.fixture
def mirror(tmp_path):
  return image_trees.clevr_mirror(tmp_path / "data", count=4)


@pytest.fixture
def stacks(tmp_path):
  return image_trees.shapestacks(tmp_path / "data")


@pytest.fixture
def coco(tmp_path):
  return image_trees.coco(tmp_path / "data")


def find(dataset, root, split="validation", variant=""):
  return image_folder_layouts.find(dataset, root, split, variant)


@pytest.mark.parametrize("dataset", ["clevrtex", "shapestacks"])
def test_single_missing_masks_are_named(tmp_path, dataset):
  root = cases.WRITERS[dataset](tmp_path)
  pattern = (
    "*2_flat.png" if dataset == "clevrtex" else "env_ccs-easy*/*_1-*.map"
  )
  next(iter(sorted(root.rglob(pattern)))).unlink()
  with pytest.raises(ValueError, match="has no mask, but others have; unpack"):
    find(dataset, root)


def test_holes_in_numbers(clevrtex):
  next(clevrtex.rglob("*000004.png")).unlink()
  with pytest.raises(ValueError, match="9 images, but number 000004 is miss"):
    find("clevrtex", clevrtex)


CLIMBING = ["../secret", "/etc/passwd", "a/../../b", "..", "", "x\0y", "a\\b"]


@pytest.mark.parametrize("name", [*CLIMBING, None, 3, "sub/name"])
def test_names_that_lead_elsewhere(name):
  with pytest.raises(
    ValueError, match=r"list\.txt names .* does not lie below"
  ):
    folder_files.check_name(name, "list.txt")
  if name == "sub/name":
    assert folder_files.check_name(name, "list.txt", directories=True) == name
  else:
    with pytest.raises(ValueError, match=r"list\.txt names"):
      folder_files.check_name(name, "list.txt", directories=True)


@pytest.mark.parametrize("name", ["../../outside-h=2-", "/tmp/x-h=2-v"])
def test_shapestacks_lists_cannot_climb(stacks, name):
  listing = stacks / "splits" / "default" / "eval.txt"
  listing.write_text(f"{name}\n")
  with pytest.raises(ValueError, match=re.escape(str(listing))):
    find("shapestacks", stacks)
  listing.write_text("something\n")
  with pytest.raises(ValueError, match="is no scenario such as"):
    find("shapestacks", stacks)
  listing.write_text("env_ccs-h=9-v=0\n")
  with pytest.raises(ValueError, match=r"env_ccs-h=9-v=0 holds no rgb"):
    find("shapestacks", stacks)
  listing.write_bytes(b"\xff\xfe")
  with pytest.raises(ValueError, match="cannot be read"):
    find("shapestacks", stacks)


def test_links_cannot_leave_the_directory(mirror, stacks, tmp_path):
  outside = tmp_path / "outside"
  image_trees.save(outside / "x.png", image_trees.noise(0, 8, 8))
  link = mirror / "CLEVRMirror" / "images" / "a.png"
  link.symlink_to(outside / "x.png")
  with pytest.raises(ValueError, match=r"a\.png is a link to .* not below"):
    find("folder", mirror)
  link.unlink()
  link.symlink_to(mirror / "CLEVRMirror" / "images")
  with pytest.raises(ValueError, match="which is a directory"):
    find("folder", mirror)
  scenario = stacks / "recordings" / image_trees.SCENARIOS["eval"][0]
  scenario.rename(outside / "scenario")
  scenario.symlink_to(outside / "scenario")
  with pytest.raises(ValueError, match=r"is a link to .* not below"):
    find("shapestacks", stacks)


def test_links_within_and_to_the_directory_are_followed(mirror, tmp_path):
  image = sorted((mirror / "CLEVRMirror" / "images").iterdir())[0]
  link = image.with_name("z.png")
  link.symlink_to(image)
  (tmp_path / "link").symlink_to(mirror)
  assert find("folder", tmp_path / "link", "test").images[-1].endswith("z.png")


def edited(path, edit):
  values = json.loads(path.read_text())
  edit(values)
  path.write_text(json.dumps(values))


@pytest.mark.parametrize(
  ("edit", "sentence"),
  [
    (
      lambda v: v["images"][0].update(file_name="../../x.jpg"),
      "names '../../x.jpg', which does not lie below",
    ),
    (
      lambda v: v["images"][0].update(file_name="/etc/passwd"),
      "names '/etc/passwd', which does not lie below",
    ),
    (
      lambda v: v["images"][0].update(file_name="no.jpg"),
      "no.jpg is named in .* but is not there",
    ),
    (lambda v: v["images"].pop(), "000015.jpg is not named in"),
    (lambda v: v["images"][0].update(height=10**9), "has 1000000000x60 pixels"),
    (lambda v: v["images"][0].pop("id"), "is no annotation file of COCO"),
    (lambda v: v.pop("annotations"), "is no annotation file of COCO"),
    (lambda v: v["annotations"][0].update(image_id=3), "is no annotation file"),
    (
      lambda v: v["annotations"][0].update(segmentation=[[1, 2, 3]]),
      "has an outline, of annotation 0, that cannot be drawn",
    ),
    (
      lambda v: v["annotations"][0].update(segmentation=[[1, float("nan")]]),
      "a coordinate is not finite",
    ),
    (
      lambda v: v["annotations"][0].update(segmentation={"counts": "Ab4"}),
      "cannot be drawn",
    ),
  ],
)
def test_annotations_of_coco(coco, edit, sentence):
  path = coco / "annotations" / "instances_val2017.json"
  edited(path, edit)
  with pytest.raises(ValueError, match=sentence) as error:
    find("coco", coco)
  assert "unpack" in str(error.value) or "copy" in str(error.value)


def test_runs_must_fill_the_image(coco):
  path = coco / "annotations" / "instances_val2017.json"
  runs = {"counts": [5, -5, 10], "size": [40, 60]}
  edited(path, lambda v: v["annotations"][0].update(segmentation=runs))
  files = find("coco", coco)
  with pytest.raises(ValueError, match="do not fill its image of 40x60"):
    files.load_labels(0)


def test_what_is_not_there(tmp_path, coco, stacks, clevrtex):
  sentences = {
    "clevr_mirror": "has no images in .*; unpack the CLEVR-Mirror archive",
    "shapestacks": "eval.txt is missing; unpack shapestacks-meta.tar.gz",
    "clevrtex": "holds neither clevrtex_full nor clevrtexv2_full; unpack",
    "coco": "holds none of val2017, .*; unpack val2017.zip",
    "folder": "unpack your PNG or JPEG files",
  }
  empty = tmp_path / "empty"
  empty.mkdir()
  for dataset, sentence in sentences.items():
    with pytest.raises(FileNotFoundError, match=sentence):
      find(dataset, empty)
    with pytest.raises(FileNotFoundError, match="There is no directory"):
      find(dataset, tmp_path / "nowhere")
  (empty / "shapestacks-rgb.tar.gz").write_bytes(b"")
  with pytest.raises(ValueError, match="is an archive; unpack it with `tar -x"):
    find("shapestacks", empty)
  with pytest.raises(ValueError, match="is an archive; unpack"):
    find("folder", empty / "shapestacks-rgb.tar.gz")
  with pytest.raises(ValueError, match="must be a local directory"):
    find("coco", "gs://bucket/coco")
  with pytest.raises(ValueError, match="must be a local directory"):
    find("coco", "")
  with pytest.raises(ValueError, match=r"must be full or camo or .* clevrtex"):
    find("clevrtex", clevrtex, variant="ful")
  with pytest.raises(ValueError, match="must be empty with"):
    find("coco", coco, variant="full")
  with pytest.raises(FileNotFoundError, match="clevrtex_camo"):
    find("clevrtex", clevrtex, variant="camo")
  with pytest.raises(ValueError, match="no split 'eval'; choose one of train"):
    cases.open_split(coco, "coco", "eval")


def test_split_directories_without_the_one_asked_for(tmp_path):
  image_trees.save(tmp_path / "train" / "x.png", image_trees.noise(0, 8, 8))
  with pytest.raises(FileNotFoundError, match="none called val or validation"):
    find("folder", tmp_path)


def test_numbers_of_objects_that_nobody_knows(mirror, tmp_path):
  with pytest.raises(ValueError, match=r"nothing tells how many objects .* 0"):
    cases.open_split(
      mirror, "folder", "test", min_num_objects=3, max_num_objects=6
    )
  with pytest.raises(ValueError, match=r"shows 9 to 9 objects \(they show"):
    cases.open_split(
      mirror, "clevr_mirror", "train", min_num_objects=9, max_num_objects=9
    )


def test_masks_that_fill_the_memory(tmp_path):
  path = tmp_path / "bomb.png"
  header = b"IHDR" + struct.pack(">2I5B", 20_000, 20_000, 8, 0, 0, 0, 0)
  checksum = struct.pack(">I", zlib.crc32(header))
  path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + checksum)
  with pytest.raises(
    ValueError, match=r"bomb\.png cannot be decoded as a mask"
  ):
    annotation_files.read_mask(os.fspath(path), np.array)


def test_scenes(mirror):
  scene = sorted(mirror.rglob("CLEVR_new*.json"))[2]
  count = find("clevr_mirror", mirror).count_objects
  for text, sentence in (
    ("{", re.escape(str(scene))),
    ("[]", "it is no JSON object"),
    ("{}", "has no list of objects"),
  ):
    scene.write_text(text)
    with pytest.raises(ValueError, match=sentence):
      count(0)
  scene.unlink()
  with pytest.raises(ValueError, match="is missing, the scene of"):
    find("clevr_mirror", mirror)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
  return {
    name: write(tmp_path_factory.mktemp(name))
    for name, write in cases.WRITERS.items()
  }


@pytest.mark.parametrize("dataset", cases.WRITERS)
def test_splits_have_nothing_in_common(trees, dataset):
  found = [
    image_folder_layouts.find(dataset, trees[dataset], split).images
    for split in image_folder_layouts.SPLITS
  ]
  assert tuple(map(len, found)) == cases.SIZES[dataset]
  everything = sum(found, ())
  assert len(set(everything)) == len(everything)


def test_split_membership(trees):
  def names(dataset, split):
    images = image_folder_layouts.find(dataset, trees[dataset], split).images
    return [image.rsplit("/", 1)[1] for image in images]

  assert names("clevrtex", "test") == [
    "CLEVRTEX_full_000000.png",
    "CLEVRTEX_full_000001.png",
  ]
  assert names("clevrtex", "validation")[0] == "CLEVRTEX_full_000002.png"
  assert names("clevrtex", "train")[-1] == "CLEVRTEX_full_000019.png"
  files = image_folder_layouts.find("shapestacks", trees["shapestacks"], "test")
  assert all(image_trees.SCENARIOS["test"][0] in x for x in files.images)
  assert all(x.endswith("-mono-0.png") for x in files.images)
  in_order = names("clevr_mirror", "train") + names(
    "clevr_mirror", "validation"
  )
  assert in_order == sorted(in_order)
  assert names("clevr_mirror", "train") == names("folder", "train")


@pytest.mark.parametrize(
  ("arguments", "sentence"),
  [
    ({"resolution": (8,)}, "not a height and a width"),
    ({"resolution": (8, 0)}, "not a height and a width"),
    ({"crop": (0, 0, 8)}, "not a top, left, height and width"),
    ({"crop": (0, 0, 8, 8), "center_crop": 0.5}, "give one of them"),
  ],
)
def test_views_that_make_no_sense(arguments, sentence):
  with pytest.raises(ValueError, match=sentence):
    image_folders.View(**({"resolution": (8, 8)} | arguments))
