"""Box geometry: pure functions on the last axis, for tensors and, where no torch call is needed, arrays.

``xyxy`` is left, top, right, bottom; ``xywh`` is centre x, centre y, width, height. Units are the caller's.
"""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

Boxes = TypeVar("Boxes", Tensor, np.ndarray)


def _stack(parts: list[Boxes]) -> Boxes:
    return torch.stack(parts, -1) if isinstance(parts[0], Tensor) else np.stack(parts, -1)


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """Convert (..., 4) corners to centre and size."""
    left, top, right, bottom = boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]
    return _stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """Convert (..., 4) centre and size to corners."""
    x, y, half_width, half_height = boxes[..., 0], boxes[..., 1], boxes[..., 2] / 2, boxes[..., 3] / 2
    return _stack([x - half_width, y - half_height, x + half_width, y + half_height])


def clip_boxes(boxes: Boxes, size_hw: tuple[int, int]) -> Boxes:
    """Return (..., 4) xyxy boxes limited to an image of ``size_hw`` pixels."""
    height, width = size_hw
    x, y = boxes[..., 0::2].clip(0, width), boxes[..., 1::2].clip(0, height)
    return _stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]])


def letterbox_geometry(
    input_hw: tuple[int, int], image_hw: tuple[int, int], ratio: float | None = None
) -> tuple[float, tuple[float, float]]:
    """Return resize factor, and padding left and above in px, of an image centred in a network input.

    Follows from the sizes alone; the whole pixels that were really resized to may differ by one. ``ratio`` if known.
    """
    if ratio is None:
        ratio = min(input_hw[0] / image_hw[0], input_hw[1] / image_hw[1])
    return ratio, ((input_hw[1] - image_hw[1] * ratio) / 2, (input_hw[0] - image_hw[0] * ratio) / 2)


def scale_boxes(
    boxes: Boxes,
    from_hw: tuple[int, int],
    to_hw: tuple[int, int],
    ratio: float | None = None,
    pad_xy: tuple[float, float] | None = None,
) -> Boxes:
    """Map xyxy boxes from a letterboxed network input back to the original image, clipped to it.

    Args:
        boxes: (..., 4) xyxy in pixels of the network input.
        from_hw: height and width of the network input.
        to_hw: height and width of the original image.
        ratio: resize factor that was used; derived from the two sizes when None.
        pad_xy: left and top padding that was used; derived when None.
    """
    ratio, derived_xy = letterbox_geometry(from_hw, to_hw, ratio)
    pad_x, pad_y = pad_xy or derived_xy
    parts = [boxes[..., 0] - pad_x, boxes[..., 1] - pad_y, boxes[..., 2] - pad_x, boxes[..., 3] - pad_y]
    return clip_boxes(_stack(parts) / ratio, to_hw)


def pairwise_iou(boxes_a: Tensor, boxes_b: Tensor, eps: float = 0.0) -> Tensor:
    """Return the (N, M) intersection over union of (N, 4) and (M, 4) xyxy boxes."""
    top_left = torch.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    bottom_right = torch.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    intersection = (bottom_right - top_left).clamp(min=0).prod(-1)  # (N, M)
    area_a = (boxes_a[:, 2:] - boxes_a[:, :2]).prod(-1)
    area_b = (boxes_b[:, 2:] - boxes_b[:, :2]).prod(-1)
    return intersection / (area_a[:, None] + area_b[None] - intersection + eps)


def element_iou(boxes_a: Tensor, boxes_b: Tensor, kind: str = "iou", eps: float = 1e-7) -> Tensor:
    """Return the (...,) overlap of box pairs.

    Args:
        boxes_a: (..., 4) xyxy.
        boxes_b: (..., 4) xyxy, same shape.
        kind: ``"iou"``, ``"giou"`` (arXiv 1902.09630), ``"diou"`` or ``"ciou"`` (arXiv 1911.08287).
        eps: keeps divisions finite; added where v6.1 adds it, so values agree with it.
    """
    a_left, a_top, a_right, a_bottom = boxes_a.unbind(-1)
    b_left, b_top, b_right, b_bottom = boxes_b.unbind(-1)
    a_width, a_height = a_right - a_left, a_bottom - a_top + eps
    b_width, b_height = b_right - b_left, b_bottom - b_top + eps
    overlap_width = (torch.minimum(a_right, b_right) - torch.maximum(a_left, b_left)).clamp(min=0)
    overlap_height = (torch.minimum(a_bottom, b_bottom) - torch.maximum(a_top, b_top)).clamp(min=0)
    intersection = overlap_width * overlap_height
    union = a_width * a_height + b_width * b_height - intersection + eps
    iou = intersection / union
    if kind == "iou":
        return iou

    hull_width = torch.maximum(a_right, b_right) - torch.minimum(a_left, b_left)
    hull_height = torch.maximum(a_bottom, b_bottom) - torch.minimum(a_top, b_top)
    if kind == "giou":
        hull = hull_width * hull_height + eps
        return iou - (hull - union) / hull

    diagonal = hull_width**2 + hull_height**2 + eps  # squared
    distance = ((b_left + b_right - a_left - a_right) ** 2 + (b_top + b_bottom - a_top - a_bottom) ** 2) / 4  # squared
    if kind == "diou":
        return iou - distance / diagonal

    aspect = (4 / math.pi**2) * (torch.atan(b_width / b_height) - torch.atan(a_width / a_height)) ** 2
    with torch.no_grad():
        alpha = aspect / (aspect - iou + (1 + eps))
    return iou - (distance / diagonal + aspect * alpha)
