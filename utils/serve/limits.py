"""What a client may ask for, and from an upload to an image without trusting it."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from utils.data.sources.decode import decode_safely
from utils.errors import UserError

KINDS = ("JPEG", "PNG", "WEBP", "BMP")  # simple ones: whose header says how large the one image decoded will be
KINDS_SHOWN = "JPEG, PNG, WebP or BMP"
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82"}  # of whole files
MEGABYTE = 10**6


@dataclass(frozen=True)
class Limits:
    """How much is taken on.

    Attributes:
        upload: bytes of a request. pixels: width x height of an image.
        workers: images looked at at the same time. queue: requests that may wait meanwhile.
        seconds: longest that a request may take, upload included.
    """

    upload: int = 16 * MEGABYTE
    pixels: int = 50_000_000
    workers: int = 1
    queue: int = 8
    seconds: float = 30.0

    @property
    def requests(self) -> int:
        """Requests inside at the same time, whose uploads are held in memory."""
        return self.workers + self.queue


class Refusal(Exception):
    """A request is not answered as wished, for a reason that the client may know.

    Attributes:
        status: of HTTP. message: one line.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def decode_upload(content: bytes, channels: int, most_pixels: int) -> np.ndarray:
    """Return the (H, W, channels) uint8 image in an upload; BGR, upright.

    Its header is read first, so that no more memory is taken than the image may have.

    Raises:
        Refusal: it is empty or damaged (400), too large (413), of a kind not taken (415), or has other channels than
            the model takes (422).
    """
    if not content:
        raise Refusal(400, "the image is empty")
    kind, (width, height) = _kind_and_size(content)
    if width * height > most_pixels:
        raise Refusal(413, f"the image has {width}x{height} px, more than the {most_pixels} that are taken")
    if kind not in ENDS or not content.endswith(ENDS[kind]):
        _check_whole(content)
    try:
        image = decode_safely(np.frombuffer(content, np.uint8), "the image", channels)
    except UserError as error:
        raise Refusal(400 if "cannot be read" in str(error) else 422, str(error)) from error
    if image is None:
        raise Refusal(400, "the image is damaged")
    return image


def _kind_and_size(content: bytes) -> tuple[str, tuple[int, int]]:
    try:
        with Image.open(io.BytesIO(content), formats=KINDS) as image:
            return str(image.format), image.size
    except Image.DecompressionBombError:
        raise Refusal(413, "the image has far too many pixels") from None
    except Image.UnidentifiedImageError:
        raise Refusal(415, f"the upload is no {KINDS_SHOWN} image") from None
    except Exception as error:  # Pillow's readers raise many kinds (SyntaxError, struct.error, ...) on broken files
        raise Refusal(400, "the image is damaged") from error


def _check_whole(content: bytes) -> None:
    """Refuse what breaks off; older OpenCV shows the part that is there. Bytes after the end do no harm."""
    try:
        with Image.open(io.BytesIO(content), formats=KINDS) as image:
            image.load()
    except Exception as error:
        raise Refusal(400, "the image is damaged: it breaks off, or has errors") from error
