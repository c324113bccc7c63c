from absl import logging
import pytest

from slot_attention.data import progress as progress_lib


@pytest.fixture
def clock(monkeypatch):
  """Seconds, which pass when the test says so."""
  now = [100.0]
  monkeypatch.setattr(progress_lib.time, "monotonic", lambda: now[0])
  return now


@pytest.fixture
def lines(monkeypatch):
  found = []
  monkeypatch.setattr(logging, "info", lambda *parts: found.append(parts))
  return found


def test_known_number(clock, lines):
  progress = progress_lib.Progress(4)
  for seconds in (1, 40, 1, 8):
    clock[0] += seconds
    progress.count()
  assert progress.done == 4
  assert [line % values for line, values in lines] == [
    "2 of 4 examples written, 0.0 a second, 41 s left.",
    "4 of 4 examples written, 0.1 a second, 0 s left.",
  ]


def test_known_part(clock, lines):
  progress = progress_lib.Progress(what="records read")
  for fraction in (0.1, 0.25):
    clock[0] += 20
    progress.count(fraction)
  clock[0] += 35
  progress.count()
  assert [line % values for line, values in lines] == [
    "2 records read, 0.1 a second, 120 s left.",
    "3 records read, 0.0 a second.",
  ]
