"""Pixels as what networks take: 0..255 becomes 0..1."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

BRIGHTEST = 255


def normalise(images: "Tensor") -> "Tensor":
    """Return (B, C, H, W) uint8 ``images`` as float32 in 0..1, channels last in memory."""
    import torch

    return images.to(torch.float32, memory_format=torch.channels_last).div_(BRIGHTEST)


def as_floats(pixels: np.ndarray) -> np.ndarray:
    """Return (B, H, W, C) uint8 ``pixels`` as (B, C, H, W) float32 in 0..1, contiguous."""
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) / np.float32(BRIGHTEST)
