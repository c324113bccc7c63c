"""The FID in the evaluation of a run that generates images."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_pickles

from configs import coco_slate
from slot_attention import checkpoints
from slot_attention import evaluate
from slot_attention import evaluator
from slot_attention import run_files
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train_state
from slot_attention import train_step
from slot_attention.convert import inception
from slot_attention.convert import trees
from slot_attention.metrics import fid
from slot_attention.tasks import base

ROOT = pathlib.Path(__file__).parents[1]
SIZE = 12


def quadrants(images):
  """Stands for the network: means of the channels of each quarter."""
  b, h, w, c = images.shape
  parts = jnp.reshape(images, (b, 2, h // 2, 2, w // 2, c))
  return parts.mean(axis=(2, 4)).reshape(b, SIZE)  # [b, 2, 2, c] -> [b, 4 c]


def _direct(features, *sets):
  """The distance of features that are there all at once."""
  statistics = []
  for images in sets:
    rows = np.asarray(features(images), np.float64)
    mean, count = rows.mean(axis=0), len(rows)
    scatter = np.cov(rows, rowvar=False) * (count - 1)
    statistics.append(fid.FeatureStatistics(count, mean, scatter))
  return fid.frechet_distance(*statistics)


class _Halved(base.SlotTask):
  """Generates images that are the darker, the more slots there are."""

  def __init__(self):
    super().__init__(coco_slate.get_config("smoke"), None)

  def generates_images(self):
    return True

  def encode(self, variables, images):
    return images

  def eval_step(self, variables, batch, rngs, num_slots, iterations, inputs):
    generated = variables["scale"] ** num_slots * inputs
    mse = jnp.square(generated - batch["image"]).mean(axis=(1, 2, 3))
    return {"mse": mse, base.GENERATED: generated}

  def summarize(self, outputs):
    assert outputs.keys() == {"mse"}
    return {"mse": outputs["mse"].mean()}


class _Source:
  """Images in batches of 4, the last one padded."""

  num_examples = 10

  def __init__(self, mesh):
    rng = np.random.default_rng(0)
    self.images = rng.uniform(-1, 1, (12, 8, 8, 3)).astype(np.float32)
    self._mesh = mesh

  def eval_batches(self, batch_size, num_examples):
    for start in range(0, 12, batch_size):
      rows = np.arange(start, start + batch_size)
      batch = {
        "image": self.images[rows],
        "valid": rows < num_examples,
        "num_objects": rows % 2,
      }
      yield sharding.shard_batch(batch, self._mesh)


def test_every_setting_has_the_distance_of_all_images():
  mesh = sharding.create_mesh()
  source = _Source(mesh)
  runner = evaluator.Evaluator(_Halved(), source, mesh, 4, 10)
  distance = fid.FrechetInceptionDistance(quadrants, 2, SIZE)
  results = runner.evaluate_grid(
    {"scale": 0.5}, [(1, None), (3, None)], [0, 1], distance=distance
  )
  assert distance.count == 10
  real = source.images[:10]
  for result, scale in zip(results, (0.5, 0.125), strict=True):
    assert result["all"]["num_examples"] == 10
    expected = _direct(quadrants, real, scale * real)
    assert result["all"]["fid"] == pytest.approx(expected, rel=1e-5)
    for group in (0, 1):
      assert result[group].keys() == {"mse", "num_examples"}
  assert results[0]["all"]["fid"] < results[1]["all"]["fid"]


@pytest.fixture
def unopened():
  """A run, as far as the FID looks at it before it is evaluated."""
  config = coco_slate.get_config("smoke")
  mesh = sharding.create_mesh()
  task = tasks.create_task(config)
  runner = evaluator.Evaluator(task, _Source(mesh), mesh, 4, 10)
  return evaluate.Run(config, 0, {}, runner)


def test_without_weights_it_is_left_out(unopened, caplog):
  caplog.set_level("INFO")
  assert evaluate._create_distance(unopened, None, 1) is None
  assert inception.WITHOUT_WEIGHTS in caplog.text


def test_weights_are_looked_at_before_the_images(unopened, tmp_path):
  path = tmp_path / "weights.pth"
  with pytest.raises(FileNotFoundError, match=r"weights\.pth' is no file; the"):
    evaluate._create_distance(unopened, str(path), 1)
  torch_pickles.write_state_dict(path, {"a.weight": np.zeros((2, 3), "f4")})
  with pytest.raises(ValueError, match=r"weights\.pth does not hold the netw"):
    evaluate._create_distance(unopened, str(path), 1)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """A run that was not trained."""
  path = str(tmp_path_factory.mktemp("run"))
  config = coco_slate.get_config("smoke")
  config.eval.autoregressive = False  # As long as nobody asks for the FID.
  task = tasks.create_task(config)
  manager = checkpoints.Checkpoints(path, config.checkpoint)
  manager.save(1, train_step.create_state(task, config, sharding.create_mesh()))
  manager.close()
  run_files.write_config(path, config)
  return path


def _images(workdir, num_slots, **options):
  """All images of the split and what slots make of them, [n, h, w, 3] each."""
  real, generated = [], []
  with evaluate.open_run(workdir, **options) as run:
    task = run.evaluator.task

    @jax.jit
    def generate(images, rngs):
      outputs = task.predict(run.variables, images, rngs, num_slots)
      return task.generate(run.variables, outputs["slots"])[1]

    batches = run.evaluator.source.eval_batches(
      options["batch_size"], options["num_examples"]
    )
    for i, batch in enumerate(batches):
      rngs = train_state.step_rngs(evaluator._EVAL_SEED, np.uint32(i))
      valid = np.asarray(batch["valid"])
      real.append(np.asarray(batch["image"])[valid])
      generated.append(np.asarray(generate(batch["image"], rngs))[valid])
  return np.concatenate(real), np.concatenate(generated)


def _command(workdir, weights, *arguments):
  return subprocess.run(
    [
      *(sys.executable, "-m", "slot_attention.evaluate"),
      *(f"--workdir={workdir}", f"--inception_weights={weights}"),
      *arguments,
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )


def _write_weights(path):
  """Writes random weights by pytorch-fid's names."""
  rng = np.random.default_rng(0)
  names = {value: key for key, value in inception._LEAVES.items()}
  weights = {}
  for entry, value in trees.flatten(inception._shapes()).items():
    kind, *parents, layer, leaf = entry.split("/")
    shape = value.shape
    if leaf == "kernel":  # (kh, kw, in, out) -> (out, in, kh, kw)
      shape = (shape[3], shape[2], shape[0], shape[1])
    name = ".".join([*parents, names[kind, f"{layer}/{leaf}"]])
    weights[name] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if leaf == "kernel":
      deviation = np.sqrt(2 / np.prod(shape[1:]))
      weights[name] = (weights[name] - 1) * np.float32(deviation / 0.29)
  return torch_pickles.write_state_dict(path, weights)


@pytest.mark.slow
def test_the_command_with_a_file_of_the_network(workdir, tmp_path):
  output = tmp_path / "evaluation.json"
  missing = tmp_path / "none.pth"
  done = _command(workdir, missing, f"--output={output}")
  assert done.returncode == 1
  (sentence,) = [line for line in done.stderr.splitlines() if "none" in line]
  assert sentence.endswith(
    f"'{missing}' is no file; the FID needs "
    "pt_inception-2015-12-05-6726825d.pth of pytorch-fid."
  )
  assert not output.exists()
  weights = _write_weights(tmp_path / "weights.pth")
  options = {"num_examples": 6, "batch_size": 4}
  done = _command(
    workdir,
    weights,
    f"--output={output}",
    *(f"--{name}={value}" for name, value in options.items()),
  )
  assert done.returncode == 0, done.stderr
  assert "FID is of 6 images" in done.stderr
  assert "at most rank 5 in 2048 dimensions" in done.stderr
  (row,) = json.loads(output.read_text())["results"]
  assert row["num_examples"] == 6
  assert f"eval/fid {row['eval/fid']:.4g}" in done.stdout
  images = _images(workdir, None, **options)
  expected = _direct(inception.load(weights), *images)
  assert row["eval/fid"] == pytest.approx(expected, rel=1e-3)
