"""Files of checkpoints: what Orbax does not do to keep them whole."""

from collections.abc import Iterable
import errno
import json
import os
import pathlib
import shutil

from absl import logging

from slot_attention import fingerprints

FINGERPRINT = "fingerprint"  # Name of the item beside the state.
# Where a run puts checkpoints that cannot be read, beside the good ones.
DAMAGED_DIRECTORY = "damaged_checkpoints"
_REPLACED_DIRECTORY = "replaced_checkpoints"
_UNFINISHED = "*.orbax-checkpoint-tmp*"
# What the system says where the disk is full, by whatever library passes it on.
_NO_ROOM = [
  os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
]


class CheckpointError(RuntimeError):
  """A checkpoint cannot be written or used; the message is one sentence."""


class DamagedCheckpointError(CheckpointError):
  """A checkpoint is not what was saved."""

  def __init__(self, directory: pathlib.Path, step: int, reason: str):
    super().__init__(
      f"The checkpoint of step {step} in {directory} is damaged ({reason}); "
      "use another one, or a copy of it."
    )


def read_fingerprint(
  directory: pathlib.Path, step: int
) -> fingerprints.Fingerprint | None:
  """Reads what a checkpoint holds.

  Args:
    directory: of the checkpoints.
    step: one of them.

  Returns:
    The fingerprint, or None for a checkpoint of before there were any.

  Raises:
    DamagedCheckpointError: it is missing or cannot be read.
  """
  path = directory / str(step) / FINGERPRINT / "metadata"
  whole = (directory / str(step) / "commit_success.txt").exists()
  if whole and not path.parent.exists():
    return None
  try:
    return fingerprints.unseal(json.loads(path.read_text(encoding="utf-8")))
  except (OSError, ValueError, AttributeError) as error:
    raise DamagedCheckpointError(directory, step, str(error)) from error


def check_scores(directory: pathlib.Path, remove: bool) -> None:
  """Looks for scores that cannot be read, at which Orbax would stop.

  Args:
    directory: of the checkpoints.
    remove: remove and name them, instead of raising.

  Raises:
    CheckpointError: there is one.
  """
  for path in directory.glob("[0-9]*/metrics/metrics"):
    try:
      float(json.loads(path.read_text(encoding="utf-8"))["best"])
    except (OSError, ValueError, KeyError, TypeError) as error:
      if not remove:
        raise CheckpointError(
          f"{path} is damaged ({error}); remove this file: its checkpoint then "
          "counts as one that was not evaluated."
        ) from error
      logging.error("Removing %s, which is damaged (%s).", path, error)
      path.unlink(missing_ok=True)


def set_aside(directory: pathlib.Path, steps: Iterable[int]) -> None:
  """Moves checkpoints out of the way, so that they can be made again."""
  target = directory.parent / DAMAGED_DIRECTORY
  target.mkdir(exist_ok=True)
  for step in steps:
    number = len(list(target.glob(f"{step}.*")))
    (directory / str(step)).rename(target / f"{step}.{number}")
    logging.error("Moved the damaged step %d to %s.", step, target)


def begin_replacing(directory: pathlib.Path, step: int) -> None:
  """Puts a checkpoint where it waits until another one is in its place."""
  target = directory.parent / _REPLACED_DIRECTORY
  target.mkdir(exist_ok=True)
  (directory / str(step)).rename(target / str(step))


def finish_replacing(directory: pathlib.Path) -> None:
  """Removes what was replaced, or puts it back if it was not."""
  target = directory.parent / _REPLACED_DIRECTORY
  if not target.exists():
    return
  for path in target.iterdir():
    if (directory / path.name).exists():
      shutil.rmtree(path)
    else:
      path.rename(directory / path.name)
  target.rmdir()


def sync(directory: pathlib.Path) -> None:
  """Makes sure that files, which were written, stand a power failure."""
  # The directories', too, for the names of what is in them.
  for path in (*directory.rglob("*"), directory, directory.parent):
    file = os.open(path, os.O_RDONLY)
    try:
      os.fsync(file)
    finally:
      os.close(file)


def remove_unfinished(directory: pathlib.Path) -> None:
  """Removes what is left of saves that failed."""
  for path in directory.glob(_UNFINISHED):
    shutil.rmtree(path, ignore_errors=True)


def is_out_of_room(error: BaseException) -> bool:
  """Returns whether an error, or what led to it, is a full disk."""
  cause: BaseException | None = error
  while cause is not None:
    if any(text in str(cause) for text in _NO_ROOM):
      return True
    cause = cause.__cause__ or cause.__context__
  return False


def reason_of(error: BaseException) -> str:
  """Returns the beginning of an error's text, or its name."""
  line = str(error).strip().partition("\n")[0]
  # tensorstore goes on with pages of its configuration.
  return line.partition(" [tensorstore_spec")[0][:300] or repr(error)
