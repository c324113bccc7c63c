"""Says now and then how far the writing of a data set has come."""

import time

from absl import logging

_LOG_SECONDS = 30.0


class Progress:
  """Logs how many records are done and how long the rest will take.

  Attributes:
    done: number of records counted so far.
  """

  def __init__(self, total: int | None = None, what: str = "examples written"):
    """Starts the clock.

    Args:
      total: number of records that there will be, if that is known.
      what: is counted, in the words of the log.
    """
    self.done = 0
    self._total = total
    self._what = what
    self._start = self._logged = time.monotonic()

  def count(self, fraction: float | None = None) -> None:
    """Counts a record, and logs if the last time was long ago.

    Args:
      fraction: the part of the work that is done, 0 to 1, where the number of
        records is not known.
    """
    self.done += 1
    if self._total:
      fraction = self.done / self._total
    now = time.monotonic()
    if now - self._logged >= _LOG_SECONDS or self.done == self._total:
      self._logged = now
      self._log(now - self._start, fraction)

  def _log(self, seconds: float, fraction: float | None) -> None:
    of_all = "" if self._total is None else f" of {self._total}"
    line = f"{self.done}{of_all} {self._what}"
    line += f", {self.done / max(seconds, 1e-6):.1f} a second"
    if fraction:
      line += f", {max(seconds / fraction - seconds, 0):.0f} s left"
    logging.info("%s.", line)
