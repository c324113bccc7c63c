"""What the command lines share: flags, logging, errors as one sentence."""

from collections.abc import Callable, Sequence
import logging as std_logging
import os
import pathlib
import sys
import threading
import types

from absl import app
from absl import flags
from absl import logging

_COMPILATION_CACHE = flags.DEFINE_string(
  "compilation_cache",
  None,
  "Directory that keeps compiled programs for later runs; shared by all.",
)

EXIT_ERROR = 1
# What bad flags, values and files raise; anything else is a mistake of ours.
_EXPECTED = (ValueError, OSError, RuntimeError)


def run(main: Callable[[list[str]], None]) -> None:
  """Runs a main function with absl's flags and logging on standard error.

  Bad flags, values and files end the process with status 1 and one sentence;
  `--verbosity=1` adds the traceback.

  Args:
    main: called with the arguments that are no flags, the program's name first.
  """
  logging.set_verbosity(logging.INFO)
  logging.get_absl_handler().addFilter(_is_worth_a_line)
  sys.excepthook = _drop_what_threads_raise
  threading.excepthook = lambda args: _drop_what_threads_raise(*args[:3])
  app.run(_report_errors(main), flags_parser=_parse_flags)


def reject_arguments(argv: Sequence[str]) -> None:
  """Raises if anything but flags stands on the command line."""
  if len(argv) > 1:
    raise ValueError(f"Unexpected arguments: {' '.join(argv[1:])}.")


def _report_errors(
  main: Callable[[list[str]], None],
) -> Callable[[list[str]], None]:
  def wrapped(argv: list[str]) -> None:
    try:
      if _COMPILATION_CACHE.value is not None:
        _use_compilation_cache(_COMPILATION_CACHE.value)
      main(argv)
    except _EXPECTED as error:
      report(error)
      sys.exit(EXIT_ERROR)

  return wrapped


def _use_compilation_cache(path: str) -> None:
  """Lets jax keep there what takes it more than a second to compile."""
  if "://" not in path:  # Buckets are looked at by jax alone.
    try:
      os.makedirs(path, exist_ok=True)
    except OSError as error:
      raise OSError(f"--compilation_cache={path}: {error}.") from error
    if not os.access(path, os.W_OK | os.X_OK):
      raise OSError(f"--compilation_cache={path} cannot be written to.")
  import jax  # Not every command needs it.

  jax.config.update("jax_compilation_cache_dir", path)


def report(error: Exception) -> None:
  """Logs an error: as a sentence if it is about input, else its traceback."""
  if isinstance(error, _EXPECTED):
    logging.debug("Traceback:", exc_info=error)
    logging.error("%s", _one_line(error))
  else:
    logging.error("Unexpected error:", exc_info=error)


def _parse_flags(argv: list[str]) -> list[str]:
  try:
    return flags.FLAGS(argv)
  except AttributeError as error:  # What ml_collections raises.
    sys.exit(f"Unknown config key: {_one_line(error)}")
  except flags.Error as error:
    # What a config file raises arrives as the text of a traceback.
    sys.exit(f"Bad flags: {_one_line(error).split('ConfigError: ')[-1]}")


def _one_line(error: BaseException) -> str:
  text = str(error).replace("\\n", " ").replace("\\'", "'")
  if text.startswith("'") and text.endswith("'"):  # The repr of a message.
    text = text[1:-1]
  return printable(" ".join(text.split()))


def printable(text: str) -> str:
  """Escapes what is no text, such as names of files in another encoding.

  Args:
    text: may hold surrogates, which cannot be printed, or control characters.

  Returns:
    The text with its line ends as they are.
  """
  return "".join(
    c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text
  )


def _drop_what_threads_raise(
  kind: type[BaseException],
  error: BaseException,
  traceback: types.TracebackType | None,
) -> None:
  """Prints no hundred tracebacks of a disk that is full.

  The main thread waits for the others, and says in a sentence what they met.
  """
  in_main = threading.current_thread() is threading.main_thread()
  if in_main or not issubclass(kind, _EXPECTED):
    sys.__excepthook__(kind, error, traceback)
  else:
    logging.debug("In a thread:", exc_info=(kind, error, traceback))


def _is_worth_a_line(record: std_logging.LogRecord) -> bool:
  """Drops Orbax' dozens of lines per checkpoint, and one warning.

  The warning says that a checkpoint has no score, as those between evaluations
  have none. Of errors, which the main thread meets as well, a line is left.
  """
  if not {"orbax", "asyncio"} & set(pathlib.Path(record.pathname).parts):
    return True
  if not logging.level_debug():
    record.exc_info = record.exc_text = None
  unscored = "did not provide metrics" in record.getMessage()
  return record.levelno > std_logging.INFO and not unscored
