"""The content of an image file -> the image, or one line that says why not."""

import io
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from utils.data.pixels import JPEG_START, decode_image
from utils.data.sources.capture import QUIET
from utils.errors import UserError

MOST_PIXELS = 178_956_970  # of a file; where the doctor of data sets draws the line, too (Pillow's limit)
MOST_BYTES = 1 << 30  # of a file
JPEG_END = b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_WARNINGS = threading.Lock()  # Python's filters of warnings are shared by all threads


def read_file(path: Path, channels: int) -> np.ndarray:
    """Return the (H, W, channels) uint8 image in ``path``, see ``read_image``.

    Raises:
        UserError: it cannot be used; the message begins with the quoted path.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"'{path}' cannot be read: it has {size / 2**30:.1f} GB, expected at most 1 GB")
        data = np.fromfile(path, np.uint8)
    except FileNotFoundError:
        raise UserError(f"'{path}' cannot be read: it is gone") from None
    except OSError as error:
        raise UserError(f"'{path}' cannot be read: {error.strerror}") from error
    return decode(data, str(path), channels)


def decode(data: np.ndarray, name: str, channels: int) -> np.ndarray:
    """Do as :func:`read_file` for the (n,) uint8 content of a file called ``name``."""
    if not len(data):
        raise UserError(f"'{name}' cannot be read: it is empty")
    _check_header(data, name)
    image = decode_safely(data, name, channels)
    if image is None:
        raise UserError(f"'{name}' cannot be read: it is damaged, or no image")
    return image


def decode_safely(data: np.ndarray, name: str, channels: int) -> np.ndarray | None:
    """Do as ``decode_image``, without a log of OpenCV's, and without the memory that a lying PNG asks for."""
    if data[: len(PNG_START)].tobytes() == PNG_START:
        _check_chunks(data, name)
    with QUIET:
        return decode_image(data, name, channels)


def _check_header(data: np.ndarray, name: str) -> None:
    """Refuse images that would take too much memory, and JPEGs that break off, of which OpenCV 4 shows a part."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data.data)) as image:
                (width, height), ends = image.size, data[-2:].tobytes() == JPEG_END
        except Image.DecompressionBombError:
            width, height, ends = MOST_PIXELS, 2, True
        except Exception:  # Pillow raises many kinds on broken files, and OpenCV reads more kinds of files than Pillow
            return
    if width * height > MOST_PIXELS:
        most = MOST_PIXELS // 10**6
        raise UserError(
            f"'{name}' cannot be used: it has more than {most} million pixels; make it smaller, or cut it into several"
        )
    if data[:2].tobytes() == JPEG_START and not ends:
        _check_whole(data, name)


def _check_chunks(data: np.ndarray, name: str) -> None:
    """Refuse a PNG that breaks off: OpenCV takes the memory for all that a chunk announces, be it 4 GB, and logs it."""
    start, kind = len(PNG_START), b""
    while start < len(data) and kind != PNG_END:
        length, kind = int.from_bytes(data[start : start + 4].tobytes(), "big"), data[start + 4 : start + 8].tobytes()
        start += length + 12  # with the length itself, the kind and a checksum
    if start > len(data) or kind != PNG_END:
        raise UserError(f"'{name}' cannot be read: it breaks off, or is damaged")


def _check_whole(data: np.ndarray, name: str) -> None:
    try:
        with Image.open(io.BytesIO(data.data)) as image:
            image.load()
    except Exception as error:
        raise UserError(f"'{name}' cannot be read: {error}") from error
