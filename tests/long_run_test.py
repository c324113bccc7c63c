"""A long run: memory, open files, threads and files on disk stay as they are.

python -m pytest -n 0 -s -m slow tests/long_run_test.py
"""

import os
import pathlib
import time
from typing import NamedTuple

import killing
import killing_sources
import pytest

NUM_STEPS = int(os.environ.get("LONG_RUN_STEPS", "20000"))
NUM_ROWS = 20
# As small as they can be: what could grow does so with every step.
TINY = [
  "--config.train.batch_size=2",
  "--config.eval.batch_size=2",
  "--config.eval.num_examples=2",
  "--config.eval.num_figures=1",
  "--config.model.num_iterations=1",
  "--config.model.encoder_channels=(4,)",
  "--config.model.encoder_strides=(2,)",
  "--config.model.decoder_channels=(4,)",
]


class Row(NamedTuple):
  """What a process takes after some steps; sizes of files in bytes."""

  step: int
  mib: float
  files: int
  threads: int
  log: int
  events: int
  metrics: int
  checkpoints: int


def _look_at(process, step, workdir):
  status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
  fields = dict(line.split(":", 1) for line in status.splitlines())
  return Row(
    step,
    round(int(fields["VmRSS"].split()[0]) / 1024, 1),
    len(os.listdir(f"/proc/{process.pid}/fd")),
    int(fields["Threads"]),
    workdir.with_suffix(".log").stat().st_size,
    _size(workdir, "events.out.tfevents.*"),
    _size(workdir, "*.jsonl"),
    len(os.listdir(workdir / "checkpoints")),
  )


def _size(workdir, pattern):
  return sum(path.stat().st_size for path in workdir.rglob(pattern))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
@pytest.mark.parametrize("source", ["cached", "converted", "folder"])
def test_nothing_grows(tmp_path, source):
  workdir, every = tmp_path / "run", NUM_STEPS // NUM_ROWS
  command = [
    *killing_sources.SOURCES[source](tmp_path / source),
    *TINY,
    f"--config.train.num_steps={NUM_STEPS}",
    f"--config.train.log_every={every // 10}",
    f"--config.eval.every={every}",
    f"--config.checkpoint.every={every}",
  ]
  process, rows = killing.Process(command, workdir), []
  try:
    while process.is_alive():
      time.sleep(0.05)
      step = process.last_step()
      if step >= every * (len(rows) + 1) and process.is_alive():
        rows.append(_look_at(process, step, workdir))
        print(rows[-1], flush=True)
    process.finish()
  finally:
    process.stop()
  # The first steps compile, and fill caches and pools.
  half = len(rows) // 2
  early, late = rows[2:half], rows[half:]
  assert max(r.mib for r in late) / max(r.mib for r in early) < 1.03, rows
  assert max(r.files for r in late) <= max(r.files for r in early) + 2, rows
  assert max(r.threads for r in late) <= max(r.threads for r in early) + 2, rows
  assert max(r.checkpoints for r in rows) <= 4, rows  # One is being written.
  assert len(os.listdir(workdir / "checkpoints")) <= 3
  # Some hundred bytes for each logged step, a picture for each evaluation.
  log = workdir.with_suffix(".log").stat().st_size
  assert log < 50_000 + 1_500 * 10 * NUM_ROWS
  assert _size(workdir, "events.out.tfevents.*") < 3_000 * 10 * NUM_ROWS
