import json
import shutil

import image_folders_cases as cases
import image_trees
import numpy as np
import pytest

from slot_attention.data import converted
from slot_attention.data import image_folders
from slot_attention.data import inspection
from slot_attention.data.folders import image_conversion
from slot_attention.data.folders import image_inspection
from slot_attention.data.records import record_stream

pytest.importorskip("tensorflow")


def convert(dataset, root, output, **arguments):
  return image_conversion.convert(
    dataset, str(root), output, cases.VIEWS[dataset], **arguments
  )


@pytest.fixture(scope="module", params=["clevrtex", "coco", "folder"])
def converted_set(request, tmp_path_factory):
  dataset = request.param
  root = cases.WRITERS[dataset](tmp_path_factory.mktemp("source"))
  output = tmp_path_factory.mktemp("converted")
  return dataset, root, convert(dataset, root, output, records_per_shard=4)


def test_gives_the_same_batches_in_the_same_order(converted_set):
  dataset, root, output = converted_set
  for split in image_folders.SPLITS:
    folder = cases.open_split(root, dataset, split)
    packed = cases.open_split(output, dataset, split)
    assert packed.num_examples == folder.num_examples
    shuffled = [
      next(x.train_batches(4, 1, 7, slice(1, 3))) for x in (folder, packed)
    ]
    for first, second in (
      (cases.whole(folder), cases.whole(packed)),
      shuffled,
    ):
      assert set(first) == set(second)
      # Rounded to 256 levels.
      difference = np.abs(first.pop("image") - second.pop("image"))
      assert difference.max() <= 1.001 / 255
      for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
        assert values.dtype == second[name].dtype


def test_inspection_of_both(converted_set):
  dataset, root, output = converted_set
  folders = list(image_inspection.inspect(dataset, str(root)))
  packed = list(inspection.inspect(output, dataset))
  assert [x.error for x in (*folders, *packed)] == [None] * 6
  assert [x.num_images for x in folders] == list(cases.SIZES[dataset])
  counts = {x.path.rsplit("/", 1)[1]: x.num_records for x in packed}
  assert counts == {x.split: x.num_read for x in folders}
  by_split = {x.path.rsplit("/", 1)[1]: x.num_objects for x in packed}
  assert by_split == {x.split: x.num_objects for x in folders}
  text = image_inspection.format_report(folders[0])
  assert f"train of {dataset}" in text
  assert ("for every image" in text) == (dataset != "folder")


def test_goes_on_after_the_last_whole_shard(tmp_path):
  root = image_trees.clevrtex(tmp_path / "source", count=10)
  whole = convert("clevrtex", root, tmp_path / "a", records_per_shard=3)
  part = shutil.copytree(whole, tmp_path / "b")
  (part / "train" / converted.INFO_FILE).unlink()
  (part / "train" / converted.NUM_OBJECTS_FILE).unlink()
  (part / "train" / "clevrtex-00002.tfrecords").unlink()
  for opened in (
    lambda: cases.open_split(part, "clevrtex", "train"),
    lambda: list(inspection.inspect(part)),
  ):
    with pytest.raises(ValueError, match="has not come to its end; give the"):
      opened()
  convert("clevrtex", root, part, records_per_shard=3)
  for path in sorted((whole / "train").iterdir()):
    assert path.read_bytes() == (part / "train" / path.name).read_bytes()
  lengths = converted.read_info(part / "train").shard_lengths
  assert lengths == (3, 3, 2)
  with pytest.raises(ValueError, match="was begun with records_per_shard=3"):
    convert("clevrtex", root, part, records_per_shard=4)


def test_first_images_and_missing_splits(tmp_path):
  root = image_trees.coco(tmp_path / "source")
  shutil.rmtree(root / "train2017")
  output = convert("coco", root, tmp_path / "out", num_records=2)
  assert sorted(x.name for x in output.iterdir()) == ["test", "validation"]
  source = cases.open_split(output, "coco", "validation")
  assert source.num_examples == 2
  with pytest.raises(FileNotFoundError, match="none of train2017"):
    cases.open_split(output, "coco", "train")
  first, *_ = image_inspection.inspect("coco", str(root))
  assert first.num_images == 0 and "unpack train2017.zip" in first.missing[0]
  assert "train2017.zip" in image_inspection.format_report(first)


def test_other_settings_than_those_converted_with(tmp_path):
  root = image_trees.clevrtex(tmp_path / "source", count=5)
  output = convert("clevrtex", root, tmp_path / "out", num_records=1)
  for changes, name in (
    ({"view": {"resolution": (64, 64)}}, "resolution"),
    ({"view": {"center_crop": 0.0}}, "center_crop"),
    ({"view": {"interpolation": "nearest"}}, "interpolation"),
    ({"variant": "camo"}, "variant"),
  ):
    with pytest.raises(ValueError, match=f"was converted with {name} = "):
      cases.open_split(output, "clevrtex", "train", **changes)


def test_broken_images_stop_it_and_are_named(tmp_path):
  root = image_trees.coco(tmp_path / "source")
  path = root / "val2017" / "000000000008.jpg"
  path.write_bytes(path.read_bytes()[:100])
  with pytest.raises(
    ValueError, match=r"000000000008\.jpg is not read: it is none of"
  ):
    convert("coco", root, tmp_path / "out")
  assert not (tmp_path / "out" / "validation" / converted.INFO_FILE).exists()
  _, report, _ = image_inspection.inspect("coco", str(root))
  assert "000000000008.jpg is not read" in report.error
  assert "000000000008.jpg" in image_inspection.format_report(report)


def test_damaged_shards_are_found(converted_set, tmp_path):
  dataset, _, output = converted_set
  copy = shutil.copytree(output, tmp_path / "copy")
  path = next((copy / "test").glob("*.tfrecords"))
  records = [x.payload for x in record_stream.read_records(path)]
  path.write_bytes(b"".join(map(record_stream.frame, records[:-1])))
  report, *_ = inspection.inspect(copy, dataset)
  assert "holds" in report.error and "copy it again" in report.error


def test_archives(tmp_path):
  path = tmp_path / "clevrtex_full_part1.tar.gz"
  path.write_bytes(b"")
  sentence = rf"is an archive; unpack it with `tar -xf {path} -C DIRECTORY`"
  with pytest.raises(ValueError, match=sentence):
    list(inspection.inspect(path))
  with pytest.raises(ValueError, match=sentence):
    list(image_inspection.inspect("clevrtex", str(path)))
  with pytest.raises(ValueError, match="unzip -q"):
    list(inspection.inspect(_touch(tmp_path / "val2017.zip")))


def _touch(path):
  path.write_bytes(b"")
  return path


def test_description_says_what_was_done(converted_set):
  dataset, _, output = converted_set
  values = json.loads((output / "train" / "info.json").read_text())
  assert values["dataset"] == dataset
  assert values["resolution"] == list(cases.VIEWS[dataset].resolution)
  assert values["center_crop"] == cases.VIEWS[dataset].center_crop
  assert values["has_masks"] == (dataset != "folder")
