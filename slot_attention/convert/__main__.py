"""Foreign checkpoints as runs: `python -m slot_attention.convert --source=...`.

What it writes can be evaluated, drawn, loaded, and trained further; but of a
vision transformer (timm) it writes the weights, which DINOSAUR's runs name.
"""

from absl import flags
from ml_collections import config_flags

from slot_attention import cli
from slot_attention.convert import conversion
from slot_attention.convert import vit_file


def main(argv: list[str]) -> None:
  """Converts."""
  cli.reject_arguments(argv)
  values = flags.FLAGS
  if values.source == vit_file.SOURCE:
    path = vit_file.rewrite(values.checkpoint, values.config, values.workdir)
    print(f"Wrote {path}; train with --config.model.vit.weights={path}.")
    return
  step = conversion.convert(
    values.source, values.checkpoint, values.config, values.workdir
  )
  print(f"Wrote {values.workdir}, checkpoint {step}.")


def _define_flags() -> None:
  flags.DEFINE_enum(
    "source",
    None,
    sorted([*conversion.SOURCES, vit_file.SOURCE]),
    "Whose checkpoint it is.",
  )
  flags.DEFINE_string(
    "checkpoint", None, "The file, or TensorFlow's directory."
  )
  flags.DEFINE_string("workdir", None, "Directory of the run to be written.")
  config_flags.DEFINE_config_file(
    "config", None, "Config file: task, data, evaluation."
  )
  flags.mark_flags_as_required(["source", "checkpoint", "workdir", "config"])


if __name__ == "__main__":
  _define_flags()
  cli.run(main)
