"""Files of the published implementations that are too large to be stored here.

Tests that need them run where SLOT_ATTENTION_REFERENCE names their directory.
"""

import os
import pathlib

import numpy as np
import pytest


def find(*parts: str) -> pathlib.Path:
  """Returns a path among the reference files, or skips the test."""
  directory = os.environ.get("SLOT_ATTENTION_REFERENCE")
  if not directory:
    pytest.skip(
      "SLOT_ATTENTION_REFERENCE does not name the directory with "
      f"{'/'.join(parts)}."
    )
  return pathlib.Path(directory, *parts)


def load(name: str) -> dict[str, np.ndarray]:
  """Reads a file such as "slate_torch/slate.npz", or skips the test."""
  return dict(np.load(find(name)))
