"""New places of the files that a run reads."""

from absl import flags
import pytest

from configs import clevr_object_discovery
from configs import movi_c_dinosaur
from slot_attention import configuration
from slot_attention import moved_files


def _config(**values):
  config = movi_c_dinosaur.get_config()
  config.update_from_flattened_dict(values)
  return config


def test_each_new_place_changes_its_key_alone(tmp_path):
  config = _config(**{"data.features": "precomputed"})
  before = configuration.flatten(config)
  moved_files.apply(config, data_dir=None, features_dir="", vit_weights=None)
  assert configuration.flatten(config) == before
  for name, key in moved_files.KEYS.items():
    moved_files.apply(config, **{name: str(tmp_path)})
    before[key] = str(tmp_path)
    assert configuration.flatten(config) == before


def test_data_may_lie_on_another_machine():
  config = _config()
  moved_files.apply(config, data_dir="gs://bucket/data")
  assert config.data.data_dir == "gs://bucket/data"


def test_there_must_be_a_file(tmp_path):
  config = _config(**{"model.vit.weights": "/old/vit.pth"})
  with pytest.raises(
    FileNotFoundError,
    match=r"--vit_weights is '.*/x\.pth', which does not .*'/old/vit.pth'",
  ):
    moved_files.apply(config, vit_weights=str(tmp_path / "x.pth"))
  assert config.model.vit.weights == "/old/vit.pth"


@pytest.mark.parametrize(
  ("config", "name"),
  [
    (clevr_object_discovery.get_config(), "vit_weights"),
    (_config(**{"model.vit.init": "random"}), "vit_weights"),
    (_config(), "features_dir"),
  ],
)
def test_what_a_run_does_not_read_is_an_error(config, name, tmp_path):
  with pytest.raises(ValueError, match=f"--{name} is .* this run reads none"):
    moved_files.apply(config, **{name: str(tmp_path)})


def test_every_key_has_a_flag(monkeypatch):
  monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
  original = flags.DEFINE_string
  monkeypatch.setattr(
    flags,
    "DEFINE_string",
    lambda *args: original(*args, flag_values=flags.FLAGS),
  )
  moved_files.define_flags()
  flags.FLAGS(["program", "--vit_weights=x"])
  assert moved_files.from_flags() == {
    "data_dir": None,
    "features_dir": None,
    "vit_weights": "x",
  }
