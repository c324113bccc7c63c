import errno

import pytest

from slot_attention.data.records import file_access
from slot_attention.data.records import record_index
from slot_attention.data.records import record_retry

tf = pytest.importorskip("tensorflow")

CONTENT = bytes(range(256)) * 20


@pytest.fixture(params=["disk", "memory"])
def path(request, tmp_path):
  """A local file, and one that only tensorflow can open."""
  if request.param == "memory":
    path = f"ram://{request.node.name}"
    with tf.io.gfile.GFile(path, "wb") as file:
      file.write(CONTENT)
    return path
  (tmp_path / "file").write_bytes(CONTENT)
  return str(tmp_path / "file")


@pytest.mark.parametrize("scattered", [False, True])
def test_parts_in_any_order(path, scattered):
  with file_access.open_file(path, scattered) as file:
    assert file.size == len(CONTENT)
    for start, size in ((5000, 7), (0, 3), (4096, 1000), (1, 1)):
      assert file.read(size, start) == CONTENT[start : start + size]
    assert file.read(100, len(CONTENT) - 3) == CONTENT[-3:]


@pytest.mark.parametrize("place", ["ram://nowhere", "/nowhere/file"])
def test_a_missing_file(place):
  with (
    pytest.raises(FileNotFoundError, match="nowhere"),
    file_access.open_file(place),
  ):
    pass
  with pytest.raises(FileNotFoundError, match=f"{place} is missing; copy"):
    record_index.RecordIndex.build([place])


@pytest.mark.parametrize(
  "error, number, passes",
  [
    (tf.errors.UnavailableError, errno.EREMOTEIO, True),
    (tf.errors.PermissionDeniedError, errno.EACCES, False),
  ],
)
def test_errors_of_a_bucket(error, number, passes):
  with (
    pytest.raises(OSError, match=r"gs://a/b: slow down$") as caught,
    file_access.os_errors("gs://a/b"),
  ):
    raise error(None, None, "slow down\n\t when reading gs://a/b")
  assert caught.value.errno == number
  assert record_retry.may_pass(caught.value) == passes
