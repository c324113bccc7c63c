"""Pictures, animations and the page of a run, for every task."""

import json
import re

import jax
import numpy as np
from PIL import Image
import pytest

from configs import clevr_object_discovery
from configs import clevr_set_prediction
from slot_attention import evaluate
from slot_attention import evaluator as evaluator_lib
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import visualize
from slot_attention.data import pipeline
from slot_attention.figures import scene_views

FIGURES = {
  clevr_object_discovery: {"slots", "attention", "iterations"},
  clevr_set_prediction: {"objects", "attention"},
}


@pytest.mark.parametrize("module", FIGURES, ids=lambda module: module.__name__)
def test_files_of_a_run(tmp_path, module):
  config = module.get_config("smoke")
  output = tmp_path / "pictures"
  mesh = sharding.create_mesh()
  with jax.set_mesh(mesh):
    task = tasks.create_task(config)
    source = pipeline.open_source(config.data, "validation", mesh)
    evaluator = evaluator_lib.Evaluator(task, source, mesh, 8, 12)
    variables = jax.jit(task.init)(jax.random.key(0))
    run = evaluate.Run(config, 0, variables, evaluator)
    paths = visualize.draw_run(run, "run", str(output), 2, 5, 4)
  assert sorted(paths) == sorted(map(str, output.iterdir()))
  names = {path.name for path in output.iterdir()}
  expected = {f"{name}_{i}.png" for name in FIGURES[module] for i in range(2)}
  assert names == expected | {"scene_0.gif", "scene_1.gif", "index.html"}
  for i in range(2):
    assert Image.open(output / f"scene_{i}.gif").n_frames == 4
  page = (output / "index.html").read_text()
  found = re.search(r'<script id="data"[^>]*>(.*?)</script>', page, re.DOTALL)
  scenes = json.loads(found.group(1))
  assert [scene["iterations"] for scene in scenes] == [4, 4]
  assert [len(scene["slots"]) for scene in scenes] == [5, 5]
  for slot in scenes[0]["slots"]:
    assert len(slot["pictures"]["attention"]) == 4


def test_an_animation_shows_every_iteration(tmp_path):
  frames = [np.full((8, 8, 3), 40 * i, np.uint8) for i in range(3)]
  still = np.full((8, 8, 3), 200, np.uint8)
  slot = scene_views.SlotView((255, 0, 0), {"mask": frames})
  scene = scene_views.Scene({"image": [still], "changing": frames}, [slot] * 2)
  assert scene.num_iterations == 3
  path = tmp_path / "scene.gif"
  scene_views.save_animation(scene, str(path))
  with Image.open(path) as animation:
    assert animation.n_frames == 3 and animation.info["loop"] == 0
    assert animation.info["duration"] == scene_views.FRAME_MILLISECONDS
    for i in range(3):
      animation.seek(i)
      shown = np.asarray(animation.convert("RGB")).astype(int)
      drawn = scene_views.draw_iteration(scene, i).astype(int)
      assert shown.shape == drawn.shape
      assert np.abs(shown - drawn).max() <= 8  # GIFs have 256 colors.
