"""Writes directories that tensorflow_datasets reads as prepared data sets."""

from collections.abc import Iterable, Mapping
import dataclasses
import os
import pathlib
import shutil
from typing import Any, TYPE_CHECKING

from slot_attention.data import preprocess
from slot_attention.data import progress as progress_lib

if TYPE_CHECKING:
  import tensorflow_datasets as tfds

# As in tensorflow_datasets: what stands in such a directory is not finished.
_INCOMPLETE = "incomplete."


@dataclasses.dataclass(frozen=True)
class Split:
  """The examples of one split.

  Attributes:
    num_examples: how many there are; known beforehand, since the names of the
      files carry their number.
    examples: the examples in the form that the features encode, images as
      uint8 arrays, or as bytes or paths of encoded files.
  """

  num_examples: int
  examples: Iterable[dict[str, Any]]


def write_tfds_directory(
  data_dir: str | os.PathLike,
  name: str,
  features: "tfds.features.FeaturesDict",
  splits: Mapping[str, Split],
  examples_per_shard: int = 1000,
  description: str = "",
) -> pathlib.Path:
  """Writes a data set as `tfds.load(name, data_dir=data_dir)` expects it.

  Everything goes to a directory beside the final one, which gets its name when
  all of it is written, so that even a killed run leaves nothing that looks
  whole. The order of the examples is kept.

  Args:
    data_dir: what is given to `tfds.load` as `data_dir`.
    name: "name/version" or "name/config/version", such as "clevr/3.1.0".
    features: the features of the data set; those of a data set that tfds knows
      are `tfds.builder(...).info.features`.
    splits: the examples by split; splits without examples are left out.
    examples_per_shard: largest number of examples in a file.
    description: what the data set's metadata say that it is.

  Returns:
    The directory, data_dir/name.

  Raises:
    FileExistsError: there is something at the target already.
    ValueError: a split yields another number of examples than it promised, or
      there is no example at all.
  """
  target = pathlib.Path(data_dir) / name
  check_target(target)
  splits = {key: split for key, split in splits.items() if split.num_examples}
  if not splits:
    raise ValueError(f"There is no example to write to {target}.")
  temporary = target.with_name(_INCOMPLETE + target.name)
  temporary.mkdir(parents=True)
  try:
    infos = _write_splits(temporary, name, features, splits, examples_per_shard)
    _write_metadata(temporary, name, features, infos, description)
    if target.exists():
      target.rmdir()  # It is empty: check_target saw to that.
    temporary.rename(target)
  except BaseException:
    shutil.rmtree(temporary)
    raise
  return target


def check_target(target: pathlib.Path) -> None:
  """Raises FileExistsError if a directory cannot become a new data set."""
  if target.exists() and (not target.is_dir() or any(target.iterdir())):
    raise FileExistsError(
      f"{target} exists and is not empty; remove it or choose another "
      "directory."
    )
  temporary = target.with_name(_INCOMPLETE + target.name)
  if temporary.exists():
    raise FileExistsError(
      f"{temporary} was left by a run that was killed, or belongs to one that "
      "is still writing; wait for it or remove that directory."
    )


def _write_splits(
  directory: pathlib.Path,
  name: str,
  features: "tfds.features.FeaturesDict",
  splits: Mapping[str, Split],
  examples_per_shard: int,
) -> list["tfds.core.SplitInfo"]:
  """Writes the files of all splits."""
  preprocess.import_tensorflow()
  import tensorflow_datasets as tfds
  from tensorflow_datasets.core import example_serializer

  serializer = example_serializer.ExampleSerializer(
    features.get_serialized_info()
  )
  progress = progress_lib.Progress(
    sum(split.num_examples for split in splits.values())
  )
  infos = []
  for split_name, split in splits.items():
    template = tfds.core.ShardedFileTemplate(
      dataset_name=name.split("/")[0],
      data_dir=directory,
      split=split_name,
      filetype_suffix="tfrecord",
    )
    records = (
      serializer.serialize_example(features.encode_example(x))
      for x in split.examples
    )
    shard_lengths = _shard_lengths(split.num_examples, examples_per_shard)
    num_bytes = _write_shards(records, template, shard_lengths, progress)
    infos.append(
      tfds.core.SplitInfo(
        name=split_name,
        shard_lengths=shard_lengths,
        num_bytes=num_bytes,
        filename_template=template,
      )
    )
  return infos


def _write_metadata(
  directory: pathlib.Path,
  name: str,
  features: "tfds.features.FeaturesDict",
  infos: list["tfds.core.SplitInfo"],
  description: str,
) -> None:
  import tensorflow_datasets as tfds

  tfds.folder_dataset.write_metadata(
    data_dir=directory,
    features=features,
    split_infos=infos,
    version=name.split("/")[-1],
    check_data=True,  # Reads one example.
    description=description,
  )


def _shard_lengths(num_examples: int, examples_per_shard: int) -> list[int]:
  """Divides the examples over the fewest files, as evenly as possible."""
  num_shards = -(-num_examples // examples_per_shard)
  small, larger = divmod(num_examples, num_shards)
  return [small + (shard < larger) for shard in range(num_shards)]


def _write_shards(
  records: Iterable[bytes],
  template: "tfds.core.ShardedFileTemplate",
  shard_lengths: list[int],
  progress: progress_lib.Progress,
) -> int:
  """Writes the files of a split and returns the bytes of their records."""
  tf = preprocess.import_tensorflow()
  records, num_bytes, num_examples = iter(records), 0, sum(shard_lengths)
  for shard, length in enumerate(shard_lengths):
    path = template.sharded_filepath(
      shard_index=shard, num_shards=len(shard_lengths)
    )
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
      for number in range(length):
        record = next(records, None)
        if record is None:
          written = sum(shard_lengths[:shard]) + number
          raise ValueError(
            f"Split {template.split} was to have {num_examples} examples, but "
            f"only {written} came."
          )
        writer.write(record)
        progress.count()
        num_bytes += len(record)
  if next(records, None) is not None:
    raise ValueError(
      f"Split {template.split} was to have {num_examples} examples, but more "
      "came."
    )
  return num_bytes
