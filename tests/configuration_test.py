"""Configs: defaults, variants, and one sentence for everything wrong."""

import ml_collections
import pytest

from slot_attention import config_validation
from slot_attention import configuration


def test_default_is_valid_and_is_the_papers():
  config = configuration.get_default()
  config_validation.validate(config, num_devices=8)
  assert config.train.batch_size == 512
  assert config.train.num_steps == 150_000
  assert config.optimizer.learning_rate == 4e-4


@pytest.mark.parametrize(
  ("key", "value", "allowed"),
  [
    ("task", "detection", "one of dinosaur, object_discovery"),
    ("slot_module", "slots", "one of slot_attention"),
    ("normalization", "mean", "one of weighted_mean"),
    ("data.source", "imagenet", "one of clevr, image_folder"),
    ("model.dtype", "float16", "one of float32, bfloat16"),
    ("model.matching", "greedy", "one of optax, scipy"),
    ("model.num_slots", 0, "more than 0"),
    ("optimizer.learning_rate", -1.0, "more than 0"),
    ("train.batch_size", 510, "divisible by 4 .* such as 508 or 512"),
    ("train.accumulation_steps", 3, "divisible by 12"),
    ("eval.batch_size", 3, "divisible by 4 .* such as 4"),
    ("data.num_targets", 5, "at least data.max_num_objects = 10"),
    ("data.min_num_objects", 11, "between 0 and"),
    ("data.resolution", (4, 4), "at least 8 pixels"),
    ("data.procedural.num_train", 10, "an endless stream"),
    ("model.encoder_strides", (1, 2), "one stride for each"),
    ("model.head", "two", "one of joint, split"),
    ("model.coordinate_range", "world", "one of unit, symmetric"),
    ("model.coordinate_scale", 0.0, "more than 0"),
    ("model.mixture.values_from", "slots", "one of inputs, keys, projection"),
    ("checkpoint.best_mode", "top", "one of max, min"),
  ],
)
def test_bad_value_names_key_value_and_way_out(key, value, allowed):
  config = configuration.get_default()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(configuration.ConfigError, match=allowed) as error:
    config_validation.validate(config, num_devices=4)
  shown = "train.batch_size" if key == "train.accumulation_steps" else key
  assert f"config.{shown} is " in str(error.value)
  assert str(error.value).count("\n") == 0


def test_procedural_evaluation_needs_an_end():
  config = configuration.get_default()
  config.data.source = "procedural"
  with pytest.raises(configuration.ConfigError, match=r"eval\.num_examples"):
    config_validation.validate(config)


@pytest.mark.parametrize(
  ("dataset", "resolution", "limits"),
  [
    ("tetrominoes", (35, 35), (3, 3)),
    ("multi_dsprites_binarized", (64, 64), (2, 3)),
    ("multi_dsprites_colored_on_grayscale", (64, 64), (1, 5)),
    ("multi_dsprites_colored_on_colored", (64, 64), (1, 4)),
  ],
)
def test_procedural_sets_keep_their_form(dataset, resolution, limits):
  config = configuration.get_default()
  config.task = "object_discovery"
  config.data.source = "procedural"
  config.data.dataset = dataset
  config.data.resolution = resolution
  config.data.min_num_objects, config.data.max_num_objects = limits
  config.model.decoder_resolution = resolution
  config.model.decoder_strides = (1,) * len(config.model.decoder_channels)
  config.eval.num_examples = 320
  config_validation.validate(config)
  most = limits[1]
  for key, value, allowed in (
    ("data.resolution", (32, 32), f"the size of the images of {dataset}"),
    ("data.max_num_objects", most + 1, f"at most {most}"),
    ("data.min_num_objects", 0, f"to {most}"),
    ("data.dataset", "objects_room", "does not draw"),
    ("task", "set_prediction", "has no targets"),
  ):
    bad = config.copy_and_resolve_references()
    bad.update_from_flattened_dict({key: value})
    with pytest.raises(configuration.ConfigError, match=allowed) as error:
      config_validation.validate(bad)
    assert f"config.{key} is {value!r}" in str(error.value)


@pytest.mark.parametrize(
  ("settings", "sentence"),
  [
    ({"normalization": "layer_norm"}, "weighted_mean with slot_module"),
    ({"model.slot_size": 32}, "must be 64, the last of"),
    ({"model.mixture.density_floor": -1.0}, "0 or more"),
    (
      {
        "model.mixture.transformer_blocks": 1,
        "model.encoder_channels": (30, 30, 30, 30),
        "model.slot_size": 30,
      },
      "divisible by 4",
    ),
    (
      {
        "model.mixture.transformer_blocks": 1,
        "model.slot_initialization": "per_slot",
      },
      "shared with model.mixture",
    ),
  ],
)
def test_what_a_mixture_cannot_be(settings, sentence):
  config = configuration.get_default()
  config.slot_module = "slot_mixture"
  config_validation.validate(config)
  config.update_from_flattened_dict(settings)
  with pytest.raises(configuration.ConfigError, match=sentence):
    config_validation.validate(config)


@pytest.mark.parametrize("name", ["kmeans", "gmm"])
def test_clusters_live_in_the_space_of_the_inputs(name):
  config = configuration.get_default()
  config.slot_module = name
  config.model.mixture.values_from = "keys"  # Of slot_mixture only.
  config_validation.validate(config)
  config.model.slot_size = 32
  with pytest.raises(configuration.ConfigError, match="means of the inputs"):
    config_validation.validate(config)


def test_a_config_from_scratch_is_told_what_it_lacks():
  config = ml_collections.ConfigDict({"task": "set_prediction"})
  with pytest.raises(configuration.ConfigError, match="lacks checkpoint"):
    config_validation.validate(config)


def test_json_keeps_values_and_types():
  config = configuration.get_default()
  config.data.resolution = (48, 48)
  config.optimizer.learning_rate = 1e-3
  again = configuration.from_json(configuration.to_json(config))
  assert again.to_dict() == config.to_dict()
  assert isinstance(again.data.resolution, tuple)


def test_json_with_an_unknown_key_is_an_error():
  with pytest.raises(configuration.ConfigError, match="colour"):
    configuration.from_json('{"colour": 1}')


def test_variants_apply_in_order_and_unknown_ones_are_named():
  config = configuration.get_default()
  variants = {
    "small": lambda c: setattr(c.model, "num_slots", 4),
    "large": lambda c: setattr(c.model, "num_slots", 20),
  }
  configuration.apply_variants(config, "small,large", variants)
  assert config.model.num_slots == 20
  with pytest.raises(configuration.ConfigError, match="small, large"):
    configuration.apply_variants(config, "tiny", variants)
