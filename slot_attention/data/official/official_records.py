"""What the records of the Multi-Object Datasets say, with numpy alone."""

from collections.abc import Mapping
import math

import numpy as np

from slot_attention.data.official import multi_object_specs


def to_arrays(
  parsed: Mapping[str, np.ndarray], spec: multi_object_specs.Spec
) -> dict[str, np.ndarray]:
  """Gives the features of a record their shapes.

  Args:
    parsed: vectors, see `wire_format.parse_example`.
    spec: what they should be.

  Returns:
    The arrays of the shapes and types of `spec.features`.

  Raises:
    ValueError: a feature is missing, unknown, of another type or size.
  """
  if set(parsed) != set(spec.features):
    raise ValueError(
      f"its features are {', '.join(sorted(parsed)) or 'none'} instead of "
      f"{', '.join(sorted(spec.features))}"
    )
  arrays = {}
  for name, feature in spec.features.items():
    vector, size = parsed[name], math.prod(feature.shape)
    if vector.dtype != feature.dtype or vector.size != size:
      raise ValueError(
        f"'{name}' is {vector.size} elements of {vector.dtype} instead of "
        f"{size} of {feature.dtype}, {list(feature.shape)}"
      )
    arrays[name] = vector.reshape(feature.shape)
  return arrays


def identify(parsed: Mapping[str, np.ndarray]) -> str | None:
  """Returns the name of the data set with just these features, or None."""
  for name, spec in multi_object_specs.SPECS.items():
    try:
      to_arrays(parsed, spec)
    except ValueError:
      continue
    return name
  return None


def masks(
  arrays: Mapping[str, np.ndarray], spec: multi_object_specs.Spec
) -> np.ndarray:
  """Returns the masks of a record's entities, [k, h, w] uint8, 0 to 255."""
  mask = arrays["mask"][..., 0]  # [k, h, w], or [h, w, k].
  return np.moveaxis(mask, 2, 0) if spec.entities_last else mask


def label_map(entity_masks: np.ndarray) -> np.ndarray:
  """Merges masks into one image of labels.

  Args:
    entity_masks: [k, h, w] uint8, of which at most one is not zero in a pixel;
      of several the last one counts, as later entities cover earlier ones.

  Returns:
    [h, w] uint8, the number of the entity; 0, the background, also where no
    mask is.
  """
  labels = np.zeros(entity_masks.shape[1:], np.uint8)
  for k in range(1, len(entity_masks)):
    labels[entity_masks[k] > 0] = k
  return labels


def count_objects(
  arrays: Mapping[str, np.ndarray], spec: multi_object_specs.Spec
) -> int:
  """Counts the visible objects of a record, without its background.

  Args:
    arrays: see `to_arrays`.
    spec: of the data set.

  Returns:
    The sum of `visibility` without entity 0; in data sets without visibility,
    the number of masks that are not empty, without mask 0.
  """
  if "visibility" in arrays:
    return int(np.count_nonzero(arrays["visibility"][1:] > 0))
  return int(np.count_nonzero(masks(arrays, spec)[1:].any((1, 2))))
