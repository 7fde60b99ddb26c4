"""Rectangular batches: images of like aspect together, with little padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RectSettings:
    """Batches in the shape of their images instead of squares: less padding, fixed order.

    ``batch_size`` images share a shape; sides are multiples of ``stride`` px with ``pad`` strides to spare.
    """

    batch_size: int
    stride: int = 32
    pad: float = 0.5


def rect_batches(
    sizes_hw: Sequence[tuple[int, int]] | np.ndarray, image_size: int, rect: RectSettings
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Group images of like aspect (v6.1's rectangular batches).

    Args:
        sizes_hw: height and width of every image.
        image_size: long side of the network input, px.
        rect: batch size, stride and padding.

    Returns:
        order: (n,) image indices, by rising height / width; consecutive ``batch_size`` of them form a batch.
        shapes_hw: height and width of each batch, px.
    """
    aspects = np.array([height / width for height, width in sizes_hw])
    order = aspects.argsort(kind="stable")
    shapes = []
    for start in range(0, len(order), rect.batch_size):
        batch = aspects[order[start : start + rect.batch_size]]
        factors = np.array([min(batch.max(), 1.0), 1 / max(batch.min(), 1.0)])
        if batch.min() <= 1 <= batch.max():
            factors = np.ones(2)
        height, width = np.ceil(factors * image_size / rect.stride + rect.pad).astype(int) * rect.stride
        shapes.append((int(height), int(width)))
    return order, shapes
