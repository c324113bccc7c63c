"""Kills training at random moments and compares its end with a run left alone.

    python tests/oracles/killing.py --kills=7 --output=DIR

trains one run of every source to its end, and a second one that is killed so
many times and started again each time with the same command. What both leave
must be the same, bit for bit. It prints a table.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

from absl import app
from absl import flags
import killing_sources
import numpy as np
import power_failure
import run_comparison

NUM_STEPS = 300
_SAVE_EVERY, _EVALUATE_EVERY = 20, 30
_LONGEST_START = 4.0  # Seconds in which a process may be killed at its start.
# A process is killed: before its first step; after some steps; as soon as it
# writes a checkpoint; as soon as one is complete and older ones are deleted.
# "terminate" is the polite signal, which must save first. "power" also damages
# what may not have reached the disk when the lights go out.
MOMENTS = ("start", "step", "save", "commit", "terminate", "power")
EXIT_INTERRUPTED = 75
_START = time.monotonic()

_KILLS = flags.DEFINE_integer("kills", 7, "How many for each source.")
_OUTPUT = flags.DEFINE_string("output", None, "New directory for the runs.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_MOMENTS = flags.DEFINE_list("moments", list(MOMENTS), "Which, in turn.")
_SOURCES = flags.DEFINE_list(
  "sources", list(killing_sources.SOURCES), "Which of them."
)


@dataclasses.dataclass
class Survey:
  """What became of one source.

  Attributes:
    source: a key of SOURCES.
    kills: moments at which a process was killed.
    seconds: from the start of a process to its first step, of restarts.
    differences: between what both runs left; none is right.
  """

  source: str
  kills: list[str] = dataclasses.field(default_factory=list)
  seconds: list[float] = dataclasses.field(default_factory=list)
  differences: list[str] = dataclasses.field(default_factory=list)

  def row(self) -> str:
    """Returns the source's line of the table."""
    kinds = [self.kills.count(moment) for moment in MOMENTS]
    survived = 0 if self.differences else len(self.kills)
    seconds = np.array(self.seconds or [np.nan])
    cells = [
      self.source,
      len(self.kills),
      *kinds,
      survived,
      f"{np.median(seconds):.1f}",
      f"{seconds.max():.1f}",
    ]
    return f"| {' | '.join(map(str, cells))} |"


HEADER = "\n".join(
  [
    f"| source | kills | {' | '.join(MOMENTS)} | survived | "
    "seconds to resume, median | longest |",
    "|---" * (len(MOMENTS) + 5) + "|",
  ]
)


class Process:
  """One training process, watched through the files that it writes."""

  def __init__(self, command: list[str], workdir: pathlib.Path):
    self._workdir = workdir
    self._log = workdir.with_suffix(".log")
    self._before = self._steps()
    self._seen = set(self._checkpoints())
    self._start = time.monotonic()
    with open(self._log, "ab") as log:
      self._process = subprocess.Popen(
        [*_main(), *command, f"--workdir={workdir}"],
        cwd=killing_sources.ROOT,
        env=killing_sources.environment(workdir.parent),
        stdout=log,
        stderr=log,
      )
    self.seconds: float | None = None

  def kill(self, moment: str, rng: random.Random, resume: float) -> bool:
    """Kills at a moment; returns whether the process was still there.

    Args:
      moment: one of MOMENTS.
      rng: says when exactly.
      resume: seconds that a start takes.
    """
    happened = {
      "start": lambda: time.monotonic() - self._start > delay,
      "step": lambda: len(self._new_steps()) > steps,
      "save": lambda: len(self._unfinished()) > 0,
      "commit": lambda: not self._seen.issuperset(self._checkpoints()),
      "terminate": lambda: len(self._new_steps()) > steps,
      "power": lambda: len(self._new_steps()) > steps,
    }[moment]
    delay, steps = rng.uniform(0, resume), rng.randrange(2 * _SAVE_EVERY)
    while not happened():
      if not self.is_alive():
        return False
      self.look()
    time.sleep(rng.uniform(0, 0.02))
    if not self.is_alive():
      return False
    if moment == "terminate":
      self._process.terminate()
      status = self._process.wait(killing_sources.TIMEOUT)
      return self._require(status == EXIT_INTERRUPTED, status)
    self._process.kill()
    killed = self._process.wait() == -signal.SIGKILL
    if moment == "power":
      power_failure.damage(self._workdir, rng)
    return killed

  def finish(self) -> None:
    """Waits for the end, which must be a good one."""
    while self.is_alive():
      self.look()
    self._require(self._process.returncode == 0, self._process.returncode)

  @property
  def pid(self) -> int:
    """Returns the number of the process."""
    return self._process.pid

  def is_alive(self) -> bool:
    """Returns whether the process still runs."""
    return self._process.poll() is None

  def last_step(self) -> int:
    """Returns the last step that is on record."""
    lines = self._steps()
    return json.loads(lines[-1])["step"] if lines else 0

  def stop(self) -> None:
    """Makes sure that nothing is left."""
    self._process.kill()
    self._process.wait()

  def look(self) -> None:
    """Waits a moment, and notes when the first step was made."""
    if self.seconds is None and self._new_steps():
      self.seconds = time.monotonic() - self._start
    if time.monotonic() - self._start > killing_sources.TIMEOUT:
      self.stop()
    time.sleep(0.002)

  def _require(self, condition: bool, status: int) -> bool:
    if not condition:
      tail = self._log.read_text(errors="replace")[-2000:]
      raise RuntimeError(f"The process ended with status {status}:\n{tail}")
    return True

  def _new_steps(self) -> list[str]:
    # A start drops the lines behind its checkpoint, so that there are fewer.
    lines = self._steps()
    if len(lines) < len(self._before):
      self._before = lines
    return lines[len(self._before) :]

  def _steps(self) -> list[str]:
    path = self._workdir / "metrics.jsonl"
    # Not a line that is being written.
    return path.read_text().split("\n")[:-1] if path.exists() else []

  def _checkpoints(self) -> list[str]:
    path = self._workdir / "checkpoints"
    return [n for n in os.listdir(path) if n.isdigit()] if path.exists() else []

  def _unfinished(self) -> list[str]:
    path = self._workdir / "checkpoints"
    return [n for n in os.listdir(path) if "tmp" in n] if path.exists() else []


def survey(
  source: str, root: pathlib.Path, moments: list[str], seed: int = 0
) -> Survey:
  """Trains twice, killing one of the runs at each of some moments.

  Args:
    source: a key of SOURCES.
    root: an empty directory, or one that other sources have used.
    moments: of MOMENTS, one for each kill.
    seed: says when exactly.

  Returns:
    What was seen.
  """
  command = [*killing_sources.SOURCES[source](root / source), *_loop_flags()]
  alone, killed = root / f"{source}_alone", root / f"{source}_killed"
  process = Process(command, alone)
  process.finish()
  result, rng = Survey(source), random.Random(seed)
  # The first process compiles, which the others need not.
  resume = min(process.seconds, _LONGEST_START)
  for moment in moments:
    process = Process(command, killed)
    try:
      if process.kill(moment, rng, resume):
        result.kills.append(moment)
    finally:
      process.stop()
    if process.seconds is not None and result.kills[:-1]:
      result.seconds.append(process.seconds)
  process = Process(command, killed)
  process.finish()
  if process.seconds is not None:
    result.seconds.append(process.seconds)
  result.differences = run_comparison.differences(alone, killed)
  return result


def _loop_flags() -> list[str]:
  return [
    f"--config.train.num_steps={NUM_STEPS}",
    f"--config.checkpoint.every={_SAVE_EVERY}",
    f"--config.eval.every={_EVALUATE_EVERY}",
    "--config.checkpoint.best_metric=eval/loss",
    "--config.checkpoint.best_mode=min",
  ]


def _main() -> list[str]:
  return [sys.executable, "-m", "slot_attention.main"]


def main(argv: list[str]) -> None:
  """Kills runs of every source and prints the table."""
  del argv
  root = pathlib.Path(_OUTPUT.value).absolute()
  root.mkdir(parents=True, exist_ok=False)
  print(HEADER, flush=True)
  surveys = []
  for number, source in enumerate(_SOURCES.value):
    moments = list(
      itertools.islice(itertools.cycle(_MOMENTS.value), _KILLS.value)
    )
    random.Random(number).shuffle(moments)
    surveys.append(survey(source, root, moments, _SEED.value + number))
    print(surveys[-1].row(), flush=True)
  for result in surveys:
    for name in result.differences:
      print(f"{result.source} differs: {name}")
  kills = sum(len(result.kills) for result in surveys)
  print(f"{kills} kills in {time.monotonic() - _START:.0f} s.")
  sys.exit(any(result.differences for result in surveys))


if __name__ == "__main__":
  app.run(main)
