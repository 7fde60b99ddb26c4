"""Test-time augmentation: a network looks at an image three times, at several sizes and mirrored, for better recall."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.yolo import Model

PADDING = 0.447  # grey level in 0..1, the mean of ImageNet's channels


class View(NamedTuple):
    """One look at an image: its sides times ``scale``, left and right swapped when ``mirrored``."""

    scale: float
    mirrored: bool


VIEWS = (View(1, False), View(0.83, True), View(0.67, False))  # v6.1's, largest first


def predict_augmented(model: Model, images: Tensor) -> Tensor:
    """Return the decoded rows of all views of ``images``, side by side, for one suppression (v6.1's ``augment``).

    The largest view does without its coarsest level and the smallest without its finest one: what these would find,
    large and small objects, the other views see better.

    Args:
        model: the network, in evaluation mode.
        images: (B, C, H, W) in 0..1; H and W multiples of the model's largest stride.

    Returns:
        (B, N, 5 + classes) as ``Detect`` gives them, boxes in px of ``images``: N = 45147 for 640 x 640 px and three
        levels.
    """
    strides = model.detect.strides
    coarsest, finest = strides.index(max(strides)), strides.index(min(strides))
    found = []
    for number, view in enumerate(VIEWS):
        decoded, raw = model(view_of(images, view, model.largest_stride))
        by_level = list(decoded.split([level[0, ..., 0].numel() for level in raw], 1))  # (B, rows of a level, no)
        if coarsest != finest and number in (0, len(VIEWS) - 1):
            del by_level[coarsest if number == 0 else finest]
        found += [_to_image(rows, view, images.shape[3]) for rows in by_level]
    return torch.cat(found, 1)


def view_of(images: Tensor, view: View, stride: int) -> Tensor:
    """Return (B, C, H, W) ``images`` as seen in ``view``: sides are multiples of ``stride``, padded right and below."""
    images = images.flip(3) if view.mirrored else images
    if view.scale == 1:
        return images
    sides = images.shape[2], images.shape[3]
    resized = [int(side * view.scale) for side in sides]
    height, width = (math.ceil(side * view.scale / stride) * stride for side in sides)
    images = F.interpolate(images, resized, mode="bilinear", align_corners=False)
    return F.pad(images, (0, width - resized[1], 0, height - resized[0]), value=PADDING)


def _to_image(rows: Tensor, view: View, width: int) -> Tensor:
    """Turn the boxes of (B, n, 5 + classes) ``rows`` from px of a view into px of images that are ``width`` px wide."""
    x, others = (rows[..., :4] / view.scale).split([1, 3], -1)
    x = width - x if view.mirrored else x
    return torch.cat((x, others, rows[..., 4:]), -1)
