"""SLATE against the published implementation.

The dVAE's weights are too large to be stored here: what needs them runs where
`reference_arrays` finds them.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_arrays

from slot_attention import optimizers
from slot_attention import slate_configuration
from slot_attention import tasks
from slot_attention.convert import slate as convert_slate
from slot_attention.convert import trees
from slot_attention.modules import dvae
from slot_attention.tasks import slate

DATA = pathlib.Path(__file__).parents[1] / "data"
PART = dict(np.load(DATA / "slate_torch_transformer.npz"))
NULL_DIRECTION = "slot_attn.slot_attention.norm_slots.bias"
_WEIGHTS = "param/"


def _config(gradient="all"):
  """That of the published arrays."""
  config = slate_configuration.get_slate()
  config.data.resolution = (32, 32)
  model = config.model
  model.num_slots, model.num_iterations = 3, 2
  model.slot_size, model.mlp_hidden_size = 48, 40
  model.encoder_channels = (32,)
  model.gradient = gradient
  model.slate.vocab_size = 64
  model.slate.num_blocks, model.slate.num_heads = 2, 4
  model.slate.dropout = 0.0
  return config


def _params(arrays):
  return convert_slate.to_params(
    {
      name.removeprefix(_WEIGHTS): value
      for name, value in arrays.items()
      if name.startswith(_WEIGHTS)
    }
  )


def _from_tokens(gradient):
  """Loss, gradients and outputs of the published tokens; no dVAE."""
  model = tasks.create_task(_config(gradient)).model
  tokens = PART["out/dvae/tokens"]

  def read(module):
    output = module.infer_slots(
      module.tokens(module.embedding(tokens)[:, 1:]),
      None,
      None,
      PART["in/slot_noise"],
      True,
    )
    return module.score(tokens, output.slots), output.slots

  def loss_fn(params):
    logits, slots = model.apply({"params": params}, method=read)
    loss = jnp.mean(slate.token_cross_entropy(logits, tokens))
    return loss, (logits, slots)

  return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(_params(PART))


def _check_norms(grads, names, expected):
  flat = trees.flatten(grads)
  gru = trees.flatten(grads["slot_module"]["iteration"]["gru"])
  compared = 0
  for name, norm in zip(names, expected, strict=True):
    if ".gru.bias" in name:
      gradient = gru["bias"][0 if name.endswith("ih") else 1]
    elif ".gru." in name:
      gradient = gru["kernel" if name.endswith("ih") else "recurrent_kernel"]
    else:
      (path,) = trees.flatten(convert_slate.to_params({name: np.zeros((1,))}))
      gradient = flat[path]
    np.testing.assert_allclose(
      np.linalg.norm(gradient.ravel()),
      0.0 if name == NULL_DIRECTION else norm,
      rtol=1e-3,
      atol=1e-3,
      err_msg=name,
    )
    compared += 1
  return compared


@pytest.mark.parametrize(
  ("gradient", "norms"),
  [("all", "grad_norms"), ("last", "detached_grad_norms")],
)
def test_logits_loss_and_gradients_of_given_tokens(gradient, norms):
  (loss, (logits, slots)), grads = _from_tokens(gradient)
  np.testing.assert_allclose(slots, PART["out/sa/slots"], atol=1e-4)
  np.testing.assert_allclose(logits[:1], PART["out/tr/logits"], atol=1e-3)
  np.testing.assert_allclose(loss, PART["out/loss/cross_entropy"], rtol=1e-5)
  assert _check_norms(grads, PART["names"], PART[norms]) == 67
  if gradient == "last":
    for name in ("mu", "log_sigma"):
      assert not grads["initializer"][name].any()


@pytest.mark.slow
def test_greedy_tokens_are_the_published_ones():
  model = tasks.create_task(_config()).model
  variables = {"params": _params(PART)}
  tokens = PART["out/ar/input_tokens"]
  slots = model.apply(
    variables,
    method=lambda module: (
      module.infer_slots(
        module.tokens(module.embedding(tokens)[:, 1:]),
        None,
        None,
        PART["in/slot_noise_ar"],
        False,
      ).slots
    ),
  )
  task = tasks.create_task(_config())
  decoder = jax.jit(task.init)(jax.random.key(0))["params"]["dvae"]
  variables["params"]["dvae"] = decoder
  generated, images = jax.jit(task.generate)(variables, slots)
  np.testing.assert_array_equal(generated, PART["out/ar/tokens"])
  assert images.shape == (2, 32, 32, 3)


@pytest.fixture(scope="module")
def reference():
  return reference_arrays.load("slate_torch/slate.npz")


def _training_pass(reference, straight_through=False):
  """Both losses, their gradients, and outputs of the whole model."""
  task = tasks.create_task(_config())
  images = reference["in/image"] * 2.0 - 1.0

  def loss_fn(params):
    outputs = task.model.apply(
      {"params": params},
      images,
      reference["in/tau"],
      straight_through,
      slot_noise=reference["in/slot_noise"],
      gumbel_noise=(reference["in/gumbel_soft"], reference["in/gumbel_hard"]),
      method="sample",
    )
    errors = jnp.square(outputs["reconstruction"] - reference["in/image"])
    cross_entropy = slate.token_cross_entropy(
      outputs["logits"], outputs["tokens"]
    )
    losses = {
      "mse": jnp.sum(errors) / 2,
      "cross_entropy": jnp.mean(cross_entropy),
    }
    return sum(losses.values()), (losses, outputs)

  return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(_params(reference))


def _check_gradients(reference, grads, prefix):
  """Compares the gradients that are stored whole, but for the GRU's."""
  flat, compared = trees.flatten(grads), 0
  for key, value in reference.items():
    name = key.removeprefix(prefix)
    if key != name and ".gru." not in name:
      theirs = trees.flatten(convert_slate.to_params({name: value}))
      ((path, expected),) = theirs.items()
      _close(flat[path], expected, 2e-3, name)
      compared += 1
  return compared


def _close(actual, expected, tolerance, message=""):
  np.testing.assert_allclose(
    actual,
    expected,
    rtol=0,
    atol=tolerance * np.abs(expected).max(),
    err_msg=message,
  )


def test_training_pass_of_the_whole_model(reference):
  (_, (losses, outputs)), grads = _training_pass(reference)
  _close(outputs["reconstruction"], reference["out/dvae/recon"], 1e-4)
  np.testing.assert_array_equal(outputs["tokens"], reference["out/dvae/tokens"])
  _close(outputs["logits"], reference["out/tr/logits"], 2e-4)
  _close(outputs["slots"], reference["out/sa/slots"], 1e-4)
  attention = outputs["attention"][:, -1].swapaxes(1, 2)  # [b, n, k]
  _close(attention, reference["out/sa/attns"], 1e-4)
  for name, loss in losses.items():
    np.testing.assert_allclose(loss, reference[f"out/loss/{name}"], rtol=1e-5)
  names = [k[len(_WEIGHTS) :] for k in reference if k.startswith(_WEIGHTS)]
  norms = [reference[f"out/gradnorm/{name}"] for name in names]
  assert _check_norms(grads, names, norms) == 119
  largest = max(np.abs(x).max() for x in jax.tree.leaves(grads))
  np.testing.assert_allclose(largest, reference["out/grad_max_abs"], rtol=1e-4)
  assert _check_gradients(reference, grads, "out/grad/") >= 13
  clip = optimizers.clip_by_largest_entry(1.0)
  clipped, _ = clip.update(grads, clip.init(grads))
  assert _check_gradients(reference, clipped, "out/grad_clipped/") == 3


def test_stages_on_the_way(reference):
  model = tasks.create_task(_config()).model
  tokens, noise = reference["out/dvae/tokens"], reference["in/slot_noise"]

  def compute(module):
    scores = module.dvae.encode(reference["in/image"])
    gumbel, temperature = reference["in/gumbel_soft"], reference["in/tau"]
    relaxed = dvae.relaxed_sample(scores, gumbel, temperature)
    module.dvae.decode(relaxed)
    embeddings = module.embedding(tokens)
    inputs = module.tokens(embeddings[:, 1:])
    output = module.infer_slots(inputs, None, None, noise, False)
    projected = module.projection(output.slots)
    return {
      "dvae/z_logits": scores,
      "dvae/z_soft": relaxed,
      "hard/tokens": dvae.sample_tokens(scores, gumbel).reshape(2, -1),
      "tr/emb_input": embeddings,
      "sa/inputs": inputs,
      "sa/slots_init": module.initializer(2, None, noise),
      "sa/slots_after_iter1": output.slots_per_iteration[:, 0],
      "tr/slots_proj": projected,
      "tr/decoder_output": module.decoder(embeddings[:, :-1], projected),
    }

  stages, state = model.apply(
    {"params": _params(reference)},
    method=compute,
    capture_intermediates=True,
    mutable="intermediates",
  )
  inner = state["intermediates"]
  for part in ("encoder", "decoder"):
    (block,) = inner["dvae"][part]["block_0"]["__call__"]
    stages[f"dvae/{part}_block0"] = block
  (block,) = inner["dvae"]["decoder"]["block_4"]["__call__"]
  stages["dvae/decoder_pixelshuffle0"] = dvae.pixel_shuffle(block, 2)
  for i in range(2):
    ((block, _),) = inner["decoder"][f"blocks_{i}"]["__call__"]
    stages[f"tr/block{i}"] = block
  for name, value in stages.items():
    expected = reference[f"out/{name}"]
    assert value.shape == expected.shape, name
    _close(value, expected, 1e-4, name)


def test_straight_through_training(reference):
  (_, (losses, outputs)), grads = _training_pass(reference, True)
  _close(outputs["reconstruction"], reference["out/hard/recon"], 1e-4)
  for name, loss in losses.items():
    np.testing.assert_allclose(loss, reference[f"out/hard/{name}"], rtol=1e-5)
  prefix = "out/hard/gradnorm_mse/"
  names = [k.removeprefix(prefix) for k in reference if k.startswith(prefix)]
  norms = [reference[prefix + name] for name in names]
  assert _check_norms(grads, names, norms) == 52


def test_autoregressive_reconstruction(reference):
  task = tasks.create_task(_config())
  variables = {"params": _params(reference)}
  outputs = jax.jit(task.predict)(
    variables,
    reference["in/image"] * 2.0 - 1.0,
    {},
    slot_noise=reference["in/slot_noise_ar"],
  )
  np.testing.assert_array_equal(
    outputs["tokens"], reference["out/ar/input_tokens"]
  )
  _close(outputs["slots"], reference["out/ar/slots"], 1e-4)
  attention = outputs["attention"][:, -1].swapaxes(1, 2)  # [b, n, k]
  _close(attention, reference["out/ar/attns"], 1e-4)
  outputs = jax.jit(task.figure_outputs)(variables, outputs)
  tokens = outputs["generated_tokens"]
  np.testing.assert_array_equal(tokens, reference["out/ar/tokens"])
  logits = task.model.apply(variables, tokens, outputs["slots"], method="score")
  _close(logits, reference["out/ar/step_logits"], 2e-4)
  drawn = outputs["slot_reconstruction"] / 2 + 0.5
  _close(drawn, reference["out/ar/recon_clamped"], 1e-4)
  error = np.sum((drawn - reference["in/image"]) ** 2) / 2
  np.testing.assert_allclose(error, reference["out/ar/mse_sum"], rtol=1e-4)


def test_initial_parameters_have_the_published_bounds():
  statistics = json.loads((DATA / "slate_torch_init.json").read_text())
  task = tasks.create_task(slate_configuration.get_slate())
  params = jax.jit(task.init)(jax.random.key(0))["params"]
  sizes = [x.size for x in jax.tree.leaves(params)]
  assert sum(sizes) == statistics["total"] == 7_621_571
  flat, compared = trees.flatten(params), 0
  for name, (_, largest, spread, _) in statistics["parameters"].items():
    if ".gru." in name or name.endswith("gru"):
      continue
    (path,) = trees.flatten(convert_slate.to_params({name: np.zeros((1,))}))
    value = np.asarray(flat[path])
    # A single largest value, or a spread, of few draws tells little.
    tolerance = 0.02 + 2 / np.sqrt(value.size)
    np.testing.assert_allclose(value.std(), spread, rtol=tolerance, atol=1e-6)
    if "dictionary" not in name:
      np.testing.assert_allclose(
        np.abs(value).max(), largest, rtol=tolerance, err_msg=name
      )
    compared += 1
  gru = params["slot_module"]["iteration"]["gru"]
  for leaf, theirs in (("kernel", "ih"), ("recurrent_kernel", "hh")):
    name = f"slot_attn.slot_attention.gru.weight_{theirs}"
    spread = statistics["parameters"][name][2]
    np.testing.assert_allclose(gru[leaf].std(), spread, rtol=0.02)
  assert compared + 4 == len(statistics["parameters"])
