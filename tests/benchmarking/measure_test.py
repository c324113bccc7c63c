"""Times of calls: how many, and of what."""

import time

import jax
import jax.numpy as jnp
import pytest

from slot_attention.benchmarking import measure


def test_groups_are_waited_for_and_warmup_is_not_counted():
  calls = []

  def call():
    calls.append(0)
    time.sleep(0.2 if len(calls) <= 2 else 0.01)
    return jnp.zeros([])

  seconds = measure.in_groups(call, 3, 4, warmup=2)
  assert len(calls) == 2 + 3 * 4
  assert len(seconds) == 3
  # Seconds are per call.
  assert all(0.01 <= value < 0.04 for value in seconds)
  assert len(measure.each(call, 5)) == 5
  assert len(calls) == 14 + 1 + 5


def test_calls_take_turns(monkeypatch):
  calls, now = [], 0.0

  def call_of(name, seconds):
    def call():
      nonlocal now
      calls.append(name)
      now += seconds
      return jnp.zeros([])

    return call

  monkeypatch.setattr(time, "monotonic", lambda: now)
  slow, fast = measure.alternately(
    [(call_of("a", 0.5), 2), (call_of("b", 0.125), 1)], 3
  )
  assert "".join(calls) == "ab" + 3 * "aab"
  assert slow == 3 * [0.5]
  assert fast == 3 * [0.125]


def test_results_whose_memory_is_taken_need_no_waiting():
  add = jax.jit(lambda x: x + 1, donate_argnums=0)
  value = jnp.zeros(4)

  def call():
    nonlocal value
    value = add(value)
    return value

  measure.in_groups(call, 2, 3)
  assert value[0] == 1 + 2 * 3


def test_summary():
  summary = measure.summarize([4.0, 1.0, 3.0, 2.0, 10.0])
  assert summary == {
    "median": 3.0,
    "first_quartile": 2.0,
    "third_quartile": 4.0,
    "min": 1.0,
    "max": 10.0,
    "mean": pytest.approx(4.0),
    "count": 5,
  }
