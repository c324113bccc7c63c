"""Features of frames from a frozen vision transformer (paper C, appendix F).

Training with features on the fly and `prepare features` both call
`extract_features`, so that they see the same numbers.
"""

from collections.abc import Mapping
import os
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from slot_attention import configuration
from slot_attention.convert import timm
from slot_attention.modules import feature_resizing
from slot_attention.modules import vit

# Of ImageNet's images, in [0, 1]; what DINO's weights were trained with.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)


def extract_features(
  vit_variables: Mapping[str, Any],
  frames: jax.Array,
  config: ml_collections.ConfigDict,
) -> jax.Array:
  """Returns the features that DINOSAUR groups and reconstructs.

  Args:
    vit_variables: {"params": ...} from `load_vit`.
    frames: [b, h, w, 3] uint8, or float in [-1, 1].
    config: `config.model.vit` of a run.

  Returns:
    [b, n, c] float16, the patches row by row, without the class token. They
    are rounded as the published pipeline stores them, and carry no gradient.
  """
  images = preprocess(frames, config.image_size, config.clamp)
  tokens = create_vit(config).apply(vit_variables, images)
  return jax.lax.stop_gradient(tokens[:, 1:].astype(jnp.float16))


def preprocess(frames: jax.Array, size: int, clamp: bool = False) -> jax.Array:
  """Normalises frames and resizes them as the published pipeline does.

  Args:
    frames: [b, h, w, 3] uint8, or float in [-1, 1].
    size: height and width wanted.
    clamp: whether to resize first, limit the values to those of images, and
      then normalise, as the original DINOSAUR does; paper C does not.

  Returns:
    [b, size, size, 3] float32.
  """
  images = frames.astype(jnp.float32)
  if jnp.issubdtype(frames.dtype, jnp.integer):
    images = images / 255.0
  else:
    images = (images + 1.0) / 2.0
  if clamp:
    images = jnp.clip(_resize(images, size), 0.0, 1.0)
  mean, std = (jnp.broadcast_to(x, images.shape) for x in (_MEAN, _STD))
  images = (images - mean) / std
  return images if clamp else _resize(images, size)


def create_vit(config: ml_collections.ConfigDict) -> vit.VisionTransformer:
  """Returns the transformer that `config.model.vit` describes."""
  return vit.VisionTransformer(
    config.image_size,
    config.patch_size,
    config.width,
    config.depth,
    config.num_heads,
    config.final_norm,
    jnp.dtype(config.dtype),
  )


def grid(config: ml_collections.ConfigDict) -> tuple[int, int]:
  """Returns (h', w'), how many patches stand below and beside each other."""
  side = config.image_size // config.patch_size
  return side, side


def load_vit(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the transformer's weights.

  Args:
    config: `config.model.vit` of a run. `init` says where they come from: the
      file `weights`, or, "random", from `seed`.

  Returns:
    {"params": ...}.

  Raises:
    ConfigError: a file is wanted, and none is named.
    FileNotFoundError: there is no such file.
    ValueError: the file does not hold this transformer.
  """
  if config.init == "random":
    return jax.device_get(jax.jit(lambda: init_vit(config))())
  require_weights(config)
  return timm.to_variables(timm.read(config.weights), vit_shapes(config))


def require_weights(config: ml_collections.ConfigDict) -> None:
  """Raises unless weights are random or a file is named and exists.

  Args:
    config: `config.model.vit` of a run.

  Raises:
    ConfigError: no file is named.
    FileNotFoundError: there is no such file.
  """
  if config.init == "random":
    return
  advice = (
    "give DINO's .pth or timm's .safetensors file of this vision transformer, "
    "or set config.model.vit.init=random for features that mean nothing"
  )
  if not config.weights:
    raise configuration.ConfigError(
      f"config.model.vit.weights is ''; {advice}."
    )
  if not os.path.exists(config.weights):
    raise FileNotFoundError(
      f"config.model.vit.weights is {config.weights!r}, which does not exist; "
      f"{advice} (evaluate, visualize and load take the new place of a run's "
      "file as vit_weights)."
    )


def init_vit(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Draws the transformer's weights from `config.seed`."""
  size = config.image_size
  return create_vit(config).init(
    jax.random.key(config.seed), jnp.zeros((1, size, size, 3))
  )


def vit_shapes(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns the shapes of `load_vit`'s arrays, without computing them."""
  return jax.eval_shape(lambda: init_vit(config))


def _resize(images: jax.Array, size: int) -> jax.Array:
  return feature_resizing.resize_bicubic(images, (size, size))
