"""Reading again after errors that pass, as those of network disks do."""

from collections.abc import Callable
import errno
import time
from typing import TypeVar

from absl import logging

T = TypeVar("T")

# Seconds before each further try: a minute in all, in which most file servers
# have come back.
WAITS = (0.5, 1, 2, 4, 8, 15, 30)
_PASSING = frozenset(
  getattr(errno, name)
  for name in (
    "EAGAIN",
    "EBUSY",
    "ECONNRESET",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EIO",
    "EMFILE",
    "ENETDOWN",
    "ENETUNREACH",
    "ENFILE",
    "ENOTCONN",
    "EREMOTEIO",
    "ESTALE",
    "ETIMEDOUT",
  )
  if hasattr(errno, name)  # Not every system has all of them.
)


def may_pass(error: OSError) -> bool:
  """Returns whether a disk can give another answer to the next try."""
  return error.errno in _PASSING


def retry(read: Callable[[], T], what: str) -> T:
  """Calls a function again while it raises errors that may pass.

  Args:
    read: reads something; safe to call again.
    what: it reads, for the log, such as "Record 3 of FILE".

  Returns:
    What `read` returns.

  Raises:
    OSError: of the last try, with a message that names `what`; at once if it
      is an error that does not pass, such as a missing file.
  """
  for wait in WAITS:
    try:
      return read()
    except OSError as error:
      if not may_pass(error):
        raise
      logging.warning(
        "%s cannot be read (%s); trying again in %g s.", what, error, wait
      )
      time.sleep(wait)
  try:
    return read()
  except OSError as error:
    raise OSError(
      error.errno,
      f"{what} cannot be read, tried {len(WAITS) + 1} times in "
      f"{sum(WAITS):g} s ({error.strerror}); see to the disk or the network, "
      "then run the same command again",
    ) from error
