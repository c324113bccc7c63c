"""Grids: the encoder runs once, steps compile once, groups add up."""

import jax
import numpy as np
import pytest

from configs import clevr_object_discovery
from slot_attention import evaluator as evaluator_lib
from slot_attention import sharding
from slot_attention import tasks
from slot_attention.data import pipeline

SETTINGS = [(4, 3), (4, 1), (6, 3)]


@pytest.fixture(scope="module")
def run():
  """An evaluator of 20 images in three batches, variables, and counters."""
  config = clevr_object_discovery.get_config("smoke")
  mesh = sharding.create_mesh()
  with jax.set_mesh(mesh):
    task = tasks.create_task(config)
    counts = {"encode": 0, "eval_step": 0}

    def counted(name):
      original = getattr(task, name)

      def call(*args):
        counts[name] += 1  # Only tracing comes here.
        return original(*args)

      return call

    for name in counts:
      setattr(task, name, counted(name))
    source = pipeline.open_source(config.data, "validation", mesh)
    evaluator = evaluator_lib.Evaluator(task, source, mesh, 8, 20)
    yield evaluator, jax.jit(task.init)(jax.random.key(0)), counts


@pytest.fixture(scope="module")
def grid(run):
  evaluator, variables, counts = run
  original, calls = evaluator._encode, []
  evaluator._encode = lambda *args: calls.append(0) or original(*args)
  results = evaluator.evaluate_grid(variables, SETTINGS, [1, 2, 3, 9])
  evaluator._encode = original
  return results, len(calls), dict(counts)


def test_encoder_runs_once_per_batch_and_steps_are_traced_once(grid, run):
  evaluator, variables, counts = run
  _, calls, traces = grid
  assert calls == 3
  assert traces == {"encode": 1, "eval_step": len(SETTINGS)}
  evaluator.evaluate_grid(variables, SETTINGS)
  assert counts == traces


def test_a_setting_scores_the_same_alone(grid, run):
  evaluator, variables, _ = run
  results, _, _ = grid
  for setting, result in zip(SETTINGS, results, strict=True):
    assert evaluator.evaluate(variables, *setting) == result[evaluator_lib.ALL]
  losses = {result[evaluator_lib.ALL]["loss"] for result in results}
  assert len(losses) == len(SETTINGS)


def test_from_the_features_as_from_the_images(run):
  evaluator, variables, _ = run
  task = evaluator.task
  batch = next(evaluator.source.eval_batches(8, 8))
  rngs = {"slots": jax.random.key(1)}
  inputs = task.encode(variables, batch["image"])
  assert inputs.shape[0] == 8 and inputs.ndim == 3
  expected = task.predict(variables, batch["image"], rngs, 5, 2)
  found = task.predict(variables, batch["image"], rngs, 5, 2, inputs=inputs)
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
  # The features alone count: those of other images give other slots.
  other = task.predict(
    variables, batch["image"], rngs, 5, 2, None, inputs[::-1]
  )
  assert np.abs(other["slots"] - expected["slots"]).max() > 0


def test_groups_of_objects_make_up_the_whole(grid):
  results, _, _ = grid
  for result in results:
    groups = [result[n] for n in (1, 2, 3) if result[n]["num_examples"]]
    assert len(groups) > 1
    counts = [group["num_examples"] for group in groups]
    whole = result[evaluator_lib.ALL]
    assert sum(counts) == whole["num_examples"] == 20
    for name in ("mse", "ari_fg"):
      np.testing.assert_allclose(
        np.average([group[name] for group in groups], weights=counts),
        whole[name],
        rtol=1e-5,
      )
    assert result[9] == {"num_examples": 0}


def test_groups_need_the_number_of_objects(run):
  evaluator, _, _ = run
  with pytest.raises(ValueError, match="has no num_objects"):
    evaluator._summarize({"mse": [np.ones(3)]}, [3])


def test_figures_show_the_slots_of_the_evaluation(run):
  evaluator, variables, _ = run
  outputs, batch = evaluator.examples(variables, 3, 5, 2)
  assert batch["image"].shape[0] == outputs["slots"].shape[0] == 3
  assert outputs["attention"].shape[1:3] == (2, 5)
  figures = evaluator.figures(variables, 2)
  assert {len(pictures) for pictures in figures.values()} == {2}
  assert evaluator.figures(variables, 0) == {}
