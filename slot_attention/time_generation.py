"""Times SLATE's generation: `python -m slot_attention.time_generation`.

Prints milliseconds per token, medians, with a cache and without, of a model
with random weights, and checks that both choose the same tokens.
"""

from collections.abc import Callable
import statistics
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
import ml_collections
from ml_collections import config_flags

from slot_attention import cli
from slot_attention import config_validation
from slot_attention.benchmarking import measure as measure_lib
from slot_attention.tasks import slate


def measure(
  config: ml_collections.ConfigDict, batch_size: int, repeats: int
) -> dict[str, float]:
  """Times generation from random slots.

  Args:
    config: of a SLATE run; no data is read.
    batch_size: b.
    repeats: of every measurement, after the one that compiles.

  Returns:
    Milliseconds per token by name: of the whole loop with the cache, of single
    steps with it at the first, middle and last token, of a token without it
    (a pass over the whole sequence), and `equal`, the share of tokens that are
    the same without the cache.
  """
  task = slate.Slate(config)
  variables = jax.jit(task.init)(jax.random.key(config.seed))
  model, num_tokens = task.model, task.model.embedding.num_tokens
  slots = jax.random.normal(
    jax.random.key(1),
    (batch_size, config.model.num_slots, config.model.slot_size),
  )

  def apply(method: str) -> Callable[..., Any]:
    return jax.jit(lambda *args: model.apply(variables, *args, method=method))

  generate = jax.jit(lambda slots: task.generate(variables, slots)[0])
  tokens = generate(slots)
  score = apply("score")
  # If each token is the best one after those before it, then generation
  # without a cache finds the same ones, one after the other.
  best = jnp.argmax(score(tokens, slots), axis=-1)
  state = apply("start_generation")(slots)
  step = apply("next_logits")
  result = {
    "equal": float(jnp.mean(best == tokens)),
    "cached": _milliseconds(generate, (slots,), repeats) / num_tokens,
    "uncached": _milliseconds(score, (tokens, slots), repeats),
  }
  for position in (0, num_tokens // 2, num_tokens - 1):
    args = state, tokens[:, position], jnp.array(position)
    result[f"cached, token {position}"] = _milliseconds(step, args, repeats)
  return result


def _milliseconds(
  function: Callable[..., Any], args: tuple[Any, ...], repeats: int
) -> float:
  """Returns the median time of a call that is compiled already."""
  seconds = measure_lib.each(lambda: function(*args), repeats)
  return 1e3 * statistics.median(seconds)


def main(argv: list[str]) -> None:
  """Prints one line per measurement."""
  cli.reject_arguments(argv)
  values = flags.FLAGS
  config_validation.validate(values.config)
  if values.config.task != "slate":
    raise ValueError(
      f"config.task is {values.config.task!r}; only slate generates tokens."
    )
  result = measure(values.config, values.batch_size, values.repeats)
  print(
    f"{result.pop('equal'):.1%} of the tokens are the same without the cache."
  )
  for name, value in result.items():
    print(f"{name}: {value:.3f} ms per token, batch {values.batch_size}")


def _define_flags() -> None:
  config_flags.DEFINE_config_file("config", None, "Config file of SLATE.")
  flags.DEFINE_integer("batch_size", 1, "Images.", lower_bound=1)
  flags.DEFINE_integer("repeats", 5, "Of each measurement.", lower_bound=1)
  flags.mark_flag_as_required("config")


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
