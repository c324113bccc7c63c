"""Writes small data sets exactly as published ones unpack."""

import json
import pathlib

import matplotlib.image
import numpy as np
import PIL.Image


def noise(seed: int, height: int, width: int) -> np.ndarray:
  """Smooth random pictures: JPEG keeps them, and resizing shows mistakes."""
  rng = np.random.default_rng(seed)
  small = rng.integers(0, 256, (6, 8, 3), np.uint8)
  image = PIL.Image.fromarray(small).resize((width, height), 2)
  return np.array(image)


def save(path: pathlib.Path, array: np.ndarray, **arguments) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  # Quick rather than small.
  PIL.Image.fromarray(array).save(path, **{"compress_level": 1, **arguments})


def blocks(count: int, height: int, width: int) -> np.ndarray:
  """Label map [h, w] uint8: background, and `count` vertical stripes."""
  labels = np.zeros((height, width), np.uint8)
  columns = np.linspace(width // 4, 3 * width // 4, count + 1).astype(int)
  for i in range(count):
    labels[height // 3 : -height // 3, columns[i] : columns[i + 1]] = i + 1
  return labels


def clevr_mirror(root, count=20, scenes=True, top="CLEVRMirror"):
  """128x128 PNGs with random numbers, and a scene file for each."""
  base = root / top
  numbers = np.random.default_rng(1).choice(10**10, count, replace=False)
  for i, number in enumerate(numbers):
    name = f"CLEVR_new_{number:010d}"
    save(base / "images" / f"{name}.png", noise(i, 128, 128))
    if scenes:
      path = base / "scenes" / f"{name}.json"
      path.parent.mkdir(exist_ok=True)
      objects = [{"shape": "cube"}] * (3 + i % 4)
      path.write_text(json.dumps({"split": "new", "objects": objects}))
  if scenes:
    (base / "CLEVR_scenes.json").write_text('{"scenes": []}')
  return root


SCENARIOS = {
  "train": [
    "env_blocks-easy-h=2-vcom=0-vpsf=0-v=1",
    "env_ccs-hard-h=6-vcom=1-vpsf=0-v=60",
  ],
  "eval": ["env_ccs-easy-h=3-vcom=0-vpsf=2-v=7"],
  "test": ["env_ccs-hard-h=2-vcom=0-vpsf=0-v=60"],
}


def shapestacks(root, masks="recordings"):
  """Two cameras of two looks for each scenario; a split without newline."""
  for split, names in SCENARIOS.items():
    listing = root / "splits" / "default" / f"{split}.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    # Published lists end in a newline or not.
    listing.write_text("\n".join(names) + ("\n" if split == "eval" else ""))
    for number, name in enumerate(names):
      height = int(name.split("-h=")[1][0])
      for camera in (1, 14):
        for look in (0, 3):
          for frame in (0, 1)[: 2 - bool(look)]:
            save(
              root
              / "recordings"
              / name
              / f"rgb-w={look}-f=1-l=2-c=unique-cam_{camera}-mono-{frame}.png",
              noise(100 * number + 10 * camera + look + frame, 224, 224),
            )
        if masks:
          path = root / masks / name
          path.mkdir(parents=True, exist_ok=True)
          labels = blocks(height, 224, 224)
          if camera == 14:
            labels = labels[:, ::-1]
          matplotlib.image.imsave(
            path / f"iseg-w=0-f=0-l=0-c=original-cam_{camera}-mono-0.map",
            labels,
            cmap="gray",
            vmin=0,
            vmax=8,
            format="png",
          )
  return root


PALETTE = [0, 0, 0, 255, 0, 0, 0, 128, 0, 0, 0, 255, 255, 255, 0, 255, 0, 255]


def clevrtex(root, count=20, version=1, masks=True, scenes=True):
  """320x240 PNGs with transparency, palette masks and scenes."""
  prefix = "CLEVRTEX" if version == 1 else "CLEVRTEXv2"
  for i in range(count):
    base = root / f"{prefix.lower()}_full" / str(i // 8)
    stem = f"{prefix}_full_{i:06d}"
    frame = "" if version == 1 else f"_{i % 3:04d}"
    alpha = np.full((240, 320, 1), 200, np.uint8)
    image = np.concatenate([noise(i, 240, 320), alpha], axis=-1)
    save(base / f"{stem}{frame}.png", image)
    if i == 0:
      save(base / f"{stem}_normal_0001.png", image)
    if masks:
      picture = PIL.Image.fromarray(blocks(3 + i % 3, 240, 320), "P")
      picture.putpalette(PALETTE)
      name = "flat" if version == 1 else f"sem{frame}"
      picture.save(base / f"{stem}_{name}.png")
    if scenes:
      objects = [{"shape": "cube", "material": "x"}] * (3 + i % 3)
      values = {"ground_material": "y", "objects": objects}
      (base / f"{stem}.json").write_text(json.dumps(values))
  return root


def coco_annotations(names, size=(40, 60)):
  """Two overlapping boxes and a crowd for each image but the last."""
  height, width = size
  images = [
    {"id": 1000 + i, "file_name": name, "height": height, "width": width}
    for i, name in enumerate(names)
  ]
  annotations = []
  for image in images[:-1]:
    for category, box in ((50, (10, 5, 30, 25)), (3, (20, 15, 50, 35))):
      left, top, right, bottom = box
      outline = [left, top, right, top, right, bottom, left, bottom]
      annotations.append(
        {
          "id": len(annotations),
          "image_id": image["id"],
          "category_id": category,
          "iscrowd": 0,
          "segmentation": [outline],
        }
      )
    counts = [0, height * width]
    annotations.append(
      {
        "id": len(annotations),
        "image_id": image["id"],
        "category_id": 1,
        "iscrowd": 1,
        "segmentation": {"counts": counts, "size": [height, width]},
      }
    )
  return {"images": images, "annotations": annotations, "categories": []}


def coco(root, counts=(5, 3, 2), masks=True):
  """JPEGs of 40x60, the second of each split gray; test2017 without masks."""
  for split, count in zip(("train", "val", "test"), counts, strict=True):
    names = [f"{7 * i + 1:012d}.jpg" for i in range(count)]
    for i, name in enumerate(names):
      image = noise(i, 40, 60)
      image = image[..., 0] if i == 1 else image
      save(root / f"{split}2017" / name, image, quality=95)
    if masks and split != "test":
      path = root / "annotations" / f"instances_{split}2017.json"
      path.parent.mkdir(exist_ok=True)
      path.write_text(json.dumps(coco_annotations(names)))
  return root
