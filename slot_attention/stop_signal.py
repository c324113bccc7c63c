"""SIGTERM and SIGINT: what schedulers and people stop a run with."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from absl import logging
import jax
from jax.experimental import multihost_utils


class InterruptedRun(BaseException):
  """The run was told to stop and has saved its state.

  Not an Exception, as KeyboardInterrupt is not: it can come out of any library,
  which must not take it for an error of its own.
  """


class StopSignal:
  """Remembers that the run was told to stop, until it asks.

  Before training begins there is nothing to save and a signal ends the run at
  once. With several processes jax' preemption service listens to SIGTERM, so
  that a signal to any of them makes all of them stop at the same place.
  """

  def __init__(self) -> None:
    self._received = False
    self._is_training = False
    self._num_questions = 0
    self._previous: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread():
      return
    if jax.process_count() > 1:
      # The service does not know this one.
      self._listen(signal.SIGINT, _send_terminate)
    else:
      for number in (signal.SIGTERM, signal.SIGINT):
        self._listen(number, self._receive)

  def begin_training(self, step: int) -> None:
    """From now on a signal waits until `is_told` is asked.

    Args:
      step: from which the run starts; the same on all processes.
    """
    self._is_training = True
    self._num_questions = max(self._num_questions, step)

  def is_told(self) -> bool:
    """Returns whether to stop now; all processes must ask equally often."""
    if jax.process_count() == 1:
      return self._received
    # The service wants numbers that grow, and Orbax asks it with steps: these
    # never fall behind them.
    self._num_questions += 1
    return multihost_utils.reached_preemption_sync_point(self._num_questions)

  def restore(self) -> None:
    """Puts the former handlers back."""
    for number, handler in self._previous.items():
      signal.signal(number, handler)
    self._previous = {}

  def _listen(self, number: int, handler: Any) -> None:
    self._previous[number] = signal.signal(number, handler)

  def _receive(self, number: int, frame: FrameType | None) -> None:
    del frame
    if not self._is_training:
      raise InterruptedRun(
        f"Stopped by signal {number} before the first step of this process, "
        "with nothing new to save; the same command starts it again."
      )
    logging.info("Received signal %d; saving as soon as possible.", number)
    self._received = True


def _send_terminate(number: int, frame: FrameType | None) -> None:
  del number, frame
  os.kill(os.getpid(), signal.SIGTERM)
