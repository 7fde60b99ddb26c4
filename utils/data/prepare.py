"""From an image to what a network looks at: one way for detect.py and for measuring what detect.py shows."""

import numpy as np

from utils.data.letterbox import fit_letterbox, letterbox


def prepare_image(image: np.ndarray, size_hw: tuple[int, int], stride: int | None) -> np.ndarray:
    """Return an image resized bilinearly and padded with grey, as v6.1's detect.py does it.

    Args:
        image: (h, w, C) uint8.
        size_hw: height and width it has to fit into, px.
        stride: sides become the least multiples of this that hold the image; None pads to ``size_hw``.

    Returns:
        (H, W, C) uint8, channels in the same order.
    """
    return letterbox(image, fit_letterbox(image.shape[:2], size_hw, stride=stride))


def prepared_hw(image_hw: tuple[int, int], size_hw: tuple[int, int], stride: int | None) -> tuple[int, int]:
    """Return height and width that `prepare_image` gives an image of ``image_hw`` px."""
    fit = fit_letterbox(image_hw, size_hw, stride=stride)
    height, width = fit.resized_hw
    return fit.top + height + fit.bottom, fit.left + width + fit.right
