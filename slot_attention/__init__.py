"""Slot Attention in JAX: set prediction and object-centric learning."""

import importlib
from typing import Any

__version__ = "0.1.0"

# Names that users reach as slot_attention.NAME. They are imported on first use,
# so that `import slot_attention.modules` stays free of the training stack.
_LAZY = {"load": "slot_attention.predictor"}


def __getattr__(name: str) -> Any:
  if name in _LAZY:
    return getattr(importlib.import_module(_LAZY[name]), name)
  raise AttributeError(f"module 'slot_attention' has no attribute {name!r}.")
