"""SLATE's decoder against the published one, and generation with a cache."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slot_attention.convert import slate
from slot_attention.modules import generation
from slot_attention.modules import transformer

PIECES = dict(
  np.load(pathlib.Path(__file__).parents[1] / "data" / "slate_torch_pieces.npz")
)
PARAMS = slate.to_params(
  {
    name.replace("dec2/param", "tf_dec").replace("/", "."): value
    for name, value in PIECES.items()
    if name.startswith("dec2/param/")
  }
)["decoder"]
SLOTS = PIECES["dec2/slots"]
BATCH, LENGTH, WIDTH = PIECES["dec2/in"].shape
VOCAB = 11


def _decoder(dropout=0.0, remat=False):
  return transformer.TransformerDecoder(2, WIDTH, 4, dropout, remat)


@pytest.mark.parametrize("remat", [False, True])
def test_equals_published_decoder(remat):
  apply = jax.jit(functools.partial(_decoder(remat=remat).apply))
  y = apply({"params": PARAMS}, PIECES["dec2/in"], SLOTS)
  np.testing.assert_allclose(y, PIECES["dec2/out"], atol=2e-4)
  prefix = apply({"params": PARAMS}, PIECES["dec2/in"][:, :5], SLOTS)
  np.testing.assert_allclose(prefix, PIECES["dec2/out_prefix5"], atol=2e-4)


def test_no_token_sees_later_ones():
  def output_at(x, position):
    y = _decoder().apply({"params": PARAMS}, x, SLOTS)
    return jnp.sum(jnp.sin(y[:, position] * jnp.arange(WIDTH)[None]))

  gradient = jax.jit(jax.grad(output_at))
  sizes = np.abs(gradient(PIECES["dec2/in"], 4)).max(axis=(0, 2))
  assert (sizes[:5] > 1e-4).all()
  np.testing.assert_array_equal(sizes[5:], 0)


def test_steps_with_a_cache_equal_the_whole():
  decoder, variables = _decoder(), {"params": PARAMS}
  slots = decoder.apply(variables, SLOTS, method="slot_keys_values")
  cache = decoder.apply(variables, BATCH, LENGTH, method="empty_cache")
  step = jax.jit(functools.partial(decoder.apply, method="step"))
  for t in range(LENGTH):
    x = PIECES["dec2/in"][:, t : t + 1]
    y, cache = step(variables, x, slots, cache, t)
    np.testing.assert_allclose(
      y[:, 0], PIECES["dec2/out"][:, t], atol=2e-4, err_msg=str(t)
    )


def test_dropout_is_random_in_training_only():
  apply = functools.partial(
    _decoder(0.5).apply, {"params": PARAMS}, PIECES["dec2/in"], SLOTS
  )
  np.testing.assert_allclose(apply(), PIECES["dec2/out"], atol=2e-4)
  dropped = [
    apply(True, rngs={"dropout": jax.random.key(seed)}) for seed in (0, 0, 1)
  ]
  np.testing.assert_array_equal(dropped[0], dropped[1])
  assert np.abs(dropped[0] - dropped[2]).max() > 0.1


@pytest.fixture(scope="module")
def embedding():
  module = transformer.TokenEmbedding(VOCAB, LENGTH, WIDTH)
  tokens = jax.random.randint(jax.random.key(0), (BATCH, LENGTH), 0, VOCAB)
  return module, module.init(jax.random.key(1), tokens), tokens


def test_embeddings_begin_with_that_of_the_beginning(embedding):
  module, variables, tokens = embedding
  table = variables["params"]["dictionary"]
  positions = variables["params"]["positions"]
  x = module.apply(variables, tokens)
  np.testing.assert_array_equal(x[0, 0], table[0] + positions[0, 0])
  np.testing.assert_array_equal(
    x[1, 4], table[tokens[1, 3] + 1] + positions[0, 4]
  )
  for t, previous in (
    (0, np.full(BATCH, transformer.BEGIN)),
    (4, tokens[:, 3]),
  ):
    one = module.apply(variables, previous, t, method="embed_one")
    np.testing.assert_array_equal(one, x[:, t : t + 1])


def test_no_array_is_as_wide_as_the_vocabulary(embedding):
  module, variables, tokens = embedding
  jaxpr = jax.make_jaxpr(module.apply)(variables, tokens)
  shapes = [v.aval.shape for e in jaxpr.eqns for v in e.outvars]
  assert (BATCH, LENGTH + 1, WIDTH) in shapes
  assert not any({VOCAB, VOCAB + 1} & set(shape) for shape in shapes)


def _next_logits(embedding, variables, head, state, previous, position):
  slots, cache = state
  x = embedding.apply(
    {"params": variables["embedding"]}, previous, position, method="embed_one"
  )
  x, cache = _decoder().apply(
    {"params": PARAMS}, x, slots, cache, position, method="step"
  )
  return (x @ head)[:, 0], (slots, cache)


@pytest.fixture(scope="module")
def language_model(embedding):
  """A step with a cache, its first state, and logits of whole sequences."""
  module, variables, _ = embedding
  head = jax.random.normal(jax.random.key(2), (WIDTH, VOCAB))
  decoder = {"params": PARAMS}
  state = (
    _decoder().apply(decoder, SLOTS, method="slot_keys_values"),
    _decoder().apply(decoder, BATCH, LENGTH, method="empty_cache"),
  )
  step = functools.partial(
    _next_logits, module, {"embedding": variables["params"]}, head
  )

  @jax.jit
  def whole(tokens):
    x = module.apply(variables, tokens)[:, :-1]
    return _decoder().apply(decoder, x, SLOTS) @ head

  return step, state, whole


def test_cached_generation_equals_that_from_prefixes(language_model):
  step, state, whole = language_model
  cached = jax.jit(
    lambda state: generation.generate(step, state, BATCH, LENGTH)
  )(state)
  tokens = jnp.zeros((BATCH, LENGTH), jnp.int32)
  for t in range(LENGTH):
    tokens = tokens.at[:, t].set(jnp.argmax(whole(tokens)[:, t], axis=-1))
  np.testing.assert_array_equal(cached, tokens)
  assert len(np.unique(cached)) > 2


def test_sampled_tokens_follow_the_key_and_the_temperature(language_model):
  step, state, _ = language_model

  @jax.jit
  def sample(key, temperature):
    return generation.generate(step, state, BATCH, LENGTH, key, temperature)

  first, second = (sample(jax.random.key(i), 1.0) for i in range(2))
  np.testing.assert_array_equal(first, sample(jax.random.key(0), 1.0))
  assert (first != second).any()
  greedy = generation.generate(step, state, BATCH, LENGTH)
  np.testing.assert_array_equal(sample(jax.random.key(3), 1e-4), greedy)


def test_sampled_tokens_have_the_models_probabilities():
  probabilities = np.array([0.6, 0.3, 0.1])
  logits = jnp.log(jnp.broadcast_to(probabilities, (500, 3)))
  tokens = generation.generate(
    lambda state, previous, position: (logits, state),
    (),
    500,
    20,
    jax.random.key(0),
  )
  counts = np.bincount(tokens.ravel(), minlength=3) / tokens.size
  np.testing.assert_allclose(counts, probabilities, atol=0.02)
