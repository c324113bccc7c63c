"""Pictures of slots, pixel by pixel."""

import numpy as np
import pytest

from slot_attention.figures import drawing
from slot_attention.figures import slot_figures


@pytest.fixture
def example():
  """Two slots that take the left and the right half, over three iterations."""
  masks = np.zeros((3, 2, 8, 8), np.float32)
  masks[:, 0, :, :4] = masks[:, 1, :, 4:] = 1.0
  masks[0] = masks[0, ::-1]  # At first the other way round.
  slots = np.zeros((3, 2, 8, 8, 3), np.float32)
  slots[:, 0, ..., 0] = 1.0
  reconstruction = (masks[..., None] * slots).sum(axis=1)
  return {
    "image": -np.ones((8, 8, 3), np.float32),
    "segmentation": np.eye(8, dtype=np.int32),
    "reconstruction": reconstruction[-1],
    "slot_reconstructions": slots[-1],
    "masks": masks[-1],
    "reconstruction_per_iteration": reconstruction,
    "slot_reconstructions_per_iteration": slots,
    "masks_per_iteration": masks,
    "attention_maps": masks[:, :, ::2, ::2],
  }


def test_slots_are_white_where_their_mask_is_not(example):
  slots = slot_figures.masked_slots(
    5.0 * example["slot_reconstructions"], example["masks"]
  )
  assert (slots[0][:, 4:] == 255).all() and (slots[1][:, :4] == 255).all()
  assert slots[0][0, 0].tolist() == [255, 128, 128]
  assert slots[1][0, 7].tolist() == [128, 128, 128]


def test_segments_have_the_colors_of_their_slots(example):
  segments = slot_figures.predicted_segments(example["masks"])
  for k, column in ((0, 0), (1, 7)):
    assert tuple(segments[3, column]) == slot_figures.slot_color(k)


def test_scene_holds_every_iteration(example):
  scene = slot_figures.scene(example)
  assert scene.num_iterations == 3 and len(scene.slots) == 2
  assert list(scene.pictures) == [
    *("image", "reconstruction", "segments", "true segments"),
  ]
  first, _, last = scene.slots[0].pictures["mask"]
  assert first[0, 7, 0] == 255 == last[0, 0, 0]
  assert first[0, 0, 0] == 0 == last[0, 7, 0]
  assert scene.slots[0].pictures["attention"][2].shape == (4, 4, 3)
  np.testing.assert_array_equal(
    scene.pictures["true segments"][0],
    drawing.segmentation_colors(example["segmentation"]),
  )


def test_figures_have_a_row_per_kind_and_per_iteration(example):
  size = 96 + 6  # Enlarged and framed.
  picture = slot_figures.decomposition(example)
  assert picture.shape[0] > 2 * size and picture.shape[1] > 3 * 96 + 2 * size
  rows = slot_figures.iterations(example)
  assert rows.shape[0] > 3 * size and rows.shape[1] > picture.shape[1]
  del example["segmentation"]  # Data without masks.
  assert slot_figures.decomposition(example).shape == picture.shape
  assert "true segments" not in slot_figures.scene(example).pictures
