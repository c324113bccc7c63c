"""Computes the features of a split once, on any number of hosts and devices.

Record i lies in shard i // records_per_shard, and shard s is written by host
s % num_hosts, so that hosts need not talk to each other. A shard gets its name
when it is complete; a run that was killed goes on with the shards that are
missing. Who completes the last one describes the result, see `features`.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import os
import pathlib
import shutil
import time
from typing import Any

from absl import logging
import jax
import numpy as np

from slot_attention.data import features
from slot_attention.data import pipeline
from slot_attention.data import progress as progress_lib
from slot_attention.data import resumable
from slot_attention.data.records import record_index
from slot_attention.data.records import record_source
from slot_attention.data.records import record_stream
from slot_attention.data.records import whole_files

_GIB = 2**30


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
  """Which features are computed, and how.

  Attributes:
    reader: the images in the order of evaluation.
    extract: [b, h, w, 3] float32 in [-1, 1] -> [b, n, c] float16 features,
      without the class token; it may return before they are computed.
    data: see `feature_identity.describe_data`.
    vit: see `feature_identity.describe_vit`.
    split: of the data set; only images of other splits than "train" are kept.
    batch_size: images given to `extract` at a time.
    records_per_shard: number of records in a file, but the last.
  """

  reader: record_source.RecordSource
  extract: Callable[[np.ndarray], Any]
  data: Mapping[str, Any]
  vit: Mapping[str, Any]
  split: str
  batch_size: int = 64
  records_per_shard: int = 240

  @property
  def num_records(self) -> int:
    """Returns the number of records in all shards."""
    return self.reader.num_examples

  @property
  def num_shards(self) -> int:
    """Returns the number of files."""
    return -(-self.num_records // self.records_per_shard)

  def shard_range(self, shard: int) -> range:
    """Returns which records stand in a shard."""
    start = shard * self.records_per_shard
    return range(start, min(start + self.records_per_shard, self.num_records))

  def describe(self) -> dict[str, Any]:
    """Returns the arguments on which the result depends."""
    return {
      "format_version": features.FORMAT_VERSION,
      "split": self.split,
      "num_records": self.num_records,
      "records_per_shard": self.records_per_shard,
      "data": dict(self.data),
      "vit": dict(self.vit),
    }


@dataclasses.dataclass(frozen=True)
class _Plan:
  """What one record takes, measured on one batch."""

  tokens: list[int]
  record_bytes: float
  seconds: float


def write_features(
  job: Job, output: str | os.PathLike, host: int = 0, num_hosts: int = 1
) -> pathlib.Path:
  """Writes this host's shards, or goes on where a killed run stopped.

  Args:
    job: what to compute.
    output: directory of the split, which all hosts share.
    host: number of this host, from 0.
    num_hosts: how many hosts run the same command.

  Returns:
    The directory. It holds features, see `features.read_info`, when the last
    host is done.

  Raises:
    FileExistsError: there is something else at the target, or another process
      is this host.
    OSError: there is too little room.
    ValueError: the target was begun with other arguments, a file of it is
      damaged, or an image cannot be read.
  """
  if not 0 <= host < num_hosts:
    raise ValueError(
      f"Host {host} of {num_hosts} was asked for; they are counted from 0."
    )
  directory = pathlib.Path(output)
  directory.mkdir(parents=True, exist_ok=True)
  _claim(directory, job)
  lock = directory / f"{whole_files.INCOMPLETE}host-{host}"
  lock.touch()
  with resumable.locked(lock):
    if features.read_info(directory) is not None:
      logging.info("%s holds features already.", directory)
      return directory
    missing = _missing_shards(directory, job)
    if missing:
      plan = _make_plan(job)
      _announce(directory, job, missing, plan, (host, num_hosts))
      mine = [x for x in missing if x % num_hosts == host]
      _write_shards(directory, job, mine)
    _finish(directory, job)
  lock.unlink(missing_ok=True)
  return directory


def _claim(directory: pathlib.Path, job: Job) -> None:
  with resumable.locked(directory, wait=True):
    resumable.claim(directory, features.ARGUMENTS_FILE, job.describe())


def _shard_path(directory: pathlib.Path, job: Job, shard: int) -> pathlib.Path:
  return directory / f"{job.split}-{shard:05d}.tfrecords"


def _counts_path(directory: pathlib.Path, job: Job, shard: int) -> pathlib.Path:
  """Returns where the numbers of objects stand until the end."""
  return directory / f"{job.split}-{shard:05d}.num_objects.npy"


def _missing_shards(directory: pathlib.Path, job: Job) -> list[int]:
  """Returns the shards that are not there; those that are must be whole."""
  missing = []
  for shard in range(job.num_shards):
    path = _shard_path(directory, job, shard)
    if path.exists():
      expected = len(job.shard_range(shard))
      record_index.RecordIndex.build([os.fspath(path)], [expected])
    else:
      missing.append(shard)
  return missing


def _make_plan(job: Job) -> _Plan:
  """Measures what one batch takes, when everything is compiled."""
  count = min(2 * job.batch_size, job.num_records)
  examples = _examples(job, range(count))
  first = next(examples)
  start = time.monotonic()
  sizes = [len(features.encode(first))]
  sizes += [len(features.encode(example)) for example in examples]
  seconds = (time.monotonic() - start) / max(len(sizes) - 1, 1)
  return _Plan(_shapes(first)["features"], float(np.mean(sizes)), seconds)


def _announce(
  directory: pathlib.Path,
  job: Job,
  missing: list[int],
  plan: _Plan,
  host: tuple[int, int],
) -> None:
  """Says how much will be written in which time, and whether it has room."""
  total = sum(len(job.shard_range(shard)) for shard in missing)
  needed = total * plan.record_bytes
  mine = [x for x in missing if x % host[1] == host[0]]
  own = sum(len(job.shard_range(shard)) for shard in mine)
  logging.info(
    "%d of %d images of split %s are missing, %.2f GiB of features (%s); this "
    "host computes %d of them in about %.0f s.",
    total,
    job.num_records,
    job.split,
    needed / _GIB,
    "x".join(map(str, plan.tokens)),
    own,
    own * plan.seconds,
  )
  free = shutil.disk_usage(directory).free
  if needed > free:
    raise OSError(
      f"{directory} needs {needed / _GIB:.2f} GiB for {total} images, but only "
      f"{free / _GIB:.2f} GiB are free; make room or choose another directory."
    )


def _write_shards(directory: pathlib.Path, job: Job, shards: list[int]) -> None:
  total = sum(len(job.shard_range(shard)) for shard in shards)
  progress = progress_lib.Progress(total, "features written")
  for shard in shards:
    _claim(directory, job)  # Another host may have brought other arguments.
    counts = []
    with whole_files.open_whole(_shard_path(directory, job, shard)) as file:
      for example in _examples(job, job.shard_range(shard)):
        file.write(record_stream.frame(features.encode(example)))
        counts.append(example.get("num_objects", features.UNKNOWN))
        progress.count()
      if len(counts) != len(job.shard_range(shard)):
        raise ValueError(f"Shard {shard} was to have other records.")
      # Before the shard, which says that both are there.
      _save_counts(_counts_path(directory, job, shard), counts)


def _save_counts(path: pathlib.Path, counts: Any) -> None:
  with whole_files.open_whole(path) as file:
    np.save(file, np.asarray(counts, np.int16))


def _examples(job: Job, places: range) -> Iterator[dict[str, np.ndarray]]:
  """Yields some of the records; a batch is computed while one is written."""
  records = job.reader.records[places.start : places.stop]
  reader = dataclasses.replace(job.reader, records=records)
  batches = reader.eval_batches(job.batch_size, slice(0, job.batch_size))
  pending = None
  for batch in batches:
    batch = jax.device_get(pipeline.widen(batch))
    computed = job.extract(batch["image"])
    if pending is not None:
      yield from _split(job, *pending)
    pending = batch, computed
  if pending is not None:
    yield from _split(job, *pending)


def _split(
  job: Job, batch: dict[str, np.ndarray], computed: Any
) -> Iterator[dict[str, np.ndarray]]:
  """Yields the valid examples of a batch."""
  kept = ["num_objects", "segmentation"]
  kept += [] if job.split == "train" else ["image"]
  arrays = {name: batch[name] for name in kept if name in batch}
  arrays["features"] = np.asarray(computed)
  if not np.isfinite(arrays["features"]).all():
    raise ValueError(
      "Features became infinite or no numbers as float16; check the file of "
      "weights."
    )
  for i in np.flatnonzero(batch["valid"]):
    yield {name: array[i] for name, array in arrays.items()}


def _finish(directory: pathlib.Path, job: Job) -> None:
  """Describes the features, when all shards are there."""
  with resumable.locked(directory, wait=True):
    if features.read_info(directory) is not None:
      return
    missing = _missing_shards(directory, job)
    if missing:
      logging.info(
        "%d shards of other hosts are missing in %s; the last host makes it "
        "whole.",
        len(missing),
        directory,
      )
      return
    paths = [_counts_path(directory, job, x) for x in range(job.num_shards)]
    counts = np.concatenate([np.load(path) for path in paths])
    _save_counts(directory / features.NUM_OBJECTS_FILE, counts)
    resumable.write_json(directory / features.INFO_FILE, _info(directory, job))
    for path in paths:
      path.unlink()


def _shapes(example: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
  """Returns the first two axes of what a record holds, [] if it does not."""
  return {
    name: list(example[name].shape[:2]) if name in example else []
    for name in ("features", "image", "segmentation")
  }


def _info(directory: pathlib.Path, job: Job) -> dict[str, Any]:
  shapes = _shapes(next(_examples(job, range(1))))
  shards = [
    {
      "file": _shard_path(directory, job, shard).name,
      "num_records": len(job.shard_range(shard)),
    }
    for shard in range(job.num_shards)
  ]
  tokens = shapes.pop("features")
  return job.describe() | shapes | {"tokens": tokens, "shards": shards}
