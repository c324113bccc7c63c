"""What flags list, and what they cannot."""

import jax
import pytest

from configs import clevr_set_prediction
from slot_attention.benchmarking import variants


def _parse(batch_sizes=(), precisions=(), varied=()):
  config = clevr_set_prediction.get_config("smoke")
  return variants.parse(config, batch_sizes, precisions, varied)


def test_all_combinations_in_order():
  assert _parse() == [{}]
  assert _parse(["8", "16"], ["bfloat16"], ["model.remat=False,True"]) == [
    {"batch_size": size, "precision": "bfloat16", "model.remat": remat}
    for size in (8, 16)
    for remat in (False, True)
  ]
  (variant,) = _parse(varied=["model.epsilon=1e-4", "model.gradient=last"])
  assert variant == {"model.epsilon": 1e-4, "model.gradient": "last"}


@pytest.mark.parametrize(
  ("lists", "sentence"),
  [
    ((["many"],), "'many' is no value of config.train.batch_size, .* a int"),
    (
      ([], ["float16"]),
      "--precision=float16 is not known; choose from float32",
    ),
    (([], [], ["model.slots=3"]), "--vary=model.slots=... names no key"),
    (([], [], ["model=3"]), "--vary=model=... names no key"),
    (
      ([], [], ["data.resolution=3"]),
      "names no key of the config with a single",
    ),
    (([], [], ["model.remat=yes"]), "'yes' is no value of config.model.remat"),
    (([], [], ["model.num_slots"]), "'' is no value of config.model.num_slots"),
  ],
)
def test_bad_lists(lists, sentence):
  with pytest.raises(ValueError, match=sentence):
    _parse(*lists)


def test_applied_to_a_copy():
  config = clevr_set_prediction.get_config("smoke")
  changed = variants.apply(
    config,
    {"batch_size": 3, "precision": "bfloat16", "model.num_slots": 9},
  )
  assert (changed.train.batch_size, changed.eval.batch_size) == (3, 3)
  assert (changed.model.dtype, changed.model.num_slots) == ("bfloat16", 9)
  assert (config.train.batch_size, config.model.num_slots) == (8, 4)
  assert variants.apply(config, {}).to_dict() == config.to_dict()


def test_precision_of_products():
  for variant, expected in (
    ({}, None),
    ({"precision": "float32"}, None),
    ({"precision": "bfloat16"}, None),
    ({"precision": "float32_highest"}, "highest"),
  ):
    with variants.use_precision(variant):
      assert jax.config.jax_default_matmul_precision == expected
