"""Moving scenes: perspective, rotation, zoom, shear and shift in one step, and which objects remain worth showing.

Formulas, draw order and border grey are those of YOLOv5 v6.1.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from utils.boxes import clip_boxes
from utils.data.letterbox import with_channels
from utils.data.scene import GREY, Scene
from utils.data.strength import Augmentation

MIN_SIDE = 2  # px; smaller boxes are dropped
MAX_ASPECT = 100
MIN_AREA_LEFT = 0.10  # share of a box that must remain visible
MIN_AREA_LEFT_POLYGON = 0.01
POLYGON_POINTS = 1000  # a polygon is resampled to this many points before it is moved


class AffineDraw(NamedTuple):
    """The eight numbers behind one transform, in the order they are drawn."""

    perspective_x: float
    perspective_y: float
    angle: float  # degrees
    scale: float
    shear_x: float  # degrees
    shear_y: float
    translate_x: float  # where the centre lands, as a fraction of the output
    translate_y: float


STILL = AffineDraw(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.5, 0.5)  # moves nothing


def draw_affine(strength: Augmentation, generator: Generator) -> AffineDraw:
    """Draw one transform of the given strength."""
    view, turn, zoom = strength.perspective, strength.degrees, strength.scale
    limits = (view, view, turn, zoom, strength.shear, strength.shear, strength.translate, strength.translate)
    return AffineDraw(
        *(generator.uniform(still - limit, still + limit) for still, limit in zip(STILL, limits, strict=True))
    )


def affine_matrix(draw: AffineDraw, size_hw: tuple[int, int], output_hw: tuple[int, int]) -> np.ndarray:
    """Return the (3, 3) float64 matrix from input to output px: centre, perspective, rotate and scale, shear, move."""
    centre, view, rotation, shear, move = (np.eye(3) for _ in range(5))
    centre[:2, 2] = -size_hw[1] / 2, -size_hw[0] / 2
    view[2, :2] = draw.perspective_x, draw.perspective_y
    rotation[:2] = cv2.getRotationMatrix2D((0, 0), draw.angle, draw.scale)
    shear[0, 1], shear[1, 0] = math.tan(math.radians(draw.shear_x)), math.tan(math.radians(draw.shear_y))
    move[:2, 2] = draw.translate_x * output_hw[1], draw.translate_y * output_hw[0]
    return move @ shear @ rotation @ view @ centre


def warp(scene: Scene, matrix: np.ndarray, output_hw: tuple[int, int], scale: float) -> Scene:
    """Move a scene by ``matrix`` and keep the objects that stay visible.

    Args:
        scene: what to move.
        matrix: (3, 3) from input to output px.
        output_hw: height and width of the result.
        scale: the zoom inside ``matrix``; an object's visible share is judged against its size times this.
    """
    image = warp_image(scene.image, matrix, output_hw)
    return Scene(image, *warp_objects(scene.labels, scene.segments, matrix, output_hw, scale))


def warp_objects(
    labels: np.ndarray, segments: list[np.ndarray], matrix: np.ndarray, output_hw: tuple[int, int], scale: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Do to (n, 5) ``labels`` and their polygons what :func:`warp` does to those of a scene."""
    if len(labels) == 0:
        return labels, []
    moved, least = [], MIN_AREA_LEFT
    if len(segments) == len(labels):
        moved, least = [move_points(resample_polygon(segment), matrix) for segment in segments], MIN_AREA_LEFT_POLYGON
        boxes = np.stack([polygon_box(segment, output_hw) for segment in moved])
    else:
        boxes = warp_boxes(labels[:, 1:], matrix, output_hw)
    keep = keep_boxes(labels[:, 1:] * scale, boxes, least)
    kept = np.concatenate([labels[keep, :1], boxes[keep]], 1).astype(np.float32)
    return kept, [moved[index] for index in keep.nonzero()[0]] if moved else []


def warp_image(image: np.ndarray, matrix: np.ndarray, output_hw: tuple[int, int]) -> np.ndarray:
    """Return (H, W, C) ``image`` moved by ``matrix`` bilinearly, grey outside; ``image`` itself if nothing moves."""
    if image.shape[:2] == output_hw and np.array_equal(matrix, np.eye(3)):
        return image
    size_wh, grey = output_hw[::-1], (GREY,) * 4
    if has_perspective(matrix):
        return with_channels(cv2.warpPerspective(image, matrix, size_wh, borderValue=grey))
    return with_channels(cv2.warpAffine(image, matrix[:2], size_wh, borderValue=grey))


def has_perspective(matrix: np.ndarray) -> bool:
    """Tell whether a (3, 3) ``matrix`` does not keep parallels parallel."""
    return bool(matrix[2, :2].any())


def move_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return (..., 2) points moved by a (3, 3) ``matrix``, float64."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]  # (..., 3)
    return moved[..., :2] / moved[..., 2:]


def warp_boxes(boxes: np.ndarray, matrix: np.ndarray, output_hw: tuple[int, int]) -> np.ndarray:
    """Return the upright (n, 4) xyxy boxes around the moved corners of (n, 4) ``boxes``, clipped to the output."""
    corners = move_points(boxes[:, [0, 1, 2, 3, 0, 3, 2, 1]].reshape(-1, 4, 2), matrix)  # (box, corner, xy)
    return clip_boxes(np.concatenate([corners.min(1), corners.max(1)], 1), output_hw)


def resample_polygon(points: np.ndarray, count: int = POLYGON_POINTS) -> np.ndarray:
    """Return ``count`` points along the (n, 2) polygon, evenly spaced by point index."""
    at = np.linspace(0, len(points) - 1, count)
    return np.stack([np.interp(at, np.arange(len(points)), points[:, axis]) for axis in (0, 1)], 1)


def polygon_box(points: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Return the (4,) xyxy box around those (n, 2) points that lie inside the image; zeros when none does."""
    inside = points[((points >= 0) & (points <= (size_hw[1], size_hw[0]))).all(1)]
    return np.concatenate([inside.min(0), inside.max(0)]) if len(inside) else np.zeros(4)


def keep_boxes(
    before: np.ndarray,
    after: np.ndarray,
    min_area_left: float = MIN_AREA_LEFT,
    min_side: float = MIN_SIDE,
    max_aspect: float = MAX_ASPECT,
) -> np.ndarray:
    """Return (n,) bool: which boxes are still worth learning from.

    Args:
        before: (n, 4) xyxy boxes as large as they would be if nothing were cut off.
        after: (n, 4) xyxy boxes that remain.
        min_area_left: least ratio of the areas.
        min_side: width and height must exceed this, px.
        max_aspect: longer to shorter side must stay below this.
    """
    width_before, height_before = (before[:, 2:] - before[:, :2]).T
    width, height = (after[:, 2:] - after[:, :2]).T
    tiny = 1e-16
    aspect = np.maximum(width / (height + tiny), height / (width + tiny))
    area_left = width * height / (width_before * height_before + tiny)
    return (width > min_side) & (height > min_side) & (area_left > min_area_left) & (aspect < max_aspect)
