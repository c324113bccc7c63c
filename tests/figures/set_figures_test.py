import numpy as np
import pytest

from slot_attention.figures import drawing
from slot_attention.figures import set_figures


def _gray(height, width, value=200):
  return np.full((height, width, 3), value, np.uint8)


def _has_color(image, color):
  return (image == np.array(color)).all(-1).any()


def test_labels_stand_at_their_objects():
  image = _gray(64, 64, 90)
  label = set_figures.Label("cube", position=(20, 30), color=(255, 0, 0))
  drawn = set_figures.draw_objects(image, [label], scale=3)
  assert drawn.shape == (192, 192, 3)
  changed = np.argwhere((drawn != 90).any(-1))
  rows, columns = changed[:, 0], changed[:, 1]
  centre = (round(30.5 * 3), round(20.5 * 3))
  assert drawn[centre].tolist() == [255, 0, 0]
  assert abs(rows.min() + rows.max() - 2 * centre[0]) < 4
  assert columns.min() >= centre[1] - 3 and columns.max() < centre[1] + 60
  np.testing.assert_array_equal(image, _gray(64, 64, 90))


@pytest.mark.parametrize(
  "position", [(0, 0), (63, 0), (0, 63), (63, 63), (200, -50)]
)
def test_labels_at_the_border_stay_whole(position):
  inner, drawn = (
    set_figures.draw_objects(
      _gray(64, 64, 90), [set_figures.Label("cube", where)]
    )
    for where in ((30, 30), position)
  )
  # The text begins two radii right of the mark at (92, 92).
  left = 92 + 2 * set_figures.MARK_RADIUS
  changed = np.argwhere((inner != 90).any(-1))
  changed = changed[changed[:, 1] >= left]
  (top, _), (bottom, right) = changed.min(0), changed.max(0) + 1
  text = inner[top:bottom, left:right]
  assert text.shape[0] == drawing.LINE_HEIGHT
  windows = np.lib.stride_tricks.sliding_window_view(drawn, text.shape)
  assert (windows == text).all((-3, -2, -1)).sum() == 1


def test_labels_without_position_are_listed():
  labels = [
    set_figures.Label("one", color=(255, 0, 0)),
    set_figures.Label("two"),
  ]
  drawn = set_figures.draw_objects(_gray(64, 64, 90), labels)
  line = drawing.LINE_HEIGHT
  assert _has_color(drawn[:line], (255, 0, 0))
  assert _has_color(drawn[line : 2 * line], drawing.WHITE)
  assert (drawn[2 * line :] == 90).all()


def test_panel_colors_lines_by_their_verdict():
  image = _gray(32, 32, 90)
  panel = set_figures.set_prediction_panel(
    image,
    ["0.9 cube", "0.8 sphere"],
    ["cube", "cylinder", "cone"],
    np.array([True, False]),
    [True, False, False],
    scale=2,
  )
  margin, line = drawing.MARGIN, drawing.LINE_HEIGHT
  np.testing.assert_array_equal(
    panel[margin : margin + 64, margin : margin + 64], _gray(64, 64, 90)
  )
  text = panel[:, margin + 64 :]
  lines = [text[margin + i * line : margin + (i + 1) * line] for i in range(4)]
  for found, right, wrong in zip(
    lines, (0, 1, 0, 0), (0, 0, 1, 1), strict=True
  ):
    assert _has_color(found, set_figures.GREEN) == bool(right)
    assert _has_color(found, set_figures.RED) == bool(wrong)
  assert _has_color(lines[0], drawing.WHITE)


def test_panel_without_verdicts_is_white():
  panel = set_figures.set_prediction_panel(_gray(32, 32, 90), ["cube"], [])
  assert _has_color(panel, drawing.WHITE)
  assert not _has_color(panel, set_figures.GREEN)
  assert not _has_color(panel, set_figures.RED)


def test_panel_grows_with_its_lines():
  panel = set_figures.set_prediction_panel(_gray(8, 8), ["cube"] * 20, [])
  assert panel.shape[0] >= 21 * drawing.LINE_HEIGHT


@pytest.mark.parametrize("which", ["predicted", "true"])
def test_panel_needs_a_verdict_per_line(which):
  with pytest.raises(ValueError, match=f"{which}_correct has 2 entries"):
    set_figures.set_prediction_panel(
      _gray(8, 8), ["a"], ["b"], **{f"{which}_correct": [True, False]}
    )
