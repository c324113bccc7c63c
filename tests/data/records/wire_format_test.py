import made_up_records
import numpy as np
import official_files
import pytest
import reference_arrays

from slot_attention.data.official import multi_object_specs
from slot_attention.data.records import record_stream
from slot_attention.data.records import wire_format

tf = pytest.importorskip("tensorflow")

SAMPLES = {
  "tetrominoes": "tetrominoes_first10.tfrecords",
  "clevr": "clevr_with_masks_first2.tfrecords",
  **{
    f"multi_dsprites_{name}": f"multi_dsprites_{name}_first2.tfrecords"
    for name in (
      "binarized",
      "colored_on_grayscale",
      "colored_on_colored",
    )
  },
}


def tensorflow_feature(array):
  """The feature as the authors of the data sets wrote it."""
  if array.dtype == np.uint8:
    values = [bytes([x]) for x in array.ravel().tolist()]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
  return tf.train.Feature(float_list=tf.train.FloatList(value=array.ravel()))


def serialize(**features):
  return tf.train.Example(
    features=tf.train.Features(feature=features)
  ).SerializeToString()


@pytest.mark.parametrize("name", sorted(multi_object_specs.SPECS))
def test_parses_what_protocol_buffers_write(name):
  (example,) = made_up_records.examples(name, 1)
  names = list(example)
  for order in (names, names[::-1]):
    record = serialize(
      **{name: tensorflow_feature(example[name]) for name in order}
    )
    parsed = wire_format.parse_example(record)
    assert set(parsed) == set(example)
    for key, array in example.items():
      assert parsed[key].dtype == array.dtype
      np.testing.assert_array_equal(parsed[key], array.ravel())


@pytest.mark.parametrize("name", sorted(multi_object_specs.SPECS))
def test_protocol_buffers_parse_what_is_encoded(name):
  (example,) = made_up_records.examples(name, 1)
  record = wire_format.encode_example(example)
  parsed = tf.io.parse_single_example(
    record,
    {
      key: tf.io.FixedLenFeature(
        feature.shape, tf.string if feature.dtype == "uint8" else tf.float32
      )
      for key, feature in multi_object_specs.SPECS[name].features.items()
    },
  )
  for key, array in example.items():
    value = parsed[key]
    if value.dtype == tf.string:
      value = tf.io.decode_raw(value, tf.uint8)[..., 0]
    np.testing.assert_array_equal(value, array)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_real_records(name):
  samples = "multi_object_datasets_samples"
  path = reference_arrays.find(samples, SAMPLES[name])
  expected = official_files.real_records(SAMPLES[name], name)
  records = list(record_stream.read_records(path))
  assert len(records) == len(expected)
  for record, arrays in zip(records, expected, strict=True):
    parsed = wire_format.parse_example(record.payload)
    assert set(parsed) == set(multi_object_specs.SPECS[name].features)
    for key, vector in parsed.items():
      np.testing.assert_array_equal(vector, arrays[key].ravel())


def test_other_lists():
  integers = [0, 1, -1, 300, 2**40, -(2**63), 2**63 - 1]
  record = serialize(
    integers=tf.train.Feature(int64_list=tf.train.Int64List(value=integers)),
    one=tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\x01\x02ab"])),
    words=tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a", b"bc"])),
    nothing=tf.train.Feature(),
    no_floats=tf.train.Feature(float_list=tf.train.FloatList(value=[])),
  )
  parsed = wire_format.parse_example(record)
  assert parsed["integers"].dtype == np.int64
  assert parsed["integers"].tolist() == integers
  assert parsed["one"].dtype == np.uint8
  assert parsed["one"].tobytes() == b"\x01\x02ab"
  assert parsed["words"].tolist() == [b"a", b"bc"]
  assert parsed["nothing"].shape == (0,)
  assert parsed["no_floats"].dtype == np.float32
  assert wire_format.parse_example(b"") == {}


def test_lists_that_are_not_packed():
  floats = b"\x0d\x00\x00\x80\x3f\x0d\x00\x00\x00\x40"  # 1.0 and 2.0.
  # A map entry with the value before the name, as any order is allowed.
  value = b"\x12" + bytes([len(floats) + 2, 0x12, len(floats)]) + floats
  entry = value + b"\x0a\x01f"
  integers = b"\x08\x05\x08\xac\x02"  # 5 and 300.
  value = b"\x12" + bytes([len(integers) + 2, 0x1A, len(integers)]) + integers
  other = b"\x0a\x01i" + value
  content = b"".join(b"\x0a" + bytes([len(x)]) + x for x in (entry, other))
  record = b"\x0a" + bytes([len(content)]) + content
  assert tf.train.Example.FromString(record).features.feature["f"]
  parsed = wire_format.parse_example(memoryview(record))
  assert parsed["f"].tolist() == [1.0, 2.0]
  assert parsed["f"].dtype == np.float32
  assert parsed["i"].tolist() == [5, 300]


def test_encodes_bytes_and_integers():
  record = wire_format.encode_example(
    {"raw": b"\x0a\x01x", "n": np.array([-7, 2**50]), "e": np.zeros(0, "u1")}
  )
  feature = tf.train.Example.FromString(record).features.feature
  assert list(feature["raw"].bytes_list.value) == [b"\x0a\x01x"]
  assert list(feature["n"].int64_list.value) == [-7, 2**50]
  assert not feature["e"].bytes_list.value
  parsed = wire_format.parse_example(record)
  assert parsed["raw"].tobytes() == b"\x0a\x01x"


def test_parses_only_what_is_named():
  record = wire_format.encode_example(
    {"a": np.zeros(3, np.uint8), "b": np.ones(2, np.float32)}
  )
  assert set(wire_format.parse_example(record, ["b", "c"])) == {"b"}


def test_refuses_other_types():
  with pytest.raises(ValueError, match="'x' is float64, which no list"):
    wire_format.encode_example({"x": np.zeros(3)})


def small_record():
  return wire_format.encode_example(
    {
      "image": np.arange(9, dtype=np.uint8),
      "x": np.ones(3, np.float32),
      "n": np.array([3, -4]),
      "raw": b"something",
    }
  )


def test_every_cut_is_noticed():
  record = small_record()
  for size in range(1, len(record)):
    with pytest.raises(ValueError, match=r"This is no whole tf\.Example: "):
      wire_format.parse_example(record[:size])


def test_damage_gives_values_or_a_sentence():
  record = np.frombuffer(small_record(), np.uint8)
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(3000):
    damaged = record.copy()
    damaged[rng.integers(len(record), size=3)] = rng.integers(256, size=3)
    try:
      wire_format.parse_example(damaged.tobytes())
    except ValueError as error:
      assert str(error).startswith("This is no whole tf.Example: ")
      refused += 1
  assert refused > 300


def test_every_name_must_be_text():
  names = b"\n\x02\xff\xfe\n\x01x"  # Of one feature; the last one counts.
  with pytest.raises(ValueError, match=r"the name of a feature is b'\\xff"):
    wire_format.parse_example(b"\n\x09\n\x07" + names)
  assert set(wire_format.parse_example(b"\n\x05\n\x03\n\x01x")) == {"x"}
