"""Images as a network sees them: to fit INT8 to, and to compare an exported file with its source."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from utils.channels import swap_red_and_blue
from utils.data.config import DatasetConfig
from utils.data.listing import list_images
from utils.data.pixels import read_image
from utils.data.prepare import prepare_image
from utils.errors import UserError
from utils.files import ROOT

NOISE_IMAGES = 3  # where a model takes images that nobody has at hand


def as_input(image: np.ndarray, size_hw: tuple[int, int], stride: int | None) -> np.ndarray:
    """Return (1, C, H, W) float32 in [0, 1] of an (h, w, C) uint8 image, prepared as detect.py does it."""
    prepared = swap_red_and_blue(prepare_image(image, size_hw, stride))
    return np.ascontiguousarray(prepared.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def images_of_split(config: DatasetConfig, split: str, most: int) -> list[Path]:
    """Return up to ``most`` images of a split, evenly spread over it.

    Raises:
        UserError: it has none.
    """
    images = list_images(config.splits[split])
    if not images:
        raise UserError(f"{config.file}: split '{split}' has no images; --int8 and the comparison need some")
    chosen = np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int)
    return [images[index] for index in chosen.tolist()]


def calibration(images: Sequence[Path], size_hw: tuple[int, int], channels: int) -> Callable[[], Iterator[np.ndarray]]:
    """Return what gives the images as (1, C, H, W) float32 in [0, 1]; unreadable ones are left out.

    Raises:
        UserError: when called, if none can be read.
    """

    def prepared() -> Iterator[np.ndarray]:
        read = 0
        for path in images:
            image = read_image(path, channels)
            if image is not None:
                read += 1
                yield as_input(image, size_hw, None)
        if not read:
            raise UserError(f"none of the {len(images)} images to fit INT8 to can be read; the first is '{images[0]}'")

    return prepared


def images_to_compare(paths: Sequence[Path], channels: int) -> list[np.ndarray]:
    """Return (h, w, C) uint8 images: those at ``paths``, else the project's own, else noise."""
    shipped = sorted((ROOT / "data/images").glob("*.jpg")) if channels in (1, 3) else []
    images = [read_image(path, channels) for path in paths or shipped]
    found = [image for image in images if image is not None]
    generator = np.random.default_rng(0)
    noise = [generator.integers(0, 256, (480, 640, channels), np.uint8) for _ in range(NOISE_IMAGES)]
    return found or noise
