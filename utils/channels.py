"""The order of an image's channels: as read, as networks see it, and as people do.

Images of three channels are BGR as OpenCV has it, until a network gets them as RGB. All other numbers of channels have
one order throughout, that of the file.
"""

import cv2
import numpy as np


def swap_red_and_blue(image: np.ndarray) -> np.ndarray:
    """Return an (H, W, C) image with BGR turned into RGB or back; the image itself unless it has three channels."""
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.shape[2] == 3 else image


def displayable(image: np.ndarray) -> np.ndarray:
    """Return what a screen can show of an (H, W, C) uint8 image, as (H, W, 3) BGR.

    One channel is shown as grey, as is the first of two. The first three of more are taken for red, green and blue.
    """
    channels = image.shape[2]
    if channels == 3:
        return image
    return np.repeat(image[..., :1], 3, 2) if channels < 3 else np.ascontiguousarray(image[..., 2::-1])
