"""Annotations, lists and descriptions that nobody should hand over."""

import json
import os
import re

import image_trees
import numpy as np
import PIL.Image
import pytest

from slot_attention.data import converted
from slot_attention.data.folders import annotation_files
from slot_attention.data.folders import image_folder_layouts
from slot_attention.data.folders import shapestacks_layout


def read_coco(directory, edit):
  """Changes the annotations, then draws what they say of the first image."""
  root = image_trees.coco(directory)
  path = root / "annotations" / "instances_val2017.json"
  values = json.loads(path.read_text())
  edit(values)
  path.write_text(json.dumps(values))
  files = image_folder_layouts.find("coco", root, "validation")
  return files.load_labels(0)


def _outline(value):
  return lambda v: v["annotations"][0].update(segmentation=value)


def _image(**values):
  return lambda v: v["images"][0].update(values)


@pytest.mark.parametrize(
  ("edit", "sentence"),
  [
    (_image(height="high"), "is no annotation file of COCO"),
    (_image(height=float("nan")), "is no annotation file of COCO"),
    (_image(height=float("inf")), "is no annotation file of COCO"),
    (_image(height=16_000, width=16_000), "has 16000x16000 pixels; unpack"),
    (_image(height=-40), "has -40x60 pixels"),
    (_image(id=[1]), "is no annotation file of COCO"),
    (_image(id=1001), "names 000000000008.jpg, or its number 1001, twice"),
    (_image(file_name="./000000000008.jpg"), "twice; unpack annotations"),
    (_image(file_name="/etc/passwd"), "which does not lie below"),
    (_outline([[0, 0, 1e30, 0, 5, 5]]), "coordinate is not finite, or far"),
    (_outline({"counts": [2**62] * 4 + [2400]}), "do not fill its image of"),
    (_outline({"counts": [10**30]}), "is no annotation file of COCO"),
    (_outline({"counts": {}}), "is no annotation file of COCO|cannot be drawn"),
    (_outline(None), "is no annotation file of COCO"),
    (
      lambda v: v["annotations"][0].update(category_id="cat"),
      "is no annotation file of COCO",
    ),
    (
      lambda v: v["annotations"].extend(v["annotations"][:1] * 300),
      "annotations of val2017/000000000001.jpg .* drawn: these are 302 objects",
    ),
    (lambda v: v.update(images=7), "is no annotation file of COCO"),
    (lambda v: v.update(images=["x"]), "is no annotation file of COCO"),
  ],
)
def test_annotations_of_coco(tmp_path, edit, sentence):
  with pytest.raises(ValueError, match=sentence) as error:
    read_coco(tmp_path, edit)
  text = str(error.value)
  assert "instances_val2017.json" in text
  assert text.endswith(".")
  assert "\n" not in text


def test_json_that_is_nested_deeply(tmp_path):
  path = tmp_path / "x.json"
  path.write_text("[" * 100_000)
  with pytest.raises(
    ValueError, match=r"x\.json cannot be read \(maximum recu"
  ):
    annotation_files.read_json(str(path))


def test_lists_of_shapestacks(tmp_path):
  stacks = image_trees.shapestacks(tmp_path / "data")
  directory = stacks / "splits" / "default"
  listing = directory / "eval.txt"

  def find():
    return image_folder_layouts.find("shapestacks", stacks, "validation")

  listing.rename(tmp_path / "outside.txt")
  with pytest.raises(FileNotFoundError, match=r"eval\.txt is missing; unpack"):
    find()
  os.mkfifo(listing)
  with pytest.raises(
    ValueError, match=r"eval\.txt is neither a file nor a dir"
  ):
    find()
  listing.unlink()
  listing.symlink_to(tmp_path / "outside.txt")
  with pytest.raises(ValueError, match=r"eval\.txt is a link to .* not below"):
    find()
  directory.rename(tmp_path / "outside")
  directory.symlink_to(tmp_path / "outside")
  with pytest.raises(ValueError, match=r"default is a link to .* not below"):
    find()


def test_masks_of_16_bits_are_not_cut_to_8(tmp_path):
  path = tmp_path / "x.map"
  labels = np.full((8, 8), 65535, np.uint16)
  PIL.Image.fromarray(labels).save(path, "PNG")
  with pytest.raises(ValueError, match=re.escape(str(path))) as error:
    annotation_files.read_mask(str(path), shapestacks_layout._to_labels)
  assert "its pixels are I;16, not gray levels of 8 bits" in str(error.value)


@pytest.mark.parametrize("name", ["../shard", "/etc/passwd", "a/b", "..", 7])
def test_conversions_that_name_files_elsewhere(tmp_path, name):
  info = {
    "format_version": converted.FORMAT_VERSION,
    "dataset": "folder",
    "crop": [],
    "resolution": [8, 8],
    "channels": 3,
    "resized": True,
    "source": {},
    "shards": [{"file": name, "num_records": 1}],
  }
  (tmp_path / "info.json").write_text(json.dumps(info))
  np.save(tmp_path / "num_objects.npy", np.zeros(1, np.uint8))
  with pytest.raises(ValueError, match=r"info\.json does not describe a conv"):
    converted.read_info(tmp_path)
