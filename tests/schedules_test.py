"""Schedules, against rates of the published implementations."""

import pathlib

import numpy as np
import pytest

from slot_attention import schedules

DATA = pathlib.Path(__file__).parent / "data"
ARRAYS = dict(np.load(DATA / "google_tf_schedule.npz"))
TORCH = dict(np.load(DATA / "optimizers_torch.npz"))
SLATE = {
  name.removeprefix("schedules/"): value
  for name, value in np.load(DATA / "slate_torch_training.npz").items()
  if name.startswith("schedules/")
}


@pytest.mark.parametrize("task", ["set_prediction", "object_discovery"])
def test_equals_original(task):
  schedule = schedules.warmup_exponential_decay(
    float(ARRAYS[f"{task}/base_learning_rate"]),
    int(ARRAYS[f"{task}/warmup_steps"]),
    float(ARRAYS[f"{task}/decay_rate"]),
    int(ARRAYS[f"{task}/decay_steps"]),
  )
  rates = [schedule(step) for step in ARRAYS[f"{task}/step"]]
  np.testing.assert_allclose(rates, ARRAYS[f"{task}/learning_rate"], rtol=1e-6)


def test_without_warmup_starts_at_the_base_rate():
  schedule = schedules.warmup_exponential_decay(4e-4, 0, 0.5, 100)
  np.testing.assert_allclose([schedule(0), schedule(100)], [4e-4, 2e-4])


@pytest.mark.parametrize(
  ("task", "rate", "start_factor"),
  [
    ("object_discovery", 4e-4 * 0.5**0.1, 1e-3),
    ("property_prediction", 4e-4 * 0.5**0.1, 1e-3),
    ("dinosaur", 4e-4, 1e-8),
  ],
)
def test_equals_paper_c(task, rate, start_factor):
  schedule = schedules.warmup_then_decay(
    rate, 10_000, 0.5, 100_000, start_factor
  )
  rates = [schedule(step) for step in TORCH["paper_c/steps"]]
  np.testing.assert_allclose(
    rates, TORCH[f"paper_c/{task}"], rtol=2e-6, atol=1e-12
  )


@pytest.mark.parametrize(
  "name", ["released", "paper_defaults", "short", "short30"]
)
def test_one_cycle_is_pytorchs(name):
  high, num_steps, fraction = TORCH[f"paper_b/{name}/max_lr_total_pct"]
  steps = TORCH[f"paper_b/{name}/step"]
  rate = schedules.one_cycle(
    high, int(num_steps), fraction, high / 25, high / 25 / 1e4
  )
  np.testing.assert_allclose(
    rate(steps), TORCH[f"paper_b/{name}/lr"], rtol=1e-4, atol=1e-7 * high
  )
  b1 = schedules.one_cycle(0.85, int(num_steps), fraction, 0.95, 0.95)
  np.testing.assert_allclose(
    b1(steps), TORCH[f"paper_b/{name}/beta1"], rtol=1e-6
  )


@pytest.mark.parametrize(
  ("name", "rate", "decay"),
  [("lr_main", 1e-4, 1.0), ("steve_lr_enc", 1e-4, 0.5)],
)
def test_equals_slates_warmup(name, rate, decay):
  schedule = schedules.warmup_exponential_decay(
    rate, 30_000, decay, 250_000, warmup_start=1
  )
  rates = schedule(SLATE["steps"])
  np.testing.assert_allclose(rates, SLATE[name], rtol=1e-6)


def test_equals_slates_temperature():
  schedule = schedules.cosine(1.0, 0.1, 30_000)
  np.testing.assert_allclose(schedule(SLATE["steps"]), SLATE["tau"], atol=2e-7)
