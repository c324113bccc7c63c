"""Trains: `python -m slot_attention.main --config=CONFIG --workdir=RUN`."""

import os
import sys

from absl import flags
from absl import logging
import jax
from ml_collections import config_flags

from slot_attention import cli
from slot_attention import config_validation
from slot_attention import cpu
from slot_attention import train

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file, with a variant behind a colon."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
_DISTRIBUTED = flags.DEFINE_bool(
  "distributed", False, "Several hosts, found by jax (TPU, SLURM, GKE, MPI)."
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator_address", None, "HOST:PORT of process 0, for several hosts."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which, from 0.")

# A process that dies brings the others down after this long.
_HEARTBEAT_SECONDS = 30
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: start the same command again.


def main(argv: list[str]) -> None:
  """Sets up the hosts, then trains."""
  cli.reject_arguments(argv)
  config_validation.validate(_CONFIG.value)
  if _DISTRIBUTED.value or _COORDINATOR.value:
    jax.distributed.initialize(
      _COORDINATOR.value,
      _NUM_PROCESSES.value,
      _PROCESS_ID.value,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )
  else:
    cpu.prepare(_CONFIG.value)
  logging.info(
    "Process %d of %d, devices: %s.",
    jax.process_index(),
    jax.process_count(),
    jax.local_devices(),
  )
  try:
    train.train_and_evaluate(_CONFIG.value, _WORKDIR.value)
  except train.InterruptedRun as stop:
    logging.info("%s", stop)
    sys.exit(EXIT_INTERRUPTED)
  except Exception as error:
    if jax.process_count() > 1:
      _leave(error)
    raise


def _leave(error: Exception) -> None:
  """Ends one of several processes so that the others notice.

  The ordinary way out waits for them, while they wait for this one.
  """
  cli.report(error)
  logging.flush()
  os._exit(cli.EXIT_ERROR)


def run() -> None:
  """Runs `main` from the command line."""
  flags.mark_flags_as_required(["config", "workdir"])
  cli.run(main)


if __name__ == "__main__":
  run()
