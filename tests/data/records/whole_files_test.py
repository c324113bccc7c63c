import errno

import pytest

from slot_attention.data.records import whole_files


def test_gets_its_name_at_the_end(tmp_path):
  path = tmp_path / "file"
  path.write_text("old")
  with whole_files.open_whole(path) as file:
    file.write(b"new")
    assert path.read_text() == "old"
    assert (tmp_path / "incomplete.file").exists()
  assert path.read_text() == "new"
  assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("bad")])
def test_errors_leave_nothing(tmp_path, error):
  with (
    pytest.raises((KeyboardInterrupt, ValueError)),
    whole_files.open_whole(tmp_path / "file") as file,
  ):
    file.write(b"half")
    raise error
  assert not list(tmp_path.iterdir())


def test_full_disk(tmp_path):
  with (
    pytest.raises(
      OSError, match=r"There is no room for .*file \(No space left"
    ),
    whole_files.open_whole(tmp_path / "file"),
  ):
    raise OSError(errno.ENOSPC, "No space left on device")
  assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path):
  with (
    pytest.raises(FileNotFoundError, match="other"),
    whole_files.open_whole(tmp_path / "file"),
  ):
    (tmp_path / "other").read_bytes()
