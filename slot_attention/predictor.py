"""A trained model as a function of images; `slot_attention.load`."""

from typing import Any

import jax
import numpy as np

from slot_attention import checkpoints
from slot_attention import moved_files
from slot_attention import run_files
from slot_attention import sharding
from slot_attention import tasks
from slot_attention import train_state as train_state_lib
from slot_attention.data import preprocess


def load(
  workdir: str, step: int | str = "latest", vit_weights: str | None = None
) -> "Predictor":
  """Loads a trained model.

  Args:
    workdir: directory of a run.
    step: "latest", "best", or the step of a checkpoint.
    vit_weights: of DINOSAUR, where the vision transformer's file lies now; None
      for the run's config.model.vit.weights.

  Returns:
    A function of images; see `Predictor.__call__`.

  Raises:
    FileNotFoundError: there is no run, it has no such checkpoint, or the vision
      transformer's file is missing.
    ValueError: the run reads no such file.
  """
  config = run_files.read_config(workdir)
  moved_files.apply(config, vit_weights=vit_weights)
  place = sharding.replicated(sharding.create_mesh())
  task = tasks.create_task(config)
  frozen = jax.device_put(task.load_frozen(needs_images=True), place)
  step, variables = checkpoints.load_variables(
    workdir, step, config.checkpoint, place
  )
  return Predictor(task, variables | frozen, step, config.data.resolution)


class Predictor:
  """Calls a task's model on images.

  Attributes:
    step: of the checkpoint.
    variables: the model's variables.
  """

  def __init__(
    self,
    task: Any,
    variables: dict[str, Any],
    step: int,
    resolution: tuple[int, int],
  ):
    self.step = step
    self.variables = variables
    self._resolution = tuple(resolution)
    self._predict = jax.jit(
      lambda variables, images, seed, noise, slots, iterations: task.predict(
        variables,
        images,
        train_state_lib.step_rngs(0, seed),
        slots,
        iterations,
        noise,
      ),
      static_argnums=(4, 5),
    )
    self._add_details = jax.jit(task.figure_outputs)

  def __call__(
    self,
    images: np.ndarray,
    slot_noise: np.ndarray | None = None,
    num_slots: int | None = None,
    num_iterations: int | None = None,
    seed: int = 0,
    detailed: bool = False,
  ) -> dict[str, np.ndarray]:
    """Applies the model.

    Args:
      images: [b, h, w, 3], uint8 in 0..255 or float in [-1, 1], in the
        resolution that the model was trained with.
      slot_noise: [b, k, d] standard normal noise of the initial slots.
      num_slots: k, or None for the number trained with (or the noise's).
      num_iterations: t, or None for the number trained with.
      seed: of the initial slots, where no noise is given.
      detailed: adds what figures show and takes longer, such as the image that
        SLATE generates from its slots; see the task's `figure_outputs`.

    Returns:
      Numpy arrays by name: what the task predicts, `attention` [b, t, k, n] and
      `slots` [b, k, d].

    Raises:
      ValueError: images of another type, shape or range.
    """
    images = self._check(np.asarray(images))
    if slot_noise is not None and num_slots is None:
      num_slots = slot_noise.shape[1]
    outputs = self._predict(
      self.variables,
      images,
      np.uint32(seed),
      slot_noise,
      num_slots,
      num_iterations,
    )
    if detailed:
      outputs = self._add_details(self.variables, outputs)
    return jax.tree.map(np.asarray, outputs)

  def _check(self, images: np.ndarray) -> np.ndarray:
    if images.ndim != 4 or images.shape[1:] != (*self._resolution, 3):
      raise ValueError(
        f"Images have shape {images.shape}; this model takes [batch, "
        f"{self._resolution[0]}, {self._resolution[1]}, 3]: resize them first."
      )
    if images.dtype == np.uint8:
      return preprocess.to_signed(images)
    if not np.issubdtype(images.dtype, np.floating):
      raise ValueError(
        f"Images are {images.dtype}; give uint8 in 0..255 or float in [-1, 1]."
      )
    if images.size and np.abs(images).max() > 1.0 + 1e-3:
      raise ValueError(
        f"Float images reach {np.abs(images).max():.4g}; scale them to [-1, 1]."
      )
    return images.astype(np.float32)
