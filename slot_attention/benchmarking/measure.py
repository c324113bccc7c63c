"""Times calls, after warm-up, without fetching anything from the devices."""

from collections.abc import Callable, Sequence
import time
from typing import Any

import jax
import numpy as np

Call = Callable[[], Any]  # Dispatches work and returns arrays to wait for.


def each(call: Call, count: int, warmup: int = 1) -> list[float]:
  """Returns the seconds of calls that are waited for one by one."""
  return in_groups(call, count, 1, warmup)


def in_groups(
  call: Call, count: int, size: int, warmup: int = 1
) -> list[float]:
  """Times calls of which several are dispatched before they are waited for.

  Args:
    call: the next one may start before this one is done.
    count: groups.
    size: calls of a group.
    warmup: calls before the first group.

  Returns:
    Seconds per call of each group.
  """
  (seconds,) = alternately([(call, size)], count, warmup)
  return seconds


def alternately(
  calls: Sequence[tuple[Call, int]], count: int, warmup: int = 1
) -> list[list[float]]:
  """Times groups of several calls in turn, so that they can be compared.

  A shared machine's speed changes within seconds, but for all of them.

  Args:
    calls: each with the size of its groups, see `in_groups`.
    count: groups of each.
    warmup: of each.

  Returns:
    For each, seconds per call of each group.
  """
  for call, _ in calls:
    for _ in range(warmup):
      jax.block_until_ready(call())
  seconds: list[list[float]] = [[] for _ in calls]
  for _ in range(count):
    for times, (call, size) in zip(seconds, calls, strict=True):
      start = time.monotonic()
      _wait([call() for _ in range(size)])
      times.append((time.monotonic() - start) / size)
  return seconds


def _wait(results: list[Any]) -> None:
  """Waits for all results that no later call has taken the memory of."""
  arrays = jax.tree.leaves(results)
  jax.block_until_ready([x for x in arrays if not x.is_deleted()])


def summarize(seconds: Sequence[float]) -> dict[str, float]:
  """Returns median, quartiles, extremes, mean and number of times."""
  low, median, high = np.percentile(seconds, (25, 50, 75)).tolist()
  return {
    "median": median,
    "first_quartile": low,
    "third_quartile": high,
    "min": min(seconds),
    "max": max(seconds),
    "mean": float(np.mean(seconds)),
    "count": len(seconds),
  }
