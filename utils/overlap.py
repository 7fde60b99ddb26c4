"""How much boxes overlap: tensors of left, top, right, bottom, in any unit."""

import math

import torch
from torch import Tensor


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
