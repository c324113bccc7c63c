"""Foreign checkpoints as runs, and what does not fit."""

import pathlib

import numpy as np
import pytest

from configs import clevr_object_discovery
from configs import clevr_set_prediction
import slot_attention
from slot_attention import configuration
from slot_attention import evaluate
from slot_attention import run_files
from slot_attention import train
from slot_attention.convert import conversion
from slot_attention.convert import google_tf

DATA = pathlib.Path(__file__).parents[1] / "data"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def _write_tensorflow_checkpoint(path, weights, **others):
  tf = pytest.importorskip("tensorflow")
  tensors = {f"{key}{SUFFIX}": value for key, value in weights.items()}
  first = next(iter(weights))
  tensors[f"{first}/.OPTIMIZER_SLOT/optimizer/m{SUFFIX}"] = weights[first]
  tensors |= {f"{key}{SUFFIX}": value for key, value in others.items()}
  tf.raw_ops.SaveV2(
    prefix=str(path),
    tensor_names=list(tensors),
    shape_and_slices=[""] * len(tensors),
    tensors=[tf.convert_to_tensor(value) for value in tensors.values()],
  )
  return str(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  weights = dict(np.load(DATA / "google_tf_set_prediction_weights.npz"))
  return _write_tensorflow_checkpoint(
    tmp_path_factory.mktemp("tf") / "ckpt-1", weights, global_step=np.int64(7)
  )


def _config():
  config = clevr_set_prediction.get_config()
  config.data.source = "procedural"
  config.data.procedural.num_train = 4
  config.data.procedural.min_visible_pixels = 0
  config.data.procedural.antialias = 1
  config.train.batch_size = 4
  config.train.num_steps = 8
  config.eval.num_examples = 2
  config.eval.batch_size = 4
  config.eval.num_figures = 0
  return config


def test_a_converted_run_predicts_what_the_original_does(checkpoint, tmp_path):
  config = _config()
  config.model.epsilon = 1e-3  # Not the original's.
  assert conversion.convert("google_tf", checkpoint, config, str(tmp_path)) == 7
  assert run_files.read_config(str(tmp_path)).model.epsilon == 1e-8
  forward = np.load(DATA / "google_tf_set_prediction_forward.npz")
  predictor = slot_attention.load(str(tmp_path))
  assert predictor.step == 7
  outputs = predictor(forward["image_uint8"], forward["noise"])
  np.testing.assert_allclose(
    outputs["predictions"], forward["predictions"], atol=1e-5
  )


def test_object_discovery_has_its_own_weights(tmp_path):
  weights = dict(np.load(DATA / "google_tf_object_discovery_weights.npz"))
  path = _write_tensorflow_checkpoint(tmp_path / "ckpt-1", weights)
  config = clevr_object_discovery.get_config()
  conversion.convert("google_tf", path, config, str(tmp_path / "run"))
  assert slot_attention.load(str(tmp_path / "run")).step == 0


def test_a_converted_run_is_evaluated_and_trains_on(checkpoint, tmp_path):
  config = _config()
  config.data.resolution = (32, 32)
  conversion.convert("google_tf", checkpoint, config, str(tmp_path))
  result = evaluate.evaluate(str(tmp_path))
  assert result["step"] == 7
  assert np.isfinite(result["results"][0]["eval/loss"])
  train.train_and_evaluate(config, str(tmp_path))
  assert slot_attention.load(str(tmp_path)).step == 8


@pytest.mark.parametrize(
  ("source", "task", "settings", "sentence"),
  [
    ("airi_smm", "object_discovery", {}, "weights of set_prediction only"),
    (
      "google_tf",
      "set_prediction",
      {"slot_module": "kmeans"},
      "slot_module is 'kmeans', but weights of google_tf",
    ),
  ],
)
def test_configs_that_do_not_fit(source, task, settings, sentence, tmp_path):
  config = configuration.get_default()
  config.task = task
  config.update_from_flattened_dict(settings)
  with pytest.raises(ValueError, match=sentence):
    conversion.convert(source, "none", config, str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


def test_checkpoints_that_do_not_fit(checkpoint, tmp_path):
  workdir = tmp_path / "run"
  with pytest.raises(ValueError, match=r"lacks params/decoder/.* and \d+ more"):
    conversion.convert(
      "google_tf",
      checkpoint,
      clevr_object_discovery.get_config(),
      str(workdir),
    )
  config = _config()
  config.model.head_hidden_size = 32
  with pytest.raises(ValueError, match=r"dense_0/bias \(64,\) instead of"):
    conversion.convert("google_tf", checkpoint, config, str(workdir))
  with pytest.raises(ValueError, match="no TensorFlow checkpoint"):
    google_tf.read(str(tmp_path))
  path = _write_tensorflow_checkpoint(
    tmp_path / "other", {"layer/kernel": np.zeros(2, np.float32)}
  )
  with pytest.raises(ValueError, match="has no weights called network/"):
    google_tf.read(path)
  assert not workdir.exists()


def test_a_run_is_not_overwritten(tmp_path):
  (tmp_path / run_files.CONFIG_FILE).write_text("{}")
  with pytest.raises(ValueError, match="already holds a run"):
    conversion.convert("google_tf", "none", _config(), str(tmp_path))
