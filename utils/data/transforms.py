"""The optional transforms of YOLOv5 v6.1: used when the package ``albumentations`` is installed."""

import importlib.metadata
import importlib.util
from collections.abc import Callable

import numpy as np

from utils.log import LOGGER

PACKAGE = "albumentations"
OLDEST = 2  # major version; earlier ones cannot be seeded image by image
RARELY = 0.01

Transforms = Callable[[np.ndarray, int], np.ndarray]  # (H, W, 3) uint8 image, seed -> image


class AlbumentationsList:
    """v6.1's list of Albumentations; all of them leave boxes where they are.

    Most of the time an image passes unchanged. The three transforms with probability 0 are left out.
    """

    def __init__(self) -> None:
        import albumentations

        self.compose = albumentations.Compose(
            [
                albumentations.Blur(p=RARELY),
                albumentations.MedianBlur(p=RARELY),
                albumentations.ToGray(p=RARELY),
                albumentations.CLAHE(p=RARELY),
            ]
        )

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Return (H, W, 3) uint8 ``image`` transformed as ``seed`` decides."""
        self.compose.set_random_seed(seed)
        return self.compose(image=image)["image"]


def load_transforms() -> Transforms | None:
    """Return the transforms if their package is installed, with a line that says so; else None."""
    if importlib.util.find_spec(PACKAGE) is None:
        return None
    version = importlib.metadata.version(PACKAGE)
    if int(version.split(".")[0]) < OLDEST:
        LOGGER.warning(f"WARNING: {PACKAGE} {version} is not used: version {OLDEST} or newer is needed")
        return None
    transforms = AlbumentationsList()
    names = ", ".join(type(transform).__name__ for transform in transforms.compose.transforms)
    LOGGER.info(f"{PACKAGE} {version}: {names}, each on {RARELY:.0%} of the images; 'albumentations: 0' for none")
    return transforms
