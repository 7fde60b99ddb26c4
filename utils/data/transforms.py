"""The optional transforms of YOLOv5 v6.1: used when the package ``albumentations`` is installed."""

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable

import numpy as np

from utils.log import LOGGER

PACKAGE = "albumentations"
OLDEST = 2  # major version; earlier ones cannot be seeded image by image
RARELY = 0.01

Transforms = Callable[[np.ndarray, int], np.ndarray]  # (H, W, 3) uint8 image, seed -> image


class AlbumentationsList:
    """v6.1's list of Albumentations; all of them leave boxes where they are, and those of probability 0 are left out.

    Whether one is applied is drawn here: seeded alike, the package's own would all come together or not at all.
    """

    def __init__(self) -> None:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for news of itself
        import albumentations as package

        self.transforms = [kind(p=1) for kind in (package.Blur, package.MedianBlur, package.ToGray, package.CLAHE)]

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Return (H, W, 3) uint8 ``image`` with the transforms that ``seed`` decides, none most of the time."""
        generator = np.random.default_rng(seed)
        for transform in self.transforms:
            if generator.random() < RARELY:
                transform.set_random_seed(int(generator.integers(2**32)))
                image = transform(image=image)["image"]
        return image


def load_transforms() -> Transforms | None:
    """Return the transforms if their package is installed, with a line that says so; else None."""
    if importlib.util.find_spec(PACKAGE) is None:
        return None
    version = importlib.metadata.version(PACKAGE)
    if int(version.split(".")[0]) < OLDEST:
        LOGGER.warning(f"WARNING: {PACKAGE} {version} is not used: version {OLDEST} or newer is needed")
        return None
    try:
        transforms = AlbumentationsList()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        LOGGER.warning(f"WARNING: {PACKAGE} {version} is not used: {type(error).__name__}: {error}")
        return None
    names = ", ".join(type(transform).__name__ for transform in transforms.transforms)
    LOGGER.info(f"{PACKAGE} {version}: {names}, each on {RARELY:.0%} of the images; 'albumentations: 0' for none")
    return transforms
