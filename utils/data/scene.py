"""An image and what is on it: what every augmentation takes and returns."""

from dataclasses import dataclass

import numpy as np

GREY = 114  # fills whatever no image covers


@dataclass
class Scene:
    """An image and what is on it.

    Attributes:
        image: (H, W, C) uint8; three channels are BGR.
        labels: (n, 5) float32 class, left, top, right, bottom; px.
        segments: n polygons (points, 2) px x, y; or none when only boxes are known.
    """

    image: np.ndarray
    labels: np.ndarray
    segments: list[np.ndarray]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in px."""
        return self.image.shape[:2]


def join_objects(labels: list[np.ndarray], segments: list[list[np.ndarray]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return all (n, 5) labels in one array, and all polygons if every label has one, else none."""
    joined, polygons = np.concatenate(labels), [polygon for some in segments for polygon in some]
    return joined, polygons if len(polygons) == len(joined) else []
