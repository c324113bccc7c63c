"""Folders that nobody should hand over: a sentence, at once, or the pixels."""

import errno
import os
import pathlib
import re
import socket
import struct
import tempfile
import threading
import zipfile
import zlib

import contract
import image_trees
import numpy as np
import PIL.Image
import pytest

from slot_attention import cli
from slot_attention.data import image_folders
from slot_attention.data import inspection
from slot_attention.data.folders import annotation_files
from slot_attention.data.folders import folder_files
from slot_attention.data.folders import image_conversion
from slot_attention.data.folders import image_files
from slot_attention.data.folders import image_inspection
from slot_attention.data.records import record_retry

pytest.importorskip("tensorflow")

VIEW = image_folders.View((8, 8), interpolation="nearest")
PICTURE = image_trees.noise(0, 8, 8)
HUGE = 60_000  # Pixels; as a side.


def write_folder(root):
  """Three pictures to train on and one to validate on, and one more's path."""
  for name in ("train/a", "train/c", "train/d", "val/a"):
    image_trees.save(root / f"{name}.png", PICTURE)
  return root / "train" / "b.png"


def write_png(path, size, kind, rows, chunks=()):
  """A PNG file whose header says what one wants.

  Args:
    size: (height, width).
    kind: (bits of a value, type of colour).
    rows: the content, every row begins with a zero.
    chunks: names and contents between header and pixels.
  """
  height, width = size
  header = struct.pack(">2I5B", width, height, *kind, 0, 0, 0)
  parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows))]
  content = b"\x89PNG\r\n\x1a\n"
  for name, data in (*parts, (b"IEND", b"")):
    checksum = struct.pack(">I", zlib.crc32(name + data))
    content += struct.pack(">I", len(data)) + name + data + checksum
  path.write_bytes(content)


def _claim_jpeg(path):
  PIL.Image.fromarray(PICTURE).save(path, "JPEG")
  content = path.read_bytes()
  place = content.index(b"\xff\xc0") + 5  # Marker, length, bits.
  size = struct.pack(">2H", HUGE, HUGE)
  path.write_bytes(content[:place] + size + content[place + 4 :])


def _claim_gif(path):
  PIL.Image.fromarray(PICTURE).save(path, "GIF")
  content = path.read_bytes()
  path.write_bytes(content[:6] + struct.pack("<2H", HUGE, HUGE) + content[10:])


def _truncate(path, suffix):
  PIL.Image.fromarray(image_trees.noise(0, 64, 64)).save(path, suffix)
  path.write_bytes(path.read_bytes()[:-100])


def _zip(path):
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("../../climbs.png", b"x" * 1000)


def _sparse(path):
  path.touch()
  os.truncate(path, 1 << 40)


def _fifo(path):
  os.mkfifo(path)

  def let_go():  # A reader that waits gets its end of file.
    try:
      os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:  # Nobody waits.
      timer.cancel()

  timer = threading.Timer(10, let_go)
  timer.daemon = True
  timer.start()


def _socket(path):
  place = os.getcwd()
  os.chdir(path.parent)  # Names of sockets are short.
  try:
    with socket.socket(socket.AF_UNIX) as server:
      server.bind(path.name)
  finally:
    os.chdir(place)


def _device(path):
  try:
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
  except PermissionError:
    pytest.skip("Only root makes devices.")


def _link(target):
  def write(path):
    path.symlink_to(target)

  return write


CASES = {
  "empty": (lambda path: path.touch(), "it is empty"),
  "text": (
    lambda path: path.write_text("<html>404"),
    "it is none of PNG, JPEG",
  ),
  "archive": (_zip, "it is none of PNG, JPEG"),
  "cut PNG": (lambda path: _truncate(path, "PNG"), "cannot be decoded"),
  "cut JPEG": (lambda path: _truncate(path, "JPEG"), "cannot be decoded"),
  "PNG of 60000x60000": (
    lambda path: write_png(path, (HUGE, HUGE), (8, 2), bytes(1000)),
    "is not read: Image size .3600000000 pixels. exceeds",
  ),
  "PNG of 9000x9000": (
    lambda path: write_png(path, (9000, 9000), (8, 2), bytes(1000)),
    "its header claims 9000x9000 pixels, and up to 67,108,864 are read",
  ),
  "PNG of 0x8": (
    lambda path: write_png(path, (0, 8), (8, 2), b""),
    "it is none of PNG, .* or its header is damaged",
  ),
  "JPEG of 60000x60000": (_claim_jpeg, "is not read: Image size"),
  "GIF of 60000x60000": (_claim_gif, "is not read: Image size"),
  "a TB of zeros": (_sparse, "it has 1,099,511,627,776 bytes, and up to"),
  "pipe": (_fifo, "but a pipe, a socket, a device or a link to nothing"),
  "socket": (_socket, "but a pipe, a socket, a device or a link"),
  "device": (_device, "but a pipe, a socket, a device or a link"),
  "link to /etc/passwd": (_link("/etc/passwd"), "is a link to .* not below"),
  "link up": (_link("../../x.png"), "is a link to .* not below"),
  "link to a device": (_link("/dev/zero"), "is a link to .* not below"),
  "link to nothing": (_link("e.png"), "or a link to nothing; remove it"),
  "link to itself": (_link("b.png"), "or a link to nothing; remove it"),
  "link to a directory": (_link("../val"), "which is a directory; put the"),
}


def check_sentence(error, path, sentence):
  text = str(error)
  assert str(path) in text
  assert re.search(sentence, text), text
  assert text.endswith(".")
  assert "\n" not in text
  assert text.count(". ") == 0


def inspect_folder(root):
  for report in image_inspection.inspect("folder", str(root)):
    if report.error:
      raise ValueError(report.error)


@pytest.mark.parametrize("case", CASES)
def test_one_sentence(tmp_path, case):
  write, sentence = CASES[case]
  root, output = tmp_path / "data", tmp_path / "output"
  path = write_folder(root)
  write(path)
  with pytest.raises(ValueError, match=re.escape(str(path))) as error:
    inspect_folder(root)
  check_sentence(error.value, path, sentence)
  with pytest.raises(ValueError, match=re.escape(str(path))) as error:
    image_conversion.convert("folder", str(root), output, VIEW)
  check_sentence(error.value, path, sentence)
  # Nothing that could be taken for a data set, or part of one.
  left = {x.name for x in output.rglob("*") if x.is_file()}
  assert left <= {"conversion.json"}
  with pytest.raises(ValueError, match=re.escape(str(path))) as error:
    source = image_folders.open_dataset("folder", str(root), "train", VIEW)
    next(source.train_batches(4, 0, 0, slice(0, 4)))
  check_sentence(error.value, path, sentence)
  assert not (tmp_path / "climbs.png").exists()


def read_one(path):
  """What training sees of a picture: [h, w, 3] uint8."""
  files = folder_files.Files(str(path.parent), (path.name,))
  height, width = PICTURE.shape[:2]
  view = image_folders.View((height, width), interpolation="nearest")
  source = image_folders.open_files(files, view, annotated=False)
  batch = next(source.eval_batches(1, slice(0, 1)))
  return np.rint((batch["image"][0] + 1) * 127.5).astype(np.uint8)


def _save_palette(path):
  image = PIL.Image.fromarray(PICTURE).quantize(16)
  image.save(path, transparency=3)


def _save_animated(suffix):
  def write(path):
    frames = [PIL.Image.fromarray(PICTURE // (i + 1)) for i in range(3)]
    frames[0].save(path, suffix, save_all=True, append_images=frames[1:])

  return write


def _save_as(mode, **arguments):
  def write(path):
    image = PIL.Image.fromarray(PICTURE).convert(mode)
    image.save(path, **{"format": "PNG"} | arguments)

  return write


ODD = {
  "palette": _save_palette,
  "one bit": _save_as("1"),
  "gray": _save_as("L"),
  "gray, transparent": _save_as("LA"),
  "transparent": _save_as("RGBA"),
  "interlaced": _save_as("RGB", interlace=True),
  "animated PNG": _save_animated("PNG"),
  "animated GIF": _save_animated("GIF"),
  "bitmap": _save_as("RGB", format="BMP"),
  "CMYK": _save_as("CMYK", format="JPEG", quality=95),
  "progressive": _save_as("RGB", format="JPEG", progressive=True),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_pictures_are_seen_as_pillow_sees_them(tmp_path, case):
  path = tmp_path / "x.png"
  ODD[case](path)
  expected = np.array(PIL.Image.open(path).convert("RGB"))
  difference = np.abs(read_one(path).astype(int) - expected)
  assert difference.max() <= (2 if case in ("CMYK", "progressive") else 0)


@pytest.mark.parametrize("kind", [0, 2])
def test_values_of_16_bits_keep_the_upper_8(tmp_path, kind):
  size, channels = PICTURE.shape[:2], 3 if kind == 2 else 1
  values = (PICTURE[..., :channels] * 256.0 + 200).astype(">u2")
  rows = b"".join(b"\0" + row.tobytes() for row in values)
  write_png(tmp_path / "x.png", size, (16, kind), rows)
  expected = np.broadcast_to(PICTURE[..., :channels], PICTURE.shape)
  np.testing.assert_array_equal(read_one(tmp_path / "x.png"), expected)


def test_directories_that_are_called_as_pictures(tmp_path):
  path = write_folder(tmp_path)
  image_trees.save(path / "x.png", PICTURE)
  (path / "empty.png").mkdir()
  source = image_folders.open_dataset("folder", str(tmp_path), "train", VIEW)
  assert source.num_examples == 4
  assert "train/b.png/x.png" in source.index.files.images
  next(source.train_batches(4, 0, 0, slice(0, 4)))


def test_names_longer_than_the_system_takes(tmp_path):
  place = os.getcwd()
  directory = "d" * 200
  try:
    os.chdir(tmp_path)
    for _ in range(os.pathconf("/", "PC_PATH_MAX") // 200 + 1):
      os.mkdir(directory)
      os.chdir(directory)
  finally:
    os.chdir(place)
  with pytest.raises(OSError, match=r"cannot be listed \(File name too long"):
    folder_files.list_files(str(tmp_path))


NAMES = [b"\xff\xe9.png", b"a\nb.png", b"\x1b[31mred.png", b"%s{0}.png"]


def test_names_that_are_no_text(tmp_path, caplog):
  root = tmp_path / "data"
  paths = [write_folder(root).parent / os.fsdecode(name) for name in NAMES]
  for path in paths:
    image_trees.save(path, PICTURE)
  output = image_conversion.convert("folder", str(root), tmp_path / "x", VIEW)
  for place in (root, output):
    source = image_folders.open_dataset("folder", str(place), "train", VIEW)
    batch = contract.widen(next(source.train_batches(7, 0, 0, slice(0, 7))))
    np.testing.assert_allclose(
      (batch["image"] + 1) * 127.5, np.stack([PICTURE] * 7), atol=1e-3
    )
  for path in paths:
    path.write_text("no picture")
    report = next(image_inspection.inspect("folder", str(root)))
    cli.report(ValueError(report.error))
    text = cli.printable(image_inspection.format_report(report))
    for line in (*text.split("\n"), caplog.messages[-1]):
      assert line.isprintable()
      line.encode("utf-8")
    assert os.fsencode(path.name) in os.fsencode(report.error)
    path.unlink()


def test_unreadable_files(tmp_path):
  """Even for root, which may read everything."""
  with tempfile.TemporaryDirectory() as place:
    path = write_folder(pathlib.Path(place) / "data")
    os.chmod(place, 0o755)
    image_trees.save(path, PICTURE)
    source = image_folders.open_dataset(
      "folder", str(path.parents[1]), "train", VIEW
    )
    path.chmod(0)
    with _AsNobody(), pytest.raises(ValueError, match="Permission") as error:
      source.index.read(1)
    check_sentence(error.value, path, r"cannot be read \(Permission denied\)")
    path.parent.chmod(0)
    with _AsNobody(), pytest.raises(PermissionError) as error:
      folder_files.list_files(str(path.parents[1]))
    check_sentence(error.value, path.parent, r"cannot be listed \(Permission")
    path.parent.chmod(0o755)


class _AsNobody:
  def __enter__(self):
    if os.geteuid() == 0:
      os.seteuid(65534)
      return 0
    return os.geteuid()

  def __exit__(self, *args):
    if os.getuid() == 0:
      os.seteuid(0)


@pytest.fixture
def waits(monkeypatch):
  slept = []
  monkeypatch.setattr(record_retry.time, "sleep", slept.append)
  return slept


def break_disk(monkeypatch, target, path, failures):
  """Lets `open` of a path fail so often in one of our modules."""
  left = [failures]

  def open_or_fail(name, *args, **kwargs):
    if os.fspath(name) == str(path) and left[0] > 0:
      left[0] -= 1
      raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    return open(name, *args, **kwargs)

  monkeypatch.setattr(target, "open", open_or_fail, raising=False)


@pytest.mark.parametrize("kind", ["image", "scene"])
def test_disks_that_do_not_answer(tmp_path, monkeypatch, waits, kind):
  root = image_trees.clevr_mirror(tmp_path, count=10)
  pattern, target = {
    "image": ("*.png", image_files),
    "scene": ("CLEVR_new*.json", annotation_files),
  }[kind]
  path = sorted(root.rglob(pattern))[-1]

  def read():
    source = image_folders.open_dataset("clevr_mirror", str(root), "test", VIEW)
    return list(source.eval_batches(2, slice(0, 2)))

  expected = read()
  break_disk(monkeypatch, target, path, 3)
  for a, b in zip(read(), expected, strict=True):
    np.testing.assert_array_equal(a["image"], b["image"])
  assert waits == [0.5, 1, 2]
  break_disk(monkeypatch, target, path, 100)
  with pytest.raises(
    OSError, match=r"cannot be read, tried 8 times in 60\.5 s"
  ):
    read()


def test_pipes_among_records(tmp_path):
  os.mkfifo(tmp_path / "x.tfrecords")
  for path in (tmp_path, tmp_path / "x.tfrecords"):
    with pytest.raises(FileNotFoundError, match="There is no TFRecord file at"):
      list(inspection.inspect(path))
