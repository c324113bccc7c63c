"""What is wrong with images and masks is said in a sentence."""

import functools
import re

import image_folders_cases as cases
import image_trees
import numpy as np
import pytest

from slot_attention.data import image_folders

pytest.importorskip("tensorflow")


@pytest.fixture
def clevrtex(tmp_path):
  return image_trees.clevrtex(tmp_path / "data", count=10)


FEW = {
  "clevrtex": functools.partial(image_trees.clevrtex, count=10),
  "shapestacks": image_trees.shapestacks,
}


def read_all(dataset, root, split="validation"):
  source = cases.open_split(root, dataset, split)
  return list(source.eval_batches(2, slice(0, 2)))


def damage(path, kind):
  if kind == "truncated":
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  elif kind == "empty":
    path.write_bytes(b"")
  elif kind == "foreign":
    path.write_text("<html>404 Not Found</html>")
  else:
    path.unlink()


@pytest.mark.parametrize("kind", ["truncated", "empty", "foreign", "missing"])
@pytest.mark.parametrize("dataset", ["clevr_mirror", "coco"])
def test_broken_images_are_named(tmp_path, dataset, kind):
  root = cases.WRITERS[dataset](tmp_path)
  source = cases.open_split(root, dataset, "validation")
  path = tmp_path / source.index.files.images[-1]
  damage(path, kind)
  with pytest.raises(ValueError, match=re.escape(str(path))) as error:
    list(source.eval_batches(2, slice(0, 2)))
  assert "copy the file again" in str(error.value)
  with pytest.raises(ValueError, match=re.escape(str(path))):
    next(source.train_batches(source.num_examples, 0, 0, slice(0, 50)))


@pytest.mark.parametrize("kind", ["truncated", "empty", "foreign"])
@pytest.mark.parametrize("dataset", ["clevrtex", "shapestacks"])
def test_broken_masks_are_named(tmp_path, dataset, kind):
  root = FEW[dataset](tmp_path)
  pattern = "*1_flat.png" if dataset == "clevrtex" else "env_ccs-easy*/*_1*.map"
  path = next(iter(sorted(root.rglob(pattern))))
  damage(path, kind)
  with pytest.raises(ValueError, match=re.escape(str(path))) as error:
    read_all(dataset, root)
  assert "unpack the data set again" in str(error.value)


def test_masks_of_another_kind_or_size(clevrtex):
  path = next(clevrtex.rglob("*1_flat.png"))
  image_trees.save(path, image_trees.noise(0, 240, 320))
  with pytest.raises(
    ValueError, match="pixels are RGB, not numbers of objects"
  ):
    read_all("clevrtex", clevrtex)
  image_trees.save(path, np.zeros((24, 32), np.uint8))
  with pytest.raises(
    ValueError, match=r"000001\.png cannot be decoded \(its mask has another"
  ):
    read_all("clevrtex", clevrtex)


def test_images_smaller_than_the_crop(clevrtex):
  source = image_folders.open_dataset(
    "clevrtex",
    str(clevrtex),
    "test",
    image_folders.View((8, 8), center_crop=300),
  )
  with pytest.raises(
    ValueError, match=r"smaller than config\.data\.center_crop"
  ):
    list(source.eval_batches(2, slice(0, 2)))
