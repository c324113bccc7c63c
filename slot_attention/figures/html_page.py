"""One self-contained HTML page to browse scenes, slots and iterations."""

import base64
from collections.abc import Mapping, Sequence
import html
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from slot_attention.figures import scene_views


def render(title: str, scenes: Sequence[scene_views.Scene]) -> str:
  """Returns the page: text, script and pictures in one file.

  Args:
    title: shown at the top.
    scenes: what to browse.

  Returns:
    HTML that needs no other file and no network.
  """
  data = json.dumps([_scene(scene) for scene in scenes])
  # "</" would end the script that holds the data.
  return (
    _PAGE.replace("@TITLE@", html.escape(title))
    .replace("@STYLE@", _STYLE)
    .replace("@SCRIPT@", _SCRIPT)
    .replace("@DATA@", data.replace("</", "<\\/"))
  )


def _scene(scene: scene_views.Scene) -> dict[str, Any]:
  return {
    "iterations": scene.num_iterations,
    "pictures": _frames(scene.pictures),
    "text": list(scene.text),
    "slots": [
      {
        "color": f"rgb{slot.color}",
        "text": slot.text,
        "pictures": _frames(slot.pictures),
      }
      for slot in scene.slots
    ],
  }


def _frames(frames: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[str]]:
  return {name: list(map(_data_uri, each)) for name, each in frames.items()}


def _data_uri(picture: np.ndarray) -> str:
  """uint8 [h, w, 3] -> a PNG as text."""
  if (picture == picture[:, :, :1]).all():
    picture = picture[:, :, 0]  # Gray PNGs are a third of the size.
  buffer = io.BytesIO()
  Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
  text = base64.b64encode(buffer.getvalue()).decode("ascii")
  return f"data:image/png;base64,{text}"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>@STYLE@</style>
</head>
<body>
<header>
<h1>@TITLE@</h1>
<label>iteration
<input id="iteration" type="range" min="0" value="0" step="1">
<output id="position"></output></label>
<button id="play" type="button">play</button>
<span class="hint">Click a scene or a slot. Keys: left and right for
iterations, up and down for scenes.</span>
</header>
<nav id="scenes" aria-label="scenes"></nav>
<main>
<section id="whole" class="row"></section>
<ul id="text"></ul>
<h2>Slots</h2>
<section id="slots" class="row"></section>
<h2 id="chosen"></h2>
<section id="detail" class="row"></section>
</main>
<script id="data" type="application/json">@DATA@</script>
<script>@SCRIPT@</script>
</body>
</html>
"""

_STYLE = """
body { margin: 0; display: grid; grid-template: auto 1fr / 132px 1fr;
  height: 100vh; font: 14px/1.4 system-ui, sans-serif; color: #eee;
  background: #1b1b1f; }
header { grid-column: 1 / 3; display: flex; flex-wrap: wrap; gap: 6px 20px;
  align-items: center; padding: 8px 12px; background: #2a2a31; }
h1 { font-size: 15px; margin: 0; } h2 { font-size: 14px; margin: 14px 0 6px; }
.hint { color: #aaa; }
label { display: flex; align-items: center; gap: 8px; }
output { min-width: 4em; }
nav { overflow-y: auto; padding: 8px; }
nav button { display: block; width: 100%; margin-bottom: 8px; }
button { font: inherit; color: inherit; background: #35353d; cursor: pointer;
  border: 2px solid transparent; border-radius: 4px; padding: 3px 8px; }
button[aria-pressed=true] { border-color: #fff; background: #565664; }
main { overflow: auto; padding: 4px 12px 16px; }
.row { display: flex; flex-wrap: wrap; gap: 10px; }
figure { margin: 0; }
figcaption { color: #bbb; max-width: 190px; }
img { display: block; image-rendering: pixelated; background: #000; }
nav img { width: 100%; }
#whole img { height: 190px; } #detail img { height: 190px; }
#slots img { height: 96px; border: 4px solid; margin: auto; }
"""

_SCRIPT = """
"use strict";
const scenes = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const state = {scene: 0, slot: 0, iteration: 0, timer: null};

function frame(frames) {
  return frames[frames.length > 1 ? state.iteration : 0];
}

function picture(name, frames) {
  const figure = document.createElement("figure");
  const image = document.createElement("img");
  const caption = document.createElement("figcaption");
  image.src = frame(frames);
  image.alt = name;
  caption.textContent = name;
  figure.append(image, caption);
  return figure;
}

function button(pressed, label, image, onClick) {
  const node = document.createElement("button");
  node.type = "button";
  node.setAttribute("aria-pressed", pressed);
  node.append(image, label);
  node.addEventListener("click", onClick);
  return node;
}

function thumbnail(frames, name) {
  const image = document.createElement("img");
  image.src = frame(frames);
  image.alt = name;
  return image;
}

function first(pictures) { return Object.values(pictures)[0]; }

function pictures(named) {
  return Object.entries(named).map(([name, frames]) => picture(name, frames));
}

function drawSlots(scene) {
  return scene.slots.map((slot, i) => {
    const image = thumbnail(first(slot.pictures), "slot " + i);
    image.style.borderColor = slot.color;
    return button(i === state.slot, "slot " + i, image, () => {
      state.slot = i;
      draw();
    });
  });
}

function draw() {
  const scene = scenes[state.scene];
  const slot = scene.slots[state.slot];
  element("iteration").max = scene.iterations - 1;
  element("iteration").value = state.iteration;
  element("position").textContent =
    (state.iteration + 1) + " / " + scene.iterations;
  element("play").textContent = state.timer ? "stop" : "play";
  element("whole").replaceChildren(...pictures(scene.pictures));
  element("text").replaceChildren(...scene.text.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
  element("slots").replaceChildren(...drawSlots(scene));
  element("chosen").textContent =
    "Slot " + state.slot + (slot.text ? ": " + slot.text : "");
  element("detail").replaceChildren(...pictures(slot.pictures));
  [...element("scenes").children].forEach((node, i) =>
    node.setAttribute("aria-pressed", i === state.scene));
}

function show(scene) {
  state.scene = Math.max(0, Math.min(scene, scenes.length - 1));
  const {slots, iterations} = scenes[state.scene];
  state.slot = Math.min(state.slot, slots.length - 1);
  state.iteration = Math.min(state.iteration, iterations - 1);
  draw();
}

function move(step) {
  const last = scenes[state.scene].iterations - 1;
  state.iteration = Math.max(0, Math.min(state.iteration + step, last));
  draw();
}

function play() {
  clearInterval(state.timer);
  state.timer = state.timer ? null : setInterval(() => {
    const count = scenes[state.scene].iterations;
    state.iteration = (state.iteration + 1) % count;
    draw();
  }, 700);
  draw();
}

element("scenes").append(...scenes.map((scene, i) => button(
  false, "scene " + i, thumbnail(first(scene.pictures), "scene " + i),
  () => show(i))));
element("iteration").addEventListener("input", (event) => {
  state.iteration = Number(event.target.value);
  draw();
});
element("play").addEventListener("click", play);
document.addEventListener("keydown", (event) => {
  const keys = {ArrowLeft: () => move(-1), ArrowRight: () => move(1),
    ArrowUp: () => show(state.scene - 1),
    ArrowDown: () => show(state.scene + 1)};
  if (event.key in keys) {
    event.preventDefault();
    keys[event.key]();
  }
});
state.iteration = scenes[0].iterations - 1;
show(0);
"""
