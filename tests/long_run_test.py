"""A long run: memory, open files, threads and files on disk stay as they are.

python -m pytest -n 0 -s -m slow tests/long_run_test.py
"""

import os
import pathlib

import killing
import pytest

NUM_STEPS, EVERY = 20_000, 1_000


def _status(pid):
  """Returns MiB of memory, open files and threads of a process."""
  status = pathlib.Path(f"/proc/{pid}/status").read_text()
  fields = dict(line.split(":", 1) for line in status.splitlines())
  memory = int(fields["VmRSS"].split()[0]) / 1024
  files = len(os.listdir(f"/proc/{pid}/fd"))
  return memory, files, int(fields["Threads"])


def _size(workdir, pattern):
  return sum(path.stat().st_size for path in workdir.rglob(pattern))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc")
@pytest.mark.parametrize("source", ["cached", "converted"])
def test_nothing_grows(tmp_path, source):
  workdir = tmp_path / "run"
  command = [
    *killing.SOURCES[source](tmp_path / source),
    f"--config.train.num_steps={NUM_STEPS}",
    "--config.train.log_every=100",
    f"--config.eval.every={EVERY}",
    f"--config.checkpoint.every={EVERY}",
  ]
  process, rows = killing.Process(command, workdir), []
  while process.is_alive():
    process.look()
    step = process.last_step()
    if step >= EVERY * (len(rows) + 1) and process.is_alive():
      rows.append((step, *_status(process.pid)))
      print("step {}: {:.0f} MiB, {} files, {} threads".format(*rows[-1]))
  process.finish()
  # The first thousand steps compile, and fill caches and pools.
  _, memory, files, threads = zip(*rows[1:], strict=True)
  half = len(memory) // 2
  growth = max(memory[half:]) / max(memory[:half])
  assert growth < 1.03, rows
  assert max(files[half:]) <= max(files[:half]) + 2, rows
  assert max(threads[half:]) <= max(threads[:half]) + 2, rows
  log = workdir.with_suffix(".log").stat().st_size
  events = _size(workdir, "events.out.tfevents.*")
  print(
    f"log {log}, events {events}, metrics {_size(workdir, '*.jsonl')} bytes"
  )
  # Some hundred bytes for each logged step, two pictures for each evaluation.
  assert log < 1_500 * NUM_STEPS / 100
  assert events < 3_000 * NUM_STEPS / 100
  assert len(list((workdir / "checkpoints").iterdir())) <= 3
