"""Arrays of the published implementations that are too large to be stored here.

Tests that need them run where SLOT_ATTENTION_REFERENCE names their directory.
"""

import os
import pathlib

import numpy as np
import pytest


def load(name):
  """Reads a file such as "slate_torch/slate.npz", or skips the test."""
  path = os.environ.get("SLOT_ATTENTION_REFERENCE")
  if not path:
    pytest.skip(
      f"SLOT_ATTENTION_REFERENCE does not name the directory with {name}."
    )
  return dict(np.load(pathlib.Path(path) / name))
