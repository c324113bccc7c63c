"""Reads and writes the bytes of tf.Examples with numpy alone.

A tf.Example is a map from names to lists of strings, floats or integers, in
protocol buffers' wire format. The Multi-Object Datasets store every uint8 array
as a list of one-byte strings: three bytes an element, which protocol buffers'
own parsers turn into as many objects. Here they stay one strided array.
"""

from collections.abc import Collection, Iterator, Mapping
import functools

import numpy as np

# Wire types: how the value of a field is stored.
_VARINT, _FIXED64, DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
# Fields of Feature: which kind of list it is.
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3
# An element of a list of one-byte strings: tag of field 1, length 1, the byte.
_ELEMENT = np.array([1 << 3 | DELIMITED, 1, 0], np.uint8)


def parse_example(
  record: bytes | memoryview, names: Collection[str] | None = None
) -> dict[str, np.ndarray]:
  """Parses a tf.Example without protocol buffers.

  Args:
    record: the serialized tf.Example.
    names: the features to parse; the others are passed over unseen. All by
      default.

  Returns:
    One vector for each feature that is there, without its shape, which
    tf.Examples do not tell: uint8 for a list of one-byte strings, and for the
    bytes of a single string; object (bytes) for other lists of strings;
    float32; int64. The uint8 vectors are read-only views of the record.

  Raises:
    ValueError: the bytes are no tf.Example.
  """
  features = {}
  try:
    for features_message in _messages(memoryview(record), 1):
      for entry in _messages(features_message, 1):
        name, feature = _parse_entry(entry)
        if names is None or name in names:
          features[name] = parse_feature(feature)
  except ValueError as error:
    raise ValueError(f"This is no whole tf.Example: {error}") from error
  return features


def encode_example(features: Mapping[str, np.ndarray | bytes]) -> bytes:
  """Serializes a tf.Example, see `parse_example`.

  Args:
    features: uint8 arrays become lists of one-byte strings, float32 and int64
      arrays lists of numbers, all in row-major order; bytes become one string.

  Returns:
    The serialized tf.Example, with the features in the order given.

  Raises:
    ValueError: an array is of another type.
  """
  entries = []
  for name, value in features.items():
    feature = _encode_feature(name, value)
    entry = _delimited(1, name.encode()) + _delimited(2, feature)
    entries.append(_delimited(1, entry))
  return _delimited(1, b"".join(entries))


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
  """Yields number, wire type and value of the fields of a message."""
  position = 0
  while position < len(data):
    tag, position = parse_varint(data, position)
    number, wire_type = tag >> 3, tag & 7
    if not 0 < number < 1 << 29:
      raise ValueError(f"no tf.Example has a field of number {number}.")
    if wire_type == _VARINT:
      value, position = parse_varint(data, position)
      yield number, wire_type, value
      continue
    if wire_type == DELIMITED:
      size, position = parse_varint(data, position)
    elif wire_type in _FIXED_SIZES:
      size = _FIXED_SIZES[wire_type]
    else:
      raise ValueError(f"no tf.Example has a field of wire type {wire_type}.")
    if position + size > len(data):
      raise ValueError(
        f"a field of {size} bytes reaches {position + size - len(data)} bytes "
        "beyond the end of the tf.Example or of its part."
      )
    yield number, wire_type, data[position : position + size]
    position += size


def _messages(data: memoryview, number: int) -> Iterator[memoryview]:
  """Yields the parts of a message that have a field number; skips others."""
  for found, wire_type, value in _fields(data):
    if found == number:
      if wire_type != DELIMITED:
        raise ValueError(
          f"field {number} of a part of the tf.Example has wire type "
          f"{wire_type} instead of {DELIMITED}."
        )
      yield value


def _parse_entry(entry: memoryview) -> tuple[str, memoryview]:
  """Returns the name of a feature and its message."""
  name, feature = "", memoryview(b"")  # As when protocol buffers lack them.
  for number, wire_type, value in _fields(entry):
    if wire_type == DELIMITED and number == 1:
      name = _parse_name(bytes(value))  # The last one; all must be text.
    elif wire_type == DELIMITED and number == 2:
      feature = _merge(feature, value)
  return name, feature


def _parse_name(name: bytes) -> str:
  try:
    return name.decode()
  except UnicodeDecodeError as error:
    raise ValueError(f"the name of a feature is {name!r}.") from error


def _merge(first: memoryview, second: memoryview) -> memoryview:
  """Protocol buffers put two messages of one field together like this."""
  return memoryview(bytes(first) + bytes(second)) if len(first) else second


def parse_feature(feature: memoryview) -> np.ndarray:
  """Parses the value of a feature, see `parse_example`."""
  kind, values = _BYTES_LIST, memoryview(b"")
  for number, wire_type, value in _fields(feature):
    if wire_type == DELIMITED and number in _PARSERS:
      values = _merge(values, value) if number == kind else value
      kind = number
  return _PARSERS[kind](values)


def _parse_bytes_list(values: memoryview) -> np.ndarray:
  elements = np.frombuffer(values, np.uint8)
  if elements.size % 3 == 0:
    pattern, mask = _element_pattern(elements.size // 3)
    if not np.any((elements ^ pattern) & mask):
      return elements[2::3]
  strings = list(_messages(values, 1))
  if len(strings) == 1:
    return np.frombuffer(strings[0], np.uint8)
  result = np.empty(len(strings), object)
  result[:] = [bytes(string) for string in strings]
  return result


@functools.lru_cache(maxsize=8)  # The image, the masks and a few small ones.
def _element_pattern(count: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns one-byte strings of zeros, and 255 for what is no content."""
  # Comparing contiguous bytes is several times faster than two strided columns.
  mask = np.array([255, 255, 0], np.uint8)
  return np.tile(_ELEMENT, count), np.tile(mask, count)


def _parse_float_list(values: memoryview) -> np.ndarray:
  parts = []
  for number, wire_type, value in _fields(values):
    if number != 1 or wire_type not in (DELIMITED, _FIXED32):
      continue
    if len(value) % 4:
      raise ValueError(f"{len(value)} bytes are no list of float32.")
    parts.append(np.frombuffer(value, "<f4"))
  return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _parse_int64_list(values: memoryview) -> np.ndarray:
  integers = []
  for number, wire_type, value in _fields(values):
    if number == 1 and wire_type == _VARINT:
      integers.append(value)
    elif number == 1 and wire_type == DELIMITED:
      position = 0
      while position < len(value):
        integer, position = parse_varint(value, position)
        integers.append(integer)
  # Two's complement, as varints know no sign.
  return np.array(integers, np.uint64).astype(np.int64)


_PARSERS = {
  _BYTES_LIST: _parse_bytes_list,
  _FLOAT_LIST: _parse_float_list,
  _INT64_LIST: _parse_int64_list,
}


def parse_varint(data: memoryview, position: int) -> tuple[int, int]:
  """Returns an integer of 7 bits a byte and the position after it.

  Raises:
    ValueError: the data end within the integer, or it is too long.
  """
  value = 0
  for shift in range(0, 70, 7):
    if position >= len(data):
      raise ValueError("the tf.Example or a part of it ends within a number.")
    byte = data[position]
    position += 1
    value |= (byte & 0x7F) << shift
    if byte < 0x80:
      return value & 0xFFFFFFFFFFFFFFFF, position
  raise ValueError("a number of the tf.Example is longer than 10 bytes.")


def _encode_varint(value: int) -> bytes:
  encoded = bytearray()
  while value >= 0x80:
    encoded.append(value & 0x7F | 0x80)
    value >>= 7
  encoded.append(value)
  return bytes(encoded)


def _delimited(number: int, payload: bytes) -> bytes:
  tag = _encode_varint(number << 3 | DELIMITED)
  return tag + _encode_varint(len(payload)) + payload


def _encode_feature(name: str, value: np.ndarray | bytes) -> bytes:
  if isinstance(value, bytes):
    return _delimited(_BYTES_LIST, _delimited(1, value))
  if value.dtype == np.uint8:
    elements = np.tile(_ELEMENT, value.size)
    elements[2::3] = value.ravel()
    return _delimited(_BYTES_LIST, elements.tobytes())
  if value.dtype == np.float32:
    packed = value.astype("<f4").tobytes()
    return _delimited(_FLOAT_LIST, _delimited(1, packed))
  if value.dtype == np.int64:
    integers = value.astype(np.uint64).ravel().tolist()
    packed = b"".join(map(_encode_varint, integers))
    return _delimited(_INT64_LIST, _delimited(1, packed))
  raise ValueError(
    f"Feature '{name}' is {value.dtype}, which no list of a tf.Example holds; "
    "use uint8, float32, int64 or bytes."
  )
