"""Fitting an image into a frame without changing its shape."""

from typing import NamedTuple

import cv2
import numpy as np

from utils.data.scene import GREY

OPENCV_CHANNELS = 4  # OpenCV averages no more


class Letterbox(NamedTuple):
    """Where an image lands inside a padded frame: resize factor, size after it, and padding in px."""

    ratio: float
    resized_hw: tuple[int, int]
    half_pad_xy: tuple[float, float]  # exact half of the padding; the integer sides below differ by up to half a pixel
    top: int
    bottom: int
    left: int
    right: int


def fit_letterbox(
    size_hw: tuple[int, int], frame_hw: tuple[int, int], scale_up: bool = True, stride: int | None = None
) -> Letterbox:
    """Fit an image of ``size_hw`` px into ``frame_hw`` px, centred.

    Args:
        size_hw: height and width of the image.
        frame_hw: height and width of the frame.
        scale_up: enlarge images smaller than the frame.
        stride: when given, the frame shrinks to the least multiple of it that holds the image (v6.1's ``auto``).
    """
    ratio = min(frame_hw[0] / size_hw[0], frame_hw[1] / size_hw[1])
    ratio = ratio if scale_up else min(ratio, 1.0)
    resized_hw = (max(round(size_hw[0] * ratio), 1), max(round(size_hw[1] * ratio), 1))
    pad_x, pad_y = frame_hw[1] - resized_hw[1], frame_hw[0] - resized_hw[0]
    if stride:
        pad_x, pad_y = pad_x % stride, pad_y % stride
    half_x, half_y = pad_x / 2, pad_y / 2
    top, bottom, left, right = (round(half + nudge) for half in (half_y, half_x) for nudge in (-0.1, 0.1))
    return Letterbox(ratio, resized_hw, (half_x, half_y), top, bottom, left, right)


def letterbox(image: np.ndarray, fit: Letterbox) -> np.ndarray:
    """Return (H, W, C) ``image`` resized bilinearly and padded with grey as ``fit`` says."""
    if image.shape[:2] != fit.resized_hw:
        image = resize(image, fit.resized_hw)
    if not (fit.top or fit.bottom or fit.left or fit.right):
        return image
    border = (fit.top, fit.bottom, fit.left, fit.right)
    return with_channels(cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=(GREY,) * 4))


def resize(image: np.ndarray, size_hw: tuple[int, int], area: bool = False) -> np.ndarray:
    """Return (H, W, C) ``image`` at ``size_hw`` px, bilinear or, with ``area``, averaged over each new pixel's area."""
    area = area and image.shape[2] <= OPENCV_CHANNELS
    interpolation = cv2.INTER_AREA if area else cv2.INTER_LINEAR
    return with_channels(cv2.resize(image, size_hw[::-1], interpolation=interpolation))


def with_channels(image: np.ndarray) -> np.ndarray:
    """Return (H, W) or (H, W, C) ``image`` with three axes: OpenCV drops the last one of a single channel."""
    return image if image.ndim == 3 else image[..., None]
