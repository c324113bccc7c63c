"""The schedule, against rates of the published implementation."""

import pathlib

import numpy as np
import pytest

from slot_attention import schedules

ARRAYS = dict(
  np.load(pathlib.Path(__file__).parent / "data" / "google_tf_schedule.npz")
)


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
