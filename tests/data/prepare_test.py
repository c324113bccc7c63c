import json
import subprocess
import sys

import image_trees
import made_up_records
import pytest

from slot_attention.data import converted
from slot_attention.data.official import multi_object_specs
from slot_attention.data.records import record_stream

tfds = pytest.importorskip("tensorflow_datasets")


def run(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "slot_attention.data.prepare", *arguments],
    capture_output=True,
    text=True,
    check=False,
  )


def succeed(*arguments):
  process = run(*arguments)
  assert process.returncode == 0, process.stderr
  return process


def last_error(*arguments):
  process = run(*arguments)
  assert process.returncode == 1
  assert "Traceback" not in process.stderr
  return process.stderr.strip().splitlines()[-1].split("] ")[-1]


def load(data_dir, split):
  dataset = tfds.load("clevr:3.1.0", data_dir=str(data_dir), split=split)
  return list(dataset.as_numpy_iterator())


def test_generates_clevr(tmp_path):
  arguments = [
    "generate",
    "--dataset=clevr",
    f"--output={tmp_path}",
    "--num_train=3",
    "--num_validation=1",
    "--height=16",
    "--width=24",
    "--max_num_objects=4",
  ]
  process = run(*arguments)
  assert process.returncode == 0, process.stderr
  assert "4 of 4 examples written" in process.stderr
  assert len(load(tmp_path, "train")) == 3
  assert len(load(tmp_path, "validation")) == 1
  again = run(*arguments)
  assert again.returncode == 1
  last_line = again.stderr.strip().splitlines()[-1]
  assert last_line.endswith(
    f"] {tmp_path}/clevr/3.1.0 exists and is not empty; remove it or choose "
    "another directory."
  )


def test_unknown_subcommand(tmp_path):
  process = run("genrate", f"--output={tmp_path}")
  assert process.returncode == 1
  assert process.stderr.strip().endswith(
    "Give one of the subcommands convert, features, generate, inspect, not "
    "genrate."
  )


def test_generates_published_format(tmp_path):
  succeed(
    "generate",
    "--dataset=tetrominoes",
    f"--output={tmp_path}",
    "--num_train=4",
    "--seed=3",
  )
  path = tmp_path / multi_object_specs.SPECS["tetrominoes"].file
  assert len(list(record_stream.read_records(path))) == 4
  process = succeed("inspect", f"--input={path}")
  assert "data set  tetrominoes" in process.stdout
  assert "visible: records; 3: 4" in process.stdout


def test_converts(tmp_path):
  source = made_up_records.write(tmp_path / "source", "clevr", 3)
  arguments = ["convert", "--dataset=clevr_with_masks", f"--input={source}"]
  succeed(*arguments, f"--output={tmp_path / 'a'}", "--records_per_shard=2")
  info = converted.read_info(tmp_path / "a")
  assert (info.dataset, info.crop) == ("clevr", (29, 64, 192, 192))
  assert (info.resolution, info.shard_lengths) == ((192, 192), (2, 1))
  succeed(
    *arguments,
    f"--output={tmp_path / 'b'}",
    "--crop=",
    "--resolution=24,32",
    "--num_records=1",
  )
  info = converted.read_info(tmp_path / "b")
  assert (info.crop, info.resolution) == ((), (24, 32))
  assert info.num_records == 1


def test_inspects(tmp_path):
  source = made_up_records.write(tmp_path / "source", "tetrominoes", 3)
  output = tmp_path / "report.json"
  arguments = ["inspect", f"--input={source}", f"--output={output}"]
  succeed(*arguments, "--dataset=tetrominoes")
  (report,) = json.loads(output.read_text())
  assert report["num_records"] == 3
  assert report["error"] is None
  assert "its features are color" in last_error(*arguments, "--dataset=clevr")
  (report,) = json.loads(output.read_text())
  assert (report["corrupt_record"], report["corrupt_offset"]) == (0, 0)


@pytest.mark.parametrize(
  "arguments, message",
  [
    (["inspect"], "This subcommand needs --input."),
    (["generate"], "This subcommand needs --output."),
    (["convert"], "This subcommand needs --input and --dataset and --output."),
    (
      ["convert", "--input=/no", "--dataset=clevr", "--output=/no"],
      "There is no file /no to convert.",
    ),
    (
      [
        "convert",
        "--input=/no",
        "--dataset=clevr",
        "--output=/no",
        "--crop=1,2,x",
      ],
      "--crop=1,2,x is not a list of whole numbers.",
    ),
    (["inspect", "--input=/no"], "There is no TFRecord file at /no."),
  ],
)
def test_wrong_command_lines(arguments, message):
  assert last_error(*arguments) == message


def test_folders_of_images(tmp_path):
  root = image_trees.clevrtex(tmp_path / "source", count=10)
  process = succeed("inspect", "--dataset=clevrtex", f"--input={root}")
  assert "validation of clevrtex" in process.stdout
  output = tmp_path / "out"
  succeed(
    "convert",
    "--dataset=clevrtex",
    f"--input={root}",
    f"--output={output}",
    "--resolution=16,24",
    "--center_crop=0.8",
    "--interpolation=bicubic_antialiased",
  )
  info = converted.read_info(output / "train")
  assert (info.resolution, info.center_crop) == ((16, 24), 0.8)
  assert info.interpolation == "bicubic_antialiased"
  process = succeed("inspect", "--dataset=clevrtex", f"--input={output}")
  assert process.stdout.count("nothing") == 3
  sentence = last_error("inspect", f"--input={root / 'x.zip'}")
  assert "There is no TFRecord file" in sentence
