"""Values of `config.data` that cannot work, for folders of images."""

import pytest

from slot_attention import config_validation
from slot_attention import configuration


def folder_config():
  config = configuration.get_object_discovery()
  config.data.source = "image_folder"
  config.data.dataset = "clevrtex"
  return config


@pytest.mark.parametrize(
  "dataset", ["clevr_mirror", "shapestacks", "clevrtex", "coco", "folder"]
)
def test_folders_of_images_are_valid(dataset):
  config = folder_config()
  config.data.dataset = dataset
  config.data.center_crop = 0.8
  config.data.interpolation = "bicubic_antialiased"
  config_validation.validate(config)


@pytest.mark.parametrize("dataset", ["clevr", "clevr_mirror", "clevrtex"])
def test_procedural_scenes_are_valid_at_any_resolution(dataset):
  config = folder_config()
  config.data.source = "procedural"
  config.data.dataset = dataset
  config.data.resolution = (48, 64)
  config.model.decoder_resolution = (3, 4)
  config_validation.validate(config)


@pytest.mark.parametrize(
  ("key", "value", "sentence"),
  [
    ("data.dataset", "clevr", "must be one of clevr_mirror, shapestacks"),
    ("data.source", "multi_object_datasets", "must be none of clevr_mirror"),
    ("data.source", "clevr", "clevrtex.*must be clevr where"),
    ("data.center_crop", -1.0, "must be 0 or more"),
    ("task", "set_prediction", "folders of images are read without targets"),
  ],
)
def test_what_cannot_work(key, value, sentence):
  config = folder_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(configuration.ConfigError, match=sentence):
    config_validation.validate(config)


def test_two_crops_and_crops_of_other_sources():
  config = folder_config()
  config.data.center_crop = 0.5
  config.data.crop = (0, 0, 8, 8)
  with pytest.raises(configuration.ConfigError, match=r"0 where data\.crop"):
    config_validation.validate(config)
  config = configuration.get_object_discovery()
  for key, value in (("center_crop", 0.5), ("variant", "camo")):
    config.data[key] = value
    with pytest.raises(
      configuration.ConfigError, match=rf"config\.data\.{key}.*image_folder"
    ):
      config_validation.validate(config)
    config.data[key] = type(value)()


def test_sets_without_procedural_scenes():
  config = folder_config()
  config.data.source = "procedural"
  config.data.dataset = "coco"
  with pytest.raises(configuration.ConfigError, match="must be none of"):
    config_validation.validate(config)


def test_procedural_scenes_are_not_read_to_be_kept():
  config = configuration.get_object_discovery()
  config.data.keep_on_devices = True
  config_validation.validate(config)
  config.data.source = "procedural"
  with pytest.raises(
    configuration.ConfigError, match=r"keep_on_devices.*False"
  ):
    config_validation.validate(config)
