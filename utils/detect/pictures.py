"""What Python callers hand over as a picture: a file, an address, a Pillow image, an array. All become RGB arrays."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image, ImageOps

from utils.channels import swap_red_and_blue
from utils.data.sources.decode import decode, read_file
from utils.data.sources.naming import Names, masked
from utils.data.sources.web import fetch_image
from utils.errors import UserError
from utils.files import safe_name

MOST_CHANNELS_FIRST = 4  # a first axis of up to this many means channels, height, width (v6.1)
WEB = ("http://", "https://")
ARRAYS_EXPECTED = "expected uint8 (H, W, C) in RGB order, (C, H, W) or (H, W)"


@dataclass(frozen=True)
class Picture:
    """One image to look at.

    Attributes:
        image: (H, W, C) uint8; three channels are RGB, one is grey, others in the order of the file or array.
        name: ``<stem>.jpg`` for what is written about it.
    """

    image: np.ndarray
    name: str


def as_pictures(given: Any, channels: int = 3) -> list[Picture]:
    """Return the pictures in one item or a list of them; no two have the same name.

    Args:
        given: a path, an address (http, https), a Pillow image or an array, or a list or tuple of these.
        channels: of the images that the model takes. 3 and 1 take any file and any Pillow image; with 3, grey arrays
            are repeated and the fourth channel of others is left out (v6.1).

    Raises:
        UserError: nothing was given, or something that is no such picture.
    """
    items = list(given) if isinstance(given, list | tuple) else [given]
    if not items:
        raise UserError("no images were given: the list is empty")
    names = Names()
    pictures = []
    for index, item in enumerate(items):
        image, stem = _read(item, index, channels)
        pictures.append(Picture(np.ascontiguousarray(image), f"{names.of_image(stem)}.jpg"))
    return pictures


def _read(item: Any, index: int, channels: int) -> tuple[np.ndarray, str]:
    """Return image and stem of one item."""
    if isinstance(item, str | Path):
        return _from_file(str(item), channels)
    if isinstance(item, Image.Image):
        stem = Path(getattr(item, "filename", "") or f"image{index}").stem
        return _from_pillow(item, index, channels), stem
    if isinstance(item, np.ndarray):
        return _from_array(item, index, channels), f"image{index}"
    raise UserError(
        f"image {index} is {type(item).__name__}, expected a path, an address, a Pillow image or an array; "
        "tensors go in as one (B, C, H, W) batch, and come back as the network's own output"
    )


def _from_file(place: str, channels: int) -> tuple[np.ndarray, str]:
    """Return image and stem of a file, here or on the web."""
    if place.lower().startswith(WEB):
        image, stem = decode(fetch_image(place), masked(place), channels), Path(urlsplit(place).path).stem or "image"
        return swap_red_and_blue(image), safe_name(stem)
    path = Path(place).expanduser()
    if not path.is_file():
        state = "is a folder; give its images as a list" if path.is_dir() else "does not exist"
        raise UserError(f"image '{place}' {state}")
    return swap_red_and_blue(read_file(path, channels)), path.stem


def _from_pillow(image: Image.Image, index: int, channels: int) -> np.ndarray:
    """Return (H, W, channels) of a Pillow image, turned upright by its EXIF entry."""
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # pixels of a file are read only now, and Pillow raises many kinds on broken ones
        name = getattr(image, "filename", "")
        raise UserError(f"image {index}{f', {name!r},' if name else ''} cannot be read: {error}") from error
    if upright.mode.startswith("I;16"):
        upright = Image.fromarray(((np.asarray(upright).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if channels in (1, 3):
        return np.asarray(upright.convert("RGB" if channels == 3 else "L")).reshape(upright.height, upright.width, -1)
    return _from_array(np.asarray(upright), index, channels)


def _from_array(image: np.ndarray, index: int, channels: int) -> np.ndarray:
    """Return (H, W, channels) of an array in one of the three forms."""
    if image.dtype != np.uint8:
        raise UserError(f"image {index} has values of type {image.dtype}; {ARRAYS_EXPECTED}, values from 0 to 255")
    if image.ndim not in (2, 3) or not image.size:
        raise UserError(f"image {index} has the shape {image.shape}; {ARRAYS_EXPECTED}")
    if image.ndim == 3 and (image.shape[0] <= MOST_CHANNELS_FIRST or image.shape[0] == channels != image.shape[2]):
        image = image.transpose(1, 2, 0)  # (H, W, C)
    image = image[..., None] if image.ndim == 2 else image
    if channels == 3 and image.shape[2] == 1:
        return np.repeat(image, 3, 2)
    if channels == 3 and image.shape[2] == 4:
        return image[..., :3]
    if image.shape[2] != channels:
        raise UserError(f"image {index} has {image.shape[2]} channels, the model takes {channels}; {ARRAYS_EXPECTED}")
    return image
