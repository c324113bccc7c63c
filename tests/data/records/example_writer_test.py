import made_up_records
import numpy as np
import official_files
import pytest

from slot_attention.data.official import multi_object_specs
from slot_attention.data.records import example_writer

pytest.importorskip("tensorflow")

SPEC = multi_object_specs.SPECS["tetrominoes"]


@pytest.mark.parametrize("name", sorted(multi_object_specs.SPECS))
def test_tensorflow_reads_what_is_written(tmp_path, name):
  spec = multi_object_specs.SPECS[name]
  path = tmp_path / spec.file
  examples = list(made_up_records.examples(name, 2))
  assert example_writer.write_examples(path, spec, iter(examples), 2) == 2
  read = official_files.read(path, name)
  assert len(read) == 2
  for example, record in zip(examples, read, strict=True):
    for key, array in example.items():
      np.testing.assert_array_equal(record[key], array)


def test_the_bytes_depend_on_the_examples_alone(tmp_path):
  contents = []
  for name in ("a", "b"):
    path = made_up_records.write(tmp_path / name, "tetrominoes", 3)
    contents.append(path.read_bytes())
  assert contents[0] == contents[1]
  assert contents[0][:2] == b"\x1f\x8b"
  assert contents[0][4:8] == bytes(4)  # No time.
  other = made_up_records.write(tmp_path / "c", "tetrominoes", 3, seed=1)
  assert other.read_bytes() != contents[0]


def damaged(**changes):
  (example,) = made_up_records.examples("tetrominoes", 1)
  return {
    name: array
    for name, array in (example | changes).items()
    if array is not None
  }


@pytest.mark.parametrize(
  "changes, message",
  [
    (
      {"x": np.zeros(3, np.float32)},
      r"Example 1: 'x' is float32 \[3\] instead of float32 \[4\]",
    ),
    ({"x": np.zeros(4)}, r"'x' is float64 \[4\] instead of float32 \[4\]"),
    ({"x": None}, "its features are .* instead of color, image, mask, shape"),
    ({"z": np.zeros(4, np.float32)}, "its features are .*, z instead of"),
  ],
)
def test_wrong_examples(tmp_path, changes, message):
  path = tmp_path / "file"
  with pytest.raises(ValueError, match=message):
    example_writer.write_examples(
      path, SPEC, iter([damaged(), damaged(**changes)])
    )
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "count, message", [(4, "to have 5 examples, but 4"), (0, "no example to")]
)
def test_number_of_examples(tmp_path, count, message):
  examples = made_up_records.examples("tetrominoes", count)
  with pytest.raises(ValueError, match=message):
    example_writer.write_examples(tmp_path / "file", SPEC, examples, 5)
  assert not list(tmp_path.iterdir())


def test_nothing_is_seen_before_the_end(tmp_path):
  def interrupted():
    yield damaged()
    assert [x.name for x in tmp_path.iterdir()] == ["incomplete.file"]
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    example_writer.write_examples(tmp_path / "file", SPEC, interrupted())
  assert not list(tmp_path.iterdir())


def test_existing_files_stay(tmp_path):
  path = made_up_records.write(tmp_path / "file", "tetrominoes", 1)
  content = path.read_bytes()
  with pytest.raises(FileExistsError, match="file exists; remove it"):
    made_up_records.write(path, "tetrominoes", 2)
  assert path.read_bytes() == content
