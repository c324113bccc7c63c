"""Reads encoded images, and refuses those that would fill the memory."""

import io
import os

import PIL.Image

MAX_PIXELS = 1 << 26  # A header of some bytes can claim billions.
_MAX_BYTES = 1 << 28  # Of a file; more than so many pixels have.
# Those that tensorflow decodes, and whose headers are looked at before.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")


def read_file(path: str) -> bytes:
  """Reads a file of reasonable size.

  Args:
    path: the file.

  Raises:
    OSError: it cannot be read.
    ValueError: it is empty, or far too large; the message is no whole sentence.
  """
  with open(path, "rb") as file:
    size = os.fstat(file.fileno()).st_size
    if not size:
      raise ValueError("it is empty")
    if size > _MAX_BYTES:
      raise ValueError(
        f"it has {size:,} bytes, and up to {_MAX_BYTES:,} are read"
      )
    return file.read()


def read_image(path: str) -> bytes:
  """Reads an image's file, whose header is looked at but not its pixels.

  Args:
    path: the file.

  Raises:
    OSError: it cannot be read.
    ValueError: it is empty, no image, or far too large; the message is no whole
      sentence.
  """
  content = read_file(path)
  try:
    with PIL.Image.open(io.BytesIO(content), formats=_FORMATS) as image:
      width, height = image.size
  except PIL.Image.DecompressionBombError as error:
    raise ValueError(str(error).rstrip(".")) from error
  except Exception as error:  # Damage shows as many a kind of error.
    raise ValueError(
      f"it is none of {', '.join(_FORMATS)}, or its header is damaged"
    ) from error
  check_pixels(width, height)
  return content


def check_pixels(width: int, height: int) -> None:
  """Raises ValueError if an image says that it is larger than any real one."""
  if width * height > MAX_PIXELS:
    raise ValueError(
      f"its header claims {height}x{width} pixels, and up to {MAX_PIXELS:,} "
      "are read"
    )
