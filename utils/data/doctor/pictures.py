"""What the pixels of images say: a fingerprint of each, read at reduced size, in threads."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.channels import displayable
from utils.data.pixels import CONVERTED, read_image
from utils.errors import UserError
from utils.log import progress

THUMBNAIL = 24  # px
HASH_HW = (8, 9)  # 8 rows of 8 differences
REDUCED = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}
LEAST_REDUCED = 48  # px that the shorter side keeps at least
LEAST_STEP = 1.0  # grey levels; less is noise, which would set bits at random
JPEG_START = b"\xff\xd8\xff"


@dataclass(frozen=True, eq=False)
class Prints:
    """Fingerprints of n images; all zero where ``readable`` is False.

    Attributes:
        digests: (n,) text, the same for files of the same bytes.
        hashes: (n,) uint64; bits differ where neighbouring grey areas differ in order (difference hash, N. Krawetz).
        thumbnails: (n, 24, 24) uint8 grey.
        readable: (n,) bool.
    """

    digests: np.ndarray
    hashes: np.ndarray
    thumbnails: np.ndarray
    readable: np.ndarray


def read_prints(images: Sequence[Path], sizes_hw: np.ndarray, channels: int = 3) -> Prints:
    """Read every image once.

    Args:
        images: n files.
        sizes_hw: (n, 2) heights and widths in px.
        channels: of the data set; other than 1 and 3, files must have as many to be readable.
    """
    count = len(images)
    prints = Prints(
        np.zeros(count, "S32"),
        np.zeros(count, np.uint64),
        np.zeros((count, THUMBNAIL, THUMBNAIL), np.uint8),
        np.zeros(count, bool),
    )

    def read(index: int) -> None:
        data = _read_bytes(images[index])
        if data is None:
            return
        prints.digests[index] = hashlib.blake2b(data.tobytes(), digest_size=16).hexdigest()
        grey, extent_hw = _decode_grey(data, sizes_hw[index]) if channels in CONVERTED else (None, (0, 0))
        if grey is None:
            grey = _read_whole(images[index], channels)
            extent_hw = (0, 0) if grey is None else grey.shape
        if grey is not None:
            prints.hashes[index] = difference_hash(area_means(grey, extent_hw, HASH_HW))
            prints.thumbnails[index] = area_means(grey, extent_hw, (THUMBNAIL, THUMBNAIL)).round()
            prints.readable[index] = True

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        for _ in progress(pool.map(read, range(count)), "looking at images", count, "img"):
            pass
    return prints


def _read_whole(image: Path, channels: int) -> np.ndarray | None:
    """Return the mean of the channels of a file that has too many for a picture, (H, W) uint8."""
    try:
        whole = read_image(image, channels)
    except UserError:
        return None
    return None if whole is None else whole.mean(2).astype(np.uint8)


def _read_bytes(image: Path) -> np.ndarray | None:
    try:
        data = np.fromfile(image, np.uint8)
    except OSError:
        return None
    return data if len(data) else None


def _decode_grey(data: np.ndarray, size_hw: np.ndarray) -> tuple[np.ndarray | None, tuple[float, float]]:
    """Decode an image as small as is enough, which a JPEG is in a fraction of the time.

    Args:
        data: the bytes of the file.
        size_hw: (2,) px of the image.

    Returns:
        grey: (h, w) uint8, upright; None if OpenCV cannot decode it.
        extent_hw: how much of ``grey`` the image fills: the last row and column of a reduced JPEG are more or less
            outside. Without this, copies of different sizes would look different.
    """
    factor = next((factor for factor in REDUCED if size_hw.min() >= factor * LEAST_REDUCED), 1)
    if data[: len(JPEG_START)].tobytes() != JPEG_START:  # OpenCV would decode it whole, and then skip pixels
        factor = 1
    try:
        grey = cv2.imdecode(data, REDUCED.get(factor, cv2.IMREAD_GRAYSCALE))
    except cv2.error:
        grey = None
    if grey is None:
        return None, (0, 0)
    height, width = grey.shape if factor == 1 else size_hw / factor
    return grey, (min(float(height), grey.shape[0]), min(float(width), grey.shape[1]))


def area_means(grey: np.ndarray, extent_hw: tuple[float, float], cells_hw: tuple[int, int]) -> np.ndarray:
    """Divide the upper left ``extent_hw`` px of an (h, w) image into cells; return their means, (rows, columns)."""
    rows, columns = (
        _area_weights(*sides) for sides in zip(cells_hw, extent_hw, grey.shape, strict=True)
    )  # (cells, px)
    return rows @ grey.astype(np.float32) @ columns.T


def _area_weights(cells: int, extent: float, length: int) -> np.ndarray:
    """Return (cells, length) what each px adds to the mean of each of the cells that divide ``extent`` px."""
    edges, px = np.linspace(0, extent, cells + 1)[:, None], np.arange(length)
    covered = np.clip(np.minimum(edges[1:], px + 1) - np.maximum(edges[:-1], px), 0, None)
    return (covered * (cells / extent)).astype(np.float32)


def read_thumbnail(image: Path, side: int, channels: int = 3) -> np.ndarray | None:
    """Return the image with its long side at ``side`` px, (H, W, 3) uint8 BGR and upright; None if it is unreadable."""
    try:
        whole = read_image(image, channels)
    except UserError:
        return None
    if whole is None:
        return None
    picture = displayable(whole)  # (H, W, 3)
    scale = side / max(picture.shape[:2])
    size_wh = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)


def difference_hash(means: np.ndarray) -> np.uint64:
    """Return 64 bits, each telling whether one of (8, 9) areas is darker than the one to its right."""
    bits = np.packbits(means[:, 1:] > means[:, :-1] + LEAST_STEP)  # (8,) uint8
    return bits.view(np.uint64)[0]
