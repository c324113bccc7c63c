"""The page needs nothing but itself, and shows what it was given."""

import base64
import io
import json
import re

import numpy as np
from PIL import Image
import pytest

from slot_attention.figures import html_page
from slot_attention.figures import scene_views


def _picture(value, size=8):
  return np.full((size, size, 3), value, np.uint8)


@pytest.fixture
def scene():
  slots = [
    scene_views.SlotView(
      (255, 10 * k, 0),
      {"mask": [_picture(k), _picture(k + 1)], "attention": [_picture(9, 4)]},
      f"</script><b>slot {k}",
    )
    for k in range(3)
  ]
  color = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
  pictures = {"image": [color], "reconstruction": [_picture(1), _picture(2)]}
  return scene_views.Scene(pictures, slots, ["a line"])


def _data(page):
  found = re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
  return json.loads(found.group(1))


def _decode(uri):
  prefix, text = uri.split(",")
  assert prefix == "data:image/png;base64"
  image = Image.open(io.BytesIO(base64.b64decode(text)))
  return np.asarray(image.convert("RGB"))


def test_all_pictures_are_in_the_page(scene):
  shown, again = _data(html_page.render("run", [scene, scene]))
  assert shown == again
  assert shown["iterations"] == 2 and shown["text"] == ["a line"]
  for name, frames in scene.pictures.items():
    for uri, frame in zip(shown["pictures"][name], frames, strict=True):
      np.testing.assert_array_equal(_decode(uri), frame)
  for slot, view in zip(shown["slots"], scene.slots, strict=True):
    assert slot["color"] == f"rgb{view.color}" and slot["text"] == view.text
    for name, frames in view.pictures.items():
      for uri, frame in zip(slot["pictures"][name], frames, strict=True):
        np.testing.assert_array_equal(_decode(uri), frame)


def test_the_page_stands_alone(scene):
  page = html_page.render("a <run> & step 3", [scene])
  assert not re.search(r"https?:|@import|url\(|<link|src=\"", page)
  assert page.count("</script>") == 2  # Nothing that is shown ends a script.
  assert "<title>a &lt;run&gt; &amp; step 3</title>" in page
  assert "@" not in re.sub(
    r"<script id=.*?</script>", "", page, flags=re.DOTALL
  )
