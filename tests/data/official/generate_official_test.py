"""Files of procedural scenes, read with stock tf.data."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import official_files
import pytest

from slot_attention.data.official import generate_official
from slot_attention.data.official import multi_object_specs
from slot_attention.data.procedural import multi_dsprites
from slot_attention.data.procedural import scenes
from slot_attention.data.procedural import tetrominoes

DSPRITES = [f"multi_dsprites_{name}" for name in multi_dsprites.VARIANTS]
COUNT = 12


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  return tmp_path_factory.mktemp("official")


@pytest.fixture(scope="module")
def records(directory):
  """Returns the records of a data set, which is written on first use."""

  @functools.cache
  def get(dataset):
    path = generate_official.generate(dataset, directory, COUNT, seed=5)
    spec = generate_official.DATASETS[dataset].spec
    assert path == directory / multi_object_specs.SPECS[spec].file
    return official_files.read(path, spec)

  return get


def test_tetrominoes(records):
  examples = records("tetrominoes")
  assert len(examples) == COUNT
  for record in examples:
    shape, x, y = (
      jnp.asarray(record[name][1:], jnp.int32) for name in ("shape", "x", "y")
    )
    image, labels = tetrominoes.render(shape, x, y, record["color"][1:])
    np.testing.assert_array_equal(record["image"], image)
    np.testing.assert_array_equal(record["labels"], labels)
    np.testing.assert_array_equal(record["visibility"], 1)


@pytest.mark.parametrize("dataset", DSPRITES)
def test_multi_dsprites(records, dataset):
  examples = records(dataset)
  assert len(examples) == COUNT
  render = jax.jit(multi_dsprites.render)
  for record in examples:
    image, labels = render(
      shape=jnp.asarray(record["shape"][1:], jnp.int32),
      visible=record["visibility"][1:] > 0,
      colors=record["color"],
      **{name: record[name][1:] for name in ("scale", "orientation", "x", "y")},
    )
    assert np.sum(record["labels"] != labels) <= 1
    assert np.sum(record["image"] != np.asarray(image)) <= 3
    assert record["visibility"][0] == 1
    assert record["labels"].max() == record["visibility"].sum() - 1


def test_clevr_with_masks(directory, monkeypatch):
  # The pictures are slow to draw in full: fewer rays per pixel will do.
  fast = dataclasses.replace(
    generate_official.DATASETS["clevr_with_masks"],
    configure=lambda least, most: dataclasses.replace(
      generate_official._clevr_config(least, most), antialias=1
    ),
    chunk=2,
  )
  monkeypatch.setitem(generate_official.DATASETS, "clevr_with_masks", fast)
  path = generate_official.generate(
    "clevr_with_masks", directory, 3, min_num_objects=4, max_num_objects=5
  )
  examples = official_files.read(path, "clevr")
  assert len(examples) == 3
  config = fast.configure(4, 5)
  make = jax.jit(scenes.generate_with_masks, static_argnums=1)
  for i, record in enumerate(examples):
    key = jax.random.fold_in(jax.random.key(0), i)
    expected = jax.device_get(make(key, config))
    assert np.mean(record["labels"] != expected["segmentation"]) < 1e-4
    difference = record["image"].astype(int) - expected["image"]
    assert np.mean(np.abs(difference)) < 0.01
    factors = record.keys() - {"image", "mask", "labels"}
    assert factors == expected.keys() - {
      "image",
      "segmentation",
      "num_objects",
    }
    for name in factors:
      np.testing.assert_allclose(record[name], expected[name], rtol=1e-6)
    count = record["labels"].max()
    assert 4 <= count <= 5
    assert record["visibility"].sum() == count + 1


def test_scenes_of_published_clevr():
  generator = generate_official.DATASETS["clevr_with_masks"]
  config = generator.configure(*generator.num_objects)
  assert config.resolution == (240, 320)
  assert config.window == (0, 0, 240, 320)
  assert config.antialias == 2
  assert (config.min_num_objects, config.max_num_objects) == (3, 10)
  assert config.position_range == 3
  assert config.min_visible_pixels == 200


def test_longer_files_begin_with_shorter_ones(tmp_path, records):
  chunk = generate_official.DATASETS["tetrominoes"].chunk
  path = generate_official.generate("tetrominoes", tmp_path, chunk + 3, seed=5)
  longer = official_files.read(path, "tetrominoes")
  assert len(longer) == chunk + 3
  for expected, actual in zip(records("tetrominoes"), longer, strict=False):
    for name, value in expected.items():
      np.testing.assert_array_equal(actual[name], value)
  assert len({record["image"].tobytes() for record in longer}) == chunk + 3


def test_seeds_differ(tmp_path, records):
  path = generate_official.generate("tetrominoes", tmp_path, 1, seed=6)
  (other,) = official_files.read(path, "tetrominoes")
  assert np.any(other["image"] != records("tetrominoes")[0]["image"])


def test_numbers_of_objects_are_those_asked_for(tmp_path):
  path = generate_official.generate(
    DSPRITES[1], tmp_path, 40, min_num_objects=4, max_num_objects=4
  )
  for record in official_files.read(path, DSPRITES[1]):
    assert record["visibility"].sum() == 5


def test_existing_files_are_left_alone(tmp_path):
  spec = multi_object_specs.SPECS["tetrominoes"]
  path = tmp_path / spec.file
  path.parent.mkdir()
  path.write_text("mine")
  with pytest.raises(FileExistsError, match="exists"):
    generate_official.generate("tetrominoes", tmp_path, 1)
  assert path.read_text() == "mine"


def test_refusals(tmp_path):
  with pytest.raises(ValueError, match="'clevr'; choose one of tetrominoes"):
    generate_official.generate("clevr", tmp_path, 1)
  with pytest.raises(ValueError, match="Tetrominoes have 3 objects"):
    generate_official.generate("tetrominoes", tmp_path, 1, max_num_objects=4)
  with pytest.raises(ValueError, match="at most 10"):
    generate_official.generate(
      "clevr_with_masks", tmp_path, 1, max_num_objects=12
    )
  assert not list(tmp_path.rglob("*.tfrecords*"))
