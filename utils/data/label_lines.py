"""Detections -> lines of a label file."""

import numpy as np

from utils.boxes import xyxy_to_xywh


def format_labels(detections: np.ndarray, size_hw: tuple[int, int], with_score: bool = False) -> str:
    """Return detections of one image as YOLO label lines, ``class x y width height [score]``.

    Args:
        detections: (n, 6) float32 left, top, right, bottom in px of the image, score, class.
        size_hw: height and width of the image, by which boxes are normalised.
        with_score: append the score.
    """
    return _lines(detections, xyxy_to_xywh(detections[:, :4]), size_hw, with_score)


def format_corners(detections: np.ndarray, size_hw: tuple[int, int], with_score: bool = False) -> str:
    """Return lines ``class left top right bottom [score]``; see ``format_labels`` for the arguments."""
    return _lines(detections, detections[:, :4], size_hw, with_score)


def _lines(detections: np.ndarray, boxes: np.ndarray, size_hw: tuple[int, int], with_score: bool) -> str:
    height, width = size_hw
    shares = boxes / np.array([width, height, width, height], np.float32)
    rows = np.concatenate((detections[:, 5:6], shares, detections[:, 4 : 4 + with_score]), 1)
    return "".join(" ".join(f"{value:g}" for value in row) + "\n" for row in rows.tolist())
