"""Batches from TFRecord files in an order that needs no state.

Position p of the training stream (step * batch size + row) is example
permutation(seed, epoch)(p mod n) of epoch p div n. The permutation is computed
for a position alone and every record can be read on its own, so a run starts
at any step without reading what comes before, and each host reads only its own
rows, however many hosts there are.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import re
from typing import Protocol, TYPE_CHECKING

import numpy as np

from slot_attention.data import preprocess
from slot_attention.data.records import record_retry

if TYPE_CHECKING:
  import tensorflow as tf

Batch = dict[str, np.ndarray]

_NODES = re.compile(r"\{\{\w+ [^}]*\}\}|\[Op:\w+\].*")

_SHUFFLE_SEED = 498247692  # What tf.random.experimental adds to its seeds.


class Index(Protocol):
  """Random access to records, from any number of threads."""

  def __len__(self) -> int:
    """Returns the number of records."""

  def locate(self, record: int) -> tuple[str, int | None]:
    """Returns the file of a record and the record's number in that file.

    The number is None where the file is the record.
    """

  def read(self, record: int) -> bytes:
    """Returns a record; a ValueError says which one cannot be read.

    An OSError that may pass is raised as it is, and the record read again.
    """


@dataclasses.dataclass(frozen=True, eq=False)
class RecordSource:
  """One split of a data set, read on the host.

  Attributes:
    index: records of the files.
    records: [num_examples] int64, the numbers in `index` of the examples that
      belong to the split.
    decode: turns a serialized record into an example, a dict of tensors whose
      shapes are the same for all records; TensorFlow operations only.
    batched: `decode` takes records [b] at once instead, and returns stacked
      examples. Small records are read several times faster so, for the calls
      of Python then are few; the parts of a large one are decoded in parallel
      only without it.
  """

  index: Index
  records: np.ndarray
  decode: Callable[["tf.Tensor"], dict[str, "tf.Tensor"]]
  batched: bool = False

  @property
  def num_examples(self) -> int:
    """Returns the number of examples in the split."""
    return len(self.records)

  def train_batches(
    self, batch_size: int, seed: int, start_step: int, rows: slice
  ) -> Iterator[Batch]:
    """Yields batches without end, beginning with that of `start_step`.

    Args:
      batch_size: size of the global batch.
      seed: sets the order of the examples, together with the step.
      start_step: the step of the first batch, 0 for a new run.
      rows: this host's part of range(batch_size); only it is read.

    Yields:
      Stacked examples, one for each of the rows. A batch may hold the end of
      an epoch and the beginning of the next.

    Raises:
      ValueError: a record cannot be read or decoded; the message names it.
    """
    tf = preprocess.import_tensorflow()
    host_rows = np.arange(batch_size, dtype=np.int64)[rows]

    def numbers_at(step: "tf.Tensor") -> "tf.Tensor":
      return shuffle(step * batch_size + host_rows, seed, self.records)

    yield from self._batches(
      _steps_from(start_step).map(numbers_at),
      len(host_rows),
      lambda i: numbers_at(tf.constant(start_step + i, tf.int64)).numpy(),
    )

  def train_positions(
    self, batch_size: int, seed: int, start_step: int
  ) -> Iterator[np.ndarray]:
    """Yields which examples `train_batches` yields, without reading them.

    Args:
      batch_size: size of the global batch.
      seed: see `train_batches`.
      start_step: see `train_batches`.

    Yields:
      [batch_size] int64, places in the order of `eval_batches`.
    """
    places = np.arange(self.num_examples)
    rows = np.arange(batch_size, dtype=np.int64)
    batches = _steps_from(start_step).map(
      lambda step: shuffle(step * batch_size + rows, seed, places)
    )
    yield from batches.prefetch(2).as_numpy_iterator()

  def eval_batches(
    self, batch_size: int, rows: slice, num_examples: int | None = None
  ) -> Iterator[Batch]:
    """Yields the first examples once, in the order of the files.

    Args:
      batch_size: size of the global batch.
      rows: this host's part of range(batch_size); only it is read.
      num_examples: how many examples; None for the whole split.

    Yields:
      Stacked examples, one for each of the rows, with `valid` [b] bool. The
      last batch is filled up with zeros where `valid` is False, so that all
      hosts get as many batches of one size.

    Raises:
      ValueError: the split has fewer examples than `num_examples`, or a record
        cannot be read or decoded; the message names it.
    """
    tf = preprocess.import_tensorflow()
    total = self.num_examples if num_examples is None else num_examples
    if not 0 < total <= self.num_examples:
      raise ValueError(
        f"Evaluation on {total} examples was asked for, but the split has "
        f"{self.num_examples}; choose 1 to {self.num_examples}."
      )
    host_rows = np.arange(batch_size)[rows]
    positions = [start + host_rows for start in range(0, total, batch_size)]
    # Only the last batch can lose rows here, so that the remaining records
    # still come in batches of len(host_rows).
    numbers = [self.records[p[p < total]] for p in positions]
    dataset = tf.data.Dataset.from_tensor_slices(np.concatenate(numbers))
    batches = self._batches(
      dataset.batch(len(host_rows)),
      len(host_rows),
      lambda batch: numbers[batch],
    )
    for batch_numbers in numbers:
      batch = next(batches) if len(batch_numbers) else self._empty_batch()
      yield _pad(batch, len(host_rows))

  def _batches(
    self,
    numbers: "tf.data.Dataset",
    size: int,
    numbers_of: Callable[[int], Sequence[int]],
  ) -> Iterator[Batch]:
    """Reads, decodes and stacks records, and explains what goes wrong.

    Args:
      numbers: int64 vectors, which records make a batch.
      size: examples in a batch, but the last.
      numbers_of: gives the numbers of the i-th batch once more.

    Yields:
      Stacked examples.
    """
    tf = preprocess.import_tensorflow()
    if self.batched:
      dataset = map_records(self.index, numbers, self.decode)
    else:
      dataset = map_records(self.index, numbers.unbatch(), self.decode)
      dataset = dataset.batch(size)
    batches = dataset.prefetch(2).as_numpy_iterator()
    for i in itertools.count():
      try:
        batch = next(batches, None)
      except tf.errors.OpError as error:
        self._raise_for_record(numbers_of(i))
        reason = _reason(error)
        raise RuntimeError(
          f"A batch could not be read ({reason}), though all of its records "
          "can be read now; run the same command again."
        ) from error
      if batch is None:
        return
      yield batch

  def _raise_for_record(self, numbers: Sequence[int]) -> None:
    """Raises the error of the first of these records that has one."""
    tf = preprocess.import_tensorflow()
    for number in numbers:
      record = _read(self.index, number)
      try:
        self.decode(tf.constant([record] if self.batched else record))
      except (tf.errors.OpError, ValueError) as error:
        path, place = self.index.locate(number)
        name = path if place is None else f"Record {place} of {path}"
        raise ValueError(
          f"{name} cannot be decoded ({_reason(error)}); copy the file again "
          "or prepare the data set again."
        ) from error

  def _empty_batch(self) -> Batch:
    """Returns a batch without rows, for its names, shapes and types."""
    tf = preprocess.import_tensorflow()
    record = self.index.read(self.records[0])
    example = self.decode(tf.constant([record] if self.batched else record))
    return {
      key: (value if self.batched else value[None]).numpy()[:0]
      for key, value in example.items()
    }


def _steps_from(start: int) -> "tf.data.Dataset":
  """Returns all numbers from `start` on."""
  tf = preprocess.import_tensorflow()
  return tf.data.Dataset.range(start, np.iinfo(np.int64).max)


def map_records(
  index: Index,
  numbers: "tf.data.Dataset",
  decode: Callable[["tf.Tensor"], dict[str, "tf.Tensor"]],
) -> "tf.data.Dataset":
  """Reads and decodes records in parallel, keeping their order.

  Args:
    index: records of the files.
    numbers: int64 scalars or vectors, numbers in `index`.
    decode: turns serialized records of the shape of `numbers` into tensors.

  Returns:
    A dataset of what `decode` returns.
  """
  tf = preprocess.import_tensorflow()

  def read(numbers: np.ndarray) -> np.ndarray:
    # Arrays of numpy's own type of strings would lose zeros at their ends.
    records = np.empty(numbers.shape, object)
    for place, number in np.ndenumerate(numbers):
      records[place] = _read(index, int(number))
    return records

  def read_and_decode(numbers: "tf.Tensor") -> dict[str, "tf.Tensor"]:
    records = tf.numpy_function(read, [numbers], tf.string)
    return decode(tf.ensure_shape(records, numbers.shape))

  return numbers.map(
    read_and_decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  )


def _reason(error: Exception) -> str:
  """Returns what went wrong, without the names of tensorflow's nodes."""
  text = str(getattr(error, "message", error)).strip().partition("\n")[0]
  return _NODES.sub("", text).strip(" .").replace(". ", "; ")


def _read(index: Index, record: int) -> bytes:
  path, place = index.locate(record)
  name = path if place is None else f"Record {place} of {path}"
  return record_retry.retry(lambda: index.read(record), name)


def shuffle(
  positions: "tf.Tensor", seed: int, records: np.ndarray
) -> "tf.Tensor":
  """Finds which records stand at positions of the training stream.

  Args:
    positions: [b] int64, step * batch size + row.
    seed: another one gives another order.
    records: [n] int64, the records of which each epoch is a permutation.

  Returns:
    [b] int64, some of the records.
  """
  tf = preprocess.import_tensorflow()
  epochs, places = positions // len(records), positions % len(records)
  # `tf.random.experimental.index_shuffle` takes one seed only, although it says
  # otherwise; this is what it calls.
  columns = [
    tf.fill(tf.shape(epochs), np.int64(x)) for x in (_SHUFFLE_SEED, seed)
  ]
  places = tf.raw_ops.RandomIndexShuffle(
    index=places,
    seed=tf.stack([*columns, epochs], axis=1),  # [b, 3]
    max_index=np.int64(len(records) - 1),
    rounds=4,
  )
  return tf.gather(tf.constant(records), places)


def _pad(batch: Batch, size: int) -> Batch:
  """Fills a batch up with zeros and adds `valid` [size] bool."""
  count = len(next(iter(batch.values())))
  padded = {
    key: np.concatenate(
      [value, np.zeros((size - count, *value.shape[1:]), value.dtype)]
    )
    for key, value in batch.items()
  }
  return padded | {"valid": np.arange(size) < count}
