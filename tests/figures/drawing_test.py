import numpy as np
import pytest

from slot_attention.figures import drawing


def _gray(height, width, value=200):
  return np.full((height, width, 3), value, np.uint8)


def test_to_uint8_spans_minus_one_to_one():
  image = np.array([[[-1.0, 0.0, 1.0], [-7.0, 1.01, np.nan]]])
  converted = drawing.to_uint8(image)
  assert converted.dtype == np.uint8
  assert converted.tolist() == [[[0, 128, 255], [0, 255, 0]]]


def test_to_uint8_inverts_the_preprocessing():
  values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
  floats = (values.astype(np.float32) / 255 - 0.5) * 2
  np.testing.assert_array_equal(drawing.to_uint8(floats), values)
  assert drawing.to_uint8(values) is values


@pytest.mark.parametrize("dtype", [np.int32, bool])
def test_to_uint8_refuses_types_of_unknown_range(dtype):
  with pytest.raises(ValueError, match=f"type {np.dtype(dtype)} has no known"):
    drawing.to_uint8(np.zeros((2, 2, 3), dtype))


def test_upscale_repeats_pixels():
  image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
  enlarged = drawing.upscale(image, 3)
  assert enlarged.shape == (6, 6, 3)
  for i, j in np.ndindex(6, 6):
    np.testing.assert_array_equal(enlarged[i, j], image[i // 3, j // 3])


def test_grid_puts_every_image_in_its_place():
  rows = [[_gray(5, 7, 10), _gray(5, 7, 20)], [_gray(5, 7, 30)]]
  grid = drawing.image_grid(rows, padding=1)
  assert grid.shape == (13, 17, 3) and grid.dtype == np.uint8
  expected = np.zeros((13, 17, 3), np.uint8)
  expected[1:6, 1:8] = 10
  expected[1:6, 9:16] = 20
  expected[7:12, 1:8] = 30
  np.testing.assert_array_equal(grid, expected)


def test_grid_converts_floats():
  grid = drawing.image_grid([[np.ones((4, 4, 3))]], padding=0)
  np.testing.assert_array_equal(grid, _gray(4, 4, 255))


@pytest.mark.parametrize(
  ("texts", "where"),
  [
    ({"row_labels": ["left", "lower"]}, "left"),
    ({"column_labels": ["first", "second"]}, "top"),
    ({"captions": [["a", "b"], ["c", "d"]]}, "below"),
  ],
)
def test_grid_writes_texts_beside_the_images(texts, where):
  rows = [[_gray(40, 50)] * 2] * 2
  plain = drawing.image_grid(rows)
  grid = drawing.image_grid(rows, **texts)
  assert (grid == 200).all(-1).sum() >= (plain == 200).all(-1).sum()
  added = np.subtract(grid.shape[:2], plain.shape[:2]).tolist()
  line = drawing.LINE_HEIGHT
  height, width = {
    "left": (0, added[1]),
    "top": (line + 2, 0),
    "below": (2 * line, 0),
  }[where]
  assert added == [height, width]
  strip = {
    "left": grid[2:42, 2 : added[1]],
    "top": grid[2 : 2 + line],
    "below": grid[42 : 42 + line],
  }[where]
  assert strip.max() > 200  # white text


def test_grid_widens_a_column_for_its_text():
  grid = drawing.image_grid(
    [[_gray(8, 8)] * 2], column_labels=["a long description", "b"]
  )
  assert grid.shape[1] > 100
  # The second image starts to the right of the first text.
  assert np.flatnonzero((grid[-5] == 200).all(-1))[8] > 90


@pytest.mark.parametrize(
  ("rows", "texts", "sentence"),
  [
    ([], {}, "0 rows and no image"),
    ([[], []], {}, "2 rows and no image"),
    ([[_gray(4, 4)]], {"row_labels": []}, "row_labels has 0 entries where 1"),
    ([[_gray(4, 4)]], {"column_labels": ["", ""]}, "column_labels has 2"),
    ([[_gray(4, 4)]], {"captions": [["", ""]]}, "captions has 2 entries"),
    ([[_gray(4, 4)]], {"captions": []}, "captions has 0 entries"),
  ],
)
def test_grid_refuses(rows, texts, sentence):
  with pytest.raises(ValueError, match=sentence):
    drawing.image_grid(rows, **texts)


def test_overlay_is_the_image_times_the_attention():
  rng = np.random.default_rng(0)
  image = rng.integers(256, size=(6, 8, 3)).astype(np.uint8)
  attention = rng.random((6, 8))
  np.testing.assert_allclose(
    drawing.attention_overlay(image, attention),
    image * attention[:, :, None],
    atol=0.5001,
  )
  floats = image / 127.5 - 1
  np.testing.assert_array_equal(
    drawing.attention_overlay(floats, attention),
    drawing.attention_overlay(image, attention),
  )


def test_overlay_resizes_bilinearly_with_half_pixel_centres():
  attention = np.array([[0.0, 1.0]])
  overlay = drawing.attention_overlay(_gray(2, 4, 100), attention)
  # Pixel centres at 1/8, 3/8, 5/8, 7/8; attention's at 1/4 and 3/4.
  assert overlay[0, :, 0].tolist() == [0, 25, 75, 100]


def test_overlay_is_right_side_up_and_not_transposed():
  attention = np.zeros((4, 4))
  attention[0, 3] = 1
  overlay = drawing.attention_overlay(_gray(32, 16), attention)
  assert overlay.shape == (32, 16, 3)
  lit = np.argwhere(overlay[..., 0] > 100)
  assert lit[:, 0].max() < 9 and lit[:, 1].min() > 10


def test_attention_grid_has_iterations_down_and_slots_across():
  attention = np.zeros((2, 3, 4, 4), np.float32)
  attention[1, 2] = 1
  grid = drawing.attention_grid(_gray(64, 64), attention)
  lit = (grid == 200).all(-1)
  # The image in both rows, and the one lit slot in the last column of row 2.
  assert lit.sum() == 3 * 64 * 64
  assert lit[-66:-2, -66:-2].all()
  assert not lit[:-66, -66:].any()


def test_segments_have_distinct_fixed_colors():
  ids = np.arange(25).reshape(5, 5)
  colors = drawing.segmentation_colors(ids)
  assert colors.shape == (5, 5, 3) and colors.dtype == np.uint8
  assert colors[0, 0].tolist() == [0, 0, 0]
  flat = colors.reshape(25, 3).astype(float)
  distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
  assert (distances + 999 * np.eye(25)).min() > 40
  np.testing.assert_array_equal(drawing.segmentation_colors(ids), colors)


def test_segments_beyond_the_palette_are_not_black():
  colors = drawing.segmentation_colors(np.array([[0, 1, 24, 25, 48, 49]]))[0]
  np.testing.assert_array_equal(colors[[3, 5]], colors[[1, 1]])
  np.testing.assert_array_equal(colors[4], colors[2])
  assert colors[1:].max(axis=-1).all()


def test_negative_segments_are_refused():
  with pytest.raises(ValueError, match="holds the id -1"):
    drawing.segmentation_colors(np.array([[0, -1]]))


@pytest.mark.parametrize(
  ("height", "expected"), [(16, 96), (40, 80), (96, 96), (128, 128)]
)
def test_enlarge_repeats_the_pixels_of_small_images(height, expected):
  image = np.zeros((height, 2, 3), np.uint8)
  image[0] = 255
  large = drawing.enlarge(image)
  assert large.shape == (expected, 2 * expected // height, 3)
  assert (large == 255).all(axis=(1, 2)).sum() == expected // height


def test_gray_spans_black_to_white():
  shown = drawing.gray(np.array([[0.0, 0.5, 1.0, 7.0, -1.0, np.nan]]))
  assert shown.dtype == np.uint8
  assert shown[0].tolist() == [[v] * 3 for v in (0, 128, 255, 255, 0, 0)]


def test_a_frame_surrounds_the_image():
  image = _gray(4, 5)
  framed = drawing.framed(image, (255, 0, 0), width=2)
  assert framed.shape == (8, 9, 3)
  np.testing.assert_array_equal(framed[2:-2, 2:-2], image)
  assert (framed == (255, 0, 0)).all(-1).sum() == 8 * 9 - 4 * 5
