"""Box geometry: pure functions on the last axis, for tensors and arrays alike.

``xyxy`` is left, top, right, bottom; ``xywh`` is centre x, centre y, width, height. Units are the caller's.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Boxes = TypeVar("Boxes", "Tensor", np.ndarray)


def _stack(parts: list[Boxes]) -> Boxes:
    if isinstance(parts[0], np.ndarray | np.generic):
        return np.stack(parts, -1)
    import torch  # by those who have tensors it is imported already

    return torch.stack(parts, -1)


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
