"""The data sets of `image_trees`, as they are read in tests."""

import dataclasses

import contract
import image_trees

from slot_attention.data import image_folders

WRITERS = {
  "clevr_mirror": image_trees.clevr_mirror,
  "shapestacks": image_trees.shapestacks,
  "clevrtex": image_trees.clevrtex,
  "coco": image_trees.coco,
  "folder": lambda root: image_trees.clevr_mirror(root, scenes=False),
}
# The papers' resolutions and crops, and the number of images by split.
VIEWS = {
  "clevr_mirror": image_folders.View((64, 64)),
  "shapestacks": image_folders.View((96, 96), center_crop=196),
  "clevrtex": image_folders.View((96, 96), center_crop=0.8),
  "coco": image_folders.View((32, 32), center_crop=1.0),
  "folder": image_folders.View((64, 64)),
}
SIZES = {
  "clevr_mirror": (14, 3, 3),
  "shapestacks": (8, 4, 4),
  "clevrtex": (16, 2, 2),
  "coco": (5, 3, 2),
  "folder": (14, 3, 3),
}


def open_split(root, dataset, split, **changes):
  view = dataclasses.replace(VIEWS[dataset], **changes.pop("view", {}))
  return contract.Widened(
    image_folders.open_dataset(dataset, str(root), split, view, **changes)
  )


def whole(source):
  """All examples of a split."""
  size = source.num_examples
  (batch,) = source.eval_batches(size, slice(0, size))
  return batch
