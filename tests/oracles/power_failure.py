"""What a power failure leaves at worst, done to a run that was killed.

A run synchronises its records before it saves, and a checkpoint before the next
one is written. So the newest checkpoint may be torn, and all that was written
after it.
"""

from collections.abc import Iterator
import json
import pathlib
import random
import struct

from tensorboard.compat.proto import event_pb2

_HEADER, _FOOTER = struct.Struct("<QI"), struct.Struct("<I")


def damage(workdir: pathlib.Path, rng: random.Random) -> None:
  """Cuts files off, or fills their ends with zeros, where that could happen.

  Args:
    workdir: of a run whose process is dead.
    rng: says how much is lost.
  """
  checkpoints = workdir / "checkpoints"
  names = [path.name for path in checkpoints.glob("*")]
  steps = sorted(int(name) for name in names if name.isdigit())
  torn = [checkpoints / name for name in names if not name.isdigit()]
  # The only one is left alone: a run does not begin anew by itself.
  torn += [checkpoints / str(step) for step in steps[1:][-1:]]
  for directory in torn:
    for path in directory.rglob("*"):
      if path.is_file():
        _tear(path, 0, rng)
  step = max(steps, default=0)
  path = workdir / "metrics.jsonl"
  if path.exists():
    _tear(path, _end_of_records(path, step), rng)
  events = workdir.glob("events.out.tfevents.*")
  for path in sorted(events, key=lambda x: x.stat().st_mtime)[-1:]:
    _tear(path, _end_of_events(path, step), rng)


def _tear(path: pathlib.Path, start: int, rng: random.Random) -> None:
  """Loses bytes after `start`; the file keeps its length, or does not."""
  content = path.read_bytes()
  kept = rng.randint(start, len(content))
  zeros = rng.choice([0, len(content) - kept])
  path.write_bytes(content[:kept] + bytes(zeros))


def _end_of_records(path: pathlib.Path, step: int) -> int:
  """Returns where the lines of later steps begin."""
  end = 0
  for line in path.read_bytes().splitlines(keepends=True):
    if not line.endswith(b"\n") or json.loads(line)["step"] > step:
      break
    end += len(line)
  return end


def _end_of_events(path: pathlib.Path, step: int) -> int:
  """Returns where the events of later steps begin."""
  end = 0
  for event, place in _events(path.read_bytes()):
    if event.step > step:
      break
    end = place
  return end


def _events(content: bytes) -> Iterator[tuple[event_pb2.Event, int]]:
  """Yields whole events and where they end."""
  place = 0
  while place + _HEADER.size <= len(content):
    start = place + _HEADER.size
    length, _ = _HEADER.unpack_from(content, place)
    place = start + length + _FOOTER.size
    if place > len(content):
      return
    yield event_pb2.Event.FromString(content[start : start + length]), place
