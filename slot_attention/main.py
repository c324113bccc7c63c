"""Trains: `python -m slot_attention.main --config=CONFIG --workdir=RUN`."""

import logging as std_logging
import sys

from absl import app
from absl import flags
from absl import logging
import jax
from ml_collections import config_flags

from slot_attention import configuration
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
EXIT_ERROR = 1
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: start the same command again.


def main(argv: list[str]) -> None:
  """Sets up the hosts, then trains."""
  if len(argv) > 1:
    raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}.")
  if _DISTRIBUTED.value or _COORDINATOR.value:
    jax.distributed.initialize(
      _COORDINATOR.value,
      _NUM_PROCESSES.value,
      _PROCESS_ID.value,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )
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
  except (configuration.ConfigError, train.DivergedError, OSError) as error:
    logging.error("%s", _one_line(error))
    sys.exit(EXIT_ERROR)


def _parse_flags(argv: list[str]) -> list[str]:
  """Parses flags; what is wrong with them is one sentence, not a traceback."""
  try:
    return flags.FLAGS(argv)
  except AttributeError as error:
    sys.exit(f"Unknown config key: {_one_line(error)}")
  except flags.Error as error:
    # What a config file raises arrives as the text of a traceback.
    sys.exit(f"Bad flags: {_one_line(error).split('ConfigError: ')[-1]}")


def _one_line(error: BaseException) -> str:
  text = str(error).replace("\\n", " ").replace("\\'", "'").strip("'")
  return " ".join(text.split())


def _is_ours(record: std_logging.LogRecord) -> bool:
  """Drops Orbax' dozens of lines per checkpoint, and one warning.

  The warning says that a checkpoint has no score, as those between evaluations
  have none.
  """
  if "orbax" not in record.pathname:
    return True
  unscored = "did not provide metrics" in record.getMessage()
  return record.levelno > std_logging.INFO and not unscored


def run() -> None:
  """Runs `main` with absl's flags and logging on standard error."""
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().addFilter(_is_ours)
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main, flags_parser=_parse_flags)


if __name__ == "__main__":
  run()
