"""Image files -> arrays with as many channels as the data set says, whatever the file holds."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utils.data.headers import EXIF_ORIENTATION
from utils.errors import UserError

CONVERTED = {3: cv2.IMREAD_COLOR, 1: cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH}  # of nearly any file
JPEG_START = b"\xff\xd8"
REDUCED = (  # divisor of the sides, and the flag for colour and grey
    (8, cv2.IMREAD_REDUCED_COLOR_8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
)
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TRANSPOSED, MIRRORED, UPSIDE_DOWN = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)  # EXIF orientations, in this order


def read_image(path: Path, channels: int = 3, shrink: int = 1) -> np.ndarray | None:
    """Return the (H, W, channels) uint8 image in ``path``, turned upright by its EXIF entry; None if it is unreadable.

    The path may hold any characters, on Windows too, where OpenCV's own file reader allows few.

    Args:
        path: the file.
        channels: 3 gives BGR and 1 grey, whatever the file has. Any other number stands for the channels of the file
            in its own order: red, green, blue and alpha of a PNG; the samples of a TIFF, up to four a page, one page
            after the other. 16 bits are scaled to 8.
        shrink: a JPEG may be read with its sides divided by a whole number up to this, rounded up; saves time.

    Raises:
        UserError: the file has another number of channels, pages of several sizes, or values of another kind.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    return decode_image(data, path, channels, shrink)


def decode_image(data: np.ndarray, path: Path | str, channels: int = 3, shrink: int = 1) -> np.ndarray | None:
    """Do as :func:`read_image` for a file of which the (n,) uint8 content is known; ``path`` is for messages."""
    if not len(data):
        return None
    try:
        pages = _decode_one(data, _flags(data, channels, shrink)) if channels in CONVERTED else []
        pages = pages or _decode_all(data)  # also of what cannot be converted: to say why
    except cv2.error:
        return None
    if not pages:
        return None
    if len({page.shape[:2] for page in pages}) > 1:
        raise UserError(f"'{path}' has pages of several sizes, which cannot be the channels of one image")
    image = pages[0] if pages[0].ndim == 3 and len(pages) == 1 else np.dstack(pages)
    image = _to_eight_bits(image, path)
    if image.shape[2] != channels:
        raise UserError(
            f"'{path}' has {image.shape[2]} channels, expected {channels}, the 'ch' of the data set or model; "
            "correct the file or 'ch' (1 and 3 take nearly any image)"
        )
    return image


def _flags(data: np.ndarray, channels: int, shrink: int) -> int:
    """Return how OpenCV shall decode a file to 3 or 1 channels."""
    if data[:2].tobytes() == JPEG_START:
        for divisor, coloured, grey in REDUCED:
            if divisor <= shrink:
                return coloured if channels == 3 else grey
    return CONVERTED[channels]


def _decode_one(data: np.ndarray, flags: int) -> list[np.ndarray]:
    """Return the image in a file, or the first page of it; nothing if it is unreadable."""
    image = cv2.imdecode(data, flags)
    return [] if image is None else [image]


def _decode_all(data: np.ndarray) -> list[np.ndarray]:
    """Return the pages of a file, (H, W) or (H, W, C) in its own order of channels; none if it is unreadable."""
    if data[:4].tobytes() in TIFF_STARTS:
        _, pages = cv2.imdecodemulti(data, cv2.IMREAD_UNCHANGED)  # which turns TIFFs upright, but nothing else
        return [_untouched(data, number, _in_file_order(page)) for number, page in enumerate(pages)]
    images = _decode_one(data, cv2.IMREAD_UNCHANGED)
    return [_in_file_order(_turn(image, _orientation(data))) for image in images]


def _untouched(data: np.ndarray, number: int, page: np.ndarray) -> np.ndarray:
    """Return ``page``, from Pillow if it has alpha of 8 bits, by which OpenCV multiplies the colours."""
    if page.shape[2:] != (4,) or page.dtype != np.uint8:
        return page
    try:
        with Image.open(io.BytesIO(data.tobytes())) as image:
            image.seek(number)
            return np.asarray(image) if image.mode == "RGBA" else page
    except (OSError, ValueError, SyntaxError):  # a kind that only OpenCV reads
        return page


def _in_file_order(page: np.ndarray) -> np.ndarray:
    """Undo what OpenCV does to colours: BGR or BGRA becomes RGB or RGBA."""
    return page[..., [2, 1, 0, *range(3, page.shape[2])]] if page.ndim == 3 and page.shape[2] >= 3 else page


def _orientation(data: np.ndarray) -> int:
    """Return the EXIF orientation of a file, 1 for upright where it says nothing."""
    try:
        with Image.open(io.BytesIO(data.tobytes())) as image:
            return image.getexif().get(EXIF_ORIENTATION, 1) if "exif" in image.info else 1
    except (OSError, ValueError, SyntaxError):  # OpenCV can read it nevertheless
        return 1


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    if orientation in TRANSPOSED:
        image = image.swapaxes(0, 1)
    if orientation in MIRRORED:
        image = image[:, ::-1]
    return image[::-1] if orientation in UPSIDE_DOWN else image


def _to_eight_bits(image: np.ndarray, path: Path | str) -> np.ndarray:
    """Scale 0..65535 to 0..255, rounded; images of 8 bits stay as they are."""
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise UserError(f"'{path}' holds {image.dtype} values, expected whole numbers of 8 or 16 bits; convert it")
    return np.ascontiguousarray(image)
