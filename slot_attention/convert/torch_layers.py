"""Layouts of PyTorch's layers, turned into ours.

Linear weights are (out, in), convolutions (out, in, kh, kw), and gates of a GRU
stand in the order r, z, n; ours are (in, out), (kh, kw, in, out) and z, r, h.
"""

from collections.abc import Mapping

import numpy as np

GRU_LEAVES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def to_kernel(value: np.ndarray) -> np.ndarray:
  """Moves a kernel's output axis to the end, and its input axis before it."""
  axes = {2: (1, 0), 4: (2, 3, 1, 0)}
  return value.transpose(axes.get(value.ndim, range(value.ndim)))


def to_gru(gru: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Turns a GRUCell's weights into those of `gru.GRUCell`.

  Args:
    gru: `GRU_LEAVES` by name, [3 d, ...] each.

  Returns:
    kernel [c, 3 d], recurrent_kernel [d, 3 d] and bias [2, 3 d].
  """
  swapped = {}
  for leaf, value in gru.items():
    reset, update, new = np.split(value, 3)
    swapped[leaf] = np.concatenate([update, reset, new])
  return {
    "kernel": swapped["weight_ih"].T,
    "recurrent_kernel": swapped["weight_hh"].T,
    "bias": np.stack([swapped["bias_ih"], swapped["bias_hh"]]),
  }
