import json

import contract
import numpy as np
import pytest

from slot_attention.data import movi
from slot_attention.data.tfds import generate_movi
from slot_attention.data.tfds import movi_spec

tfds = pytest.importorskip("tensorflow_datasets")

SIZE, NUM_FRAMES = (32, 32), 4


@pytest.fixture(scope="module", params=["movi_c", "movi_d"])
def generated(request, tmp_path_factory):
  output = tmp_path_factory.mktemp(request.param)
  path = generate_movi.generate(
    request.param,
    str(output),
    {"train": 2, "validation": 1},
    size=SIZE,
    num_frames=NUM_FRAMES,
    antialias=1,
  )
  assert path == output / request.param / "32x32/1.0.0"
  return request.param, output, path


def load(generated, split="train"):
  dataset, output, _ = generated
  videos = tfds.load(f"{dataset}/32x32:1.0.0", data_dir=output, split=split)
  return list(videos.as_numpy_iterator())


def test_layout_is_the_published_one(generated):
  dataset, _, path = generated
  names = {file.name for file in path.iterdir()}
  assert names == {
    "features.json",
    "dataset_info.json",
    f"{dataset}-train.tfrecord-00000-of-00001",
    f"{dataset}-validation.tfrecord-00000-of-00001",
  } | {name for name in names if name.endswith(".labels.txt")}
  info = json.loads((path / "dataset_info.json").read_text())
  assert info["description"].startswith("Procedural videos in the form of")
  assert (info["name"], info["version"]) == (dataset, "1.0.0")
  builder = tfds.builder_from_directory(path)
  expected = movi_spec.build_features(dataset, SIZE, NUM_FRAMES)
  assert builder.info.features.keys() == expected.keys()
  assert repr(builder.info.features) == repr(expected)


def test_published_features():
  """What the README of the published sets says."""
  info = movi_spec.build_features("movi_d", (256, 256)).get_tensor_info()
  shapes = {
    "video": (24, 256, 256, 3),
    "segmentations": (24, 256, 256, 1),
    "forward_flow": (24, 256, 256, 2),
    "backward_flow": (24, 256, 256, 2),
    "depth": (24, 256, 256, 1),
    "normal": (24, 256, 256, 3),
    "object_coordinates": (24, 256, 256, 3),
  }
  for name, shape in shapes.items():
    assert info[name].shape == shape, name
    is_byte = name in ("video", "segmentations")
    assert info[name].np_dtype == (np.uint8 if is_byte else np.uint16)
  assert "is_dynamic" in info["instances"]
  assert (
    "is_dynamic"
    not in movi_spec.build_features("movi_c", (8, 8))["instances"].feature
  )


def test_our_reader_gives_the_stock_readers_pixels(generated):
  dataset, output, _ = generated
  source = contract.Widened(
    movi.open_movi(dataset, str(output), "validation", movi.View(SIZE), "32x32")
  )
  (video,) = load(generated, "validation")
  (batch,) = source.eval_batches(NUM_FRAMES, slice(None))
  found = {x.tobytes() for x in np.rint((batch["image"] + 1) * 127.5)}
  assert found == {x.astype(np.float32).tobytes() for x in video["video"]}
  order = source.records
  np.testing.assert_array_equal(
    batch["segmentation"], video["segmentations"][order][..., 0]
  )
  assert set(batch["num_objects"]) == {video["metadata"]["num_instances"]}


def test_videos_are_what_their_descriptions_say(generated):
  for video in load(generated):
    masks = video["segmentations"][..., 0]  # [f, h, w]
    count = int(video["metadata"]["num_instances"])
    least, most = {"movi_c": (3, 10), "movi_d": (11, 23)}[generated[0]]
    assert least <= count <= most and masks.max() <= count
    instances = video["instances"]
    assert len(instances["mass"]) == count
    seen = np.stack([(masks == i + 1).sum(axis=(1, 2)) for i in range(count)])
    np.testing.assert_array_equal(instances["visibility"], seen)
    totals = seen.sum(axis=1)
    assert (np.diff(totals) <= 0).all()  # Sorted, as published.
    frames = instances["bbox_frames"]
    boxes = instances["bboxes"]
    for i in range(count):
      np.testing.assert_array_equal(frames[i], np.flatnonzero(seen[i]))
      for frame, box in zip(frames[i], boxes[i], strict=True):
        rows, columns = np.nonzero(masks[frame] == i + 1)
        expected = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
        np.testing.assert_allclose(box, np.array(expected) / 32, atol=1e-6)
    np.testing.assert_allclose(
      np.linalg.norm(instances["quaternions"], axis=-1), 1, atol=1e-5
    )


def test_objects_move_as_the_flow_says(generated):
  """A pixel that the flow leads to an object shows the same point of it."""
  errors, moved = [], 0
  for video in load(generated):
    low, high = video["metadata"]["forward_flow_range"]
    flow = video["forward_flow"] / 65535 * (high - low) + low
    masks = video["segmentations"][..., 0]
    points = video["object_coordinates"] / 65535
    for f in range(NUM_FRAMES - 1):
      rows, columns = np.nonzero(masks[f])
      target = np.rint(np.stack([rows, columns], 1) + flow[f, rows, columns])
      target = target.astype(int)
      inside = ((target >= 0) & (target < 32)).all(axis=1)
      rows, columns, target = rows[inside], columns[inside], target[inside]
      same = masks[f + 1][*target.T] == masks[f][rows, columns]
      moved += np.count_nonzero(np.abs(flow[f]).max(axis=-1) > 1)
      before = points[f, rows, columns][same]
      after = points[f + 1][*target.T][same]
      errors.append(np.abs(before - after).max(axis=-1))
  assert moved > 50
  assert np.median(np.concatenate(errors)) < 0.1


def test_splits_and_videos_differ(generated):
  videos = [*load(generated), *load(generated, "validation")]
  assert [x["metadata"]["video_name"] for x in videos] == [
    b"procedural_train_0",
    b"procedural_train_1",
    b"procedural_validation_0",
  ]
  assert len({x["video"].tobytes() for x in videos}) == 3


def test_a_larger_set_begins_with_the_smaller(generated, tmp_path):
  dataset, _, _ = generated
  path = generate_movi.generate(
    dataset,
    str(tmp_path),
    {"train": 1},
    size=SIZE,
    num_frames=NUM_FRAMES,
    antialias=1,
  )
  first = load((dataset, tmp_path, path))[0]
  np.testing.assert_array_equal(first["video"], load(generated)[0]["video"])


@pytest.mark.parametrize(
  "arguments, message",
  [
    ({"size": (32, 48)}, "32x48 pixels were asked for; they are square"),
    ({"limits": (3, 11)}, "with 3 to 11 objects was asked for; it can have 1"),
    ({"num_videos": {}}, "There is no example to write to"),
  ],
)
def test_what_cannot_be_written(tmp_path, arguments, message):
  defaults = {"num_videos": {"train": 1}}
  with pytest.raises(ValueError, match=message):
    generate_movi.generate("movi_c", str(tmp_path), **(defaults | arguments))
  assert not list(tmp_path.glob("*/*/*"))
