"""Random streams: functions of seed, step and name."""

import itertools

import jax
import numpy as np

from slot_attention import train_state


def _draws(seed, step):
  rngs = train_state.step_rngs(seed, np.int32(step))
  return {name: float(jax.random.normal(key)) for name, key in rngs.items()}


def test_streams_depend_on_seed_step_and_name_alone():
  assert _draws(3, 7) == _draws(3, 7)
  draws = [_draws(*pair) for pair in itertools.product((0, 1), (0, 1, 2))]
  values = [value for draw in draws for value in draw.values()]
  assert len(set(values)) == len(values)


def test_a_jitted_step_draws_the_same():
  key = jax.jit(lambda step: train_state.step_rngs(3, step)["slots"])(7)
  assert float(jax.random.normal(key)) == _draws(3, 7)["slots"]
