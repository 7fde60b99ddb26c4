"""Changes to training images that keep boxes and pixels together: pure functions of a scene and of drawn numbers.

Whatever is random is drawn by a ``draw_*`` function from the generator it is given; the function that applies it takes
the drawn numbers. Formulas, draw order and border grey are those of YOLOv5 v6.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from utils.boxes import clip_boxes

GREY = 114  # fills whatever no image covers
MIN_SIDE = 2  # px; smaller boxes are dropped
MAX_ASPECT = 100
MIN_AREA_LEFT = 0.10  # share of a box that must remain visible
MIN_AREA_LEFT_POLYGON = 0.01
POLYGON_POINTS = 1000  # a polygon is resampled to this many points before it is moved


@dataclass
class Scene:
    """An image and what is on it.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        labels: (n, 5) float32 class, left, top, right, bottom; px.
        segments: n polygons (points, 2) px x, y; or none when only boxes are known.
    """

    image: np.ndarray
    labels: np.ndarray
    segments: list[np.ndarray]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in px."""
        return self.image.shape[:2]


@dataclass(frozen=True)
class Augmentation:
    """How strongly training images are changed; the names and meanings of v6.1's hyperparameters.

    ``hsv_*``, ``translate`` and ``scale`` are fractions, ``degrees`` and ``shear`` degrees, ``flipud``, ``fliplr``,
    ``mosaic``, ``mixup`` and ``copy_paste`` probabilities.
    """

    hsv_h: float = 0.0
    hsv_s: float = 0.0
    hsv_v: float = 0.0
    degrees: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    perspective: float = 0.0
    flipud: float = 0.0
    fliplr: float = 0.0
    mosaic: float = 0.0
    mixup: float = 0.0
    copy_paste: float = 0.0


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
    """Return (H, W, 3) ``image`` resized bilinearly and padded with grey as ``fit`` says."""
    if image.shape[:2] != fit.resized_hw:
        image = cv2.resize(image, fit.resized_hw[::-1], interpolation=cv2.INTER_LINEAR)
    if not (fit.top or fit.bottom or fit.left or fit.right):
        return image
    border = (fit.top, fit.bottom, fit.left, fit.right)
    return cv2.copyMakeBorder(image, *border, cv2.BORDER_CONSTANT, value=(GREY, GREY, GREY))


def draw_mosaic_centre(size: int, generator: Generator) -> tuple[int, int]:
    """Draw x, y of the corner where four tiles of ``size`` px meet on a canvas twice as large."""
    y, x = (int(generator.uniform(size / 2, 3 * size / 2)) for _ in range(2))
    return x, y


def mosaic_rectangles(
    tile: int, tile_hw: tuple[int, int], centre_xy: tuple[int, int], canvas: int
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Return where tile 0..3 (top left, top right, bottom left, bottom right) meets a square canvas.

    Returns:
        left, top, right, bottom on the canvas, and the same rectangle in the tile's own pixels.
    """
    (height, width), (centre_x, centre_y) = tile_hw, centre_xy
    origin_x = centre_x if tile % 2 else centre_x - width
    origin_y = centre_y if tile >= 2 else centre_y - height
    left, top = max(origin_x, 0), max(origin_y, 0)
    right, bottom = min(origin_x + width, canvas), min(origin_y + height, canvas)
    return (left, top, right, bottom), (left - origin_x, top - origin_y, right - origin_x, bottom - origin_y)


def mosaic4(scenes: Sequence[Scene], centre_xy: tuple[int, int], size: int) -> Scene:
    """Join four scenes at ``centre_xy`` of a grey canvas of 2 ``size`` x 2 ``size`` px; boxes are clipped to it."""
    canvas = 2 * size
    image = np.full((canvas, canvas, 3), GREY, np.uint8)
    labels, segments = [], []
    for tile, scene in enumerate(scenes):
        (left, top, right, bottom), (x1, y1, x2, y2) = mosaic_rectangles(tile, scene.size_hw, centre_xy, canvas)
        image[top:bottom, left:right] = scene.image[y1:y2, x1:x2]
        offset = np.array([left - x1, top - y1], np.float32)
        moved = scene.labels.copy()
        moved[:, 1:] += np.tile(offset, 2)
        labels.append(moved)
        segments += [(segment + offset).clip(0, canvas) for segment in scene.segments]
    joined = np.concatenate(labels)
    joined[:, 1:].clip(0, canvas, out=joined[:, 1:])
    return Scene(image, joined, segments if len(segments) == len(joined) else [])


def draw_mixup_ratio(generator: Generator) -> float:
    """Draw the weight of the first image (Beta(32, 32), as in v6.1; mixup is arXiv 1710.09412)."""
    return float(generator.beta(32.0, 32.0))


def mixup(first: Scene, second: Scene, ratio: float) -> Scene:
    """Lay two scenes of one size over each other; the labels of both stay."""
    image = (first.image * ratio + second.image * (1 - ratio)).astype(np.uint8)
    return Scene(image, np.concatenate([first.labels, second.labels]), [])


def draw_copy_paste(count: int, probability: float, generator: Generator) -> list[int]:
    """Draw which of ``count`` objects :func:`copy_paste` mirrors: round(probability x count) different ones."""
    return generator.permutation(count)[: round(probability * count)].tolist()


def copy_paste(scene: Scene, chosen: Sequence[int]) -> Scene:
    """Paste a mirrored copy of the ``chosen`` objects where it hides less than 30 % of every other box (v6.1).

    Needs polygons; a scene without them is returned as it is. Source: arXiv 2012.07177.
    """
    if not scene.segments or not chosen:
        return scene
    width = scene.size_hw[1]
    labels, segments = scene.labels, list(scene.segments)
    mask = np.zeros(scene.size_hw, np.uint8)
    for index in chosen:
        left, top, right, bottom = scene.labels[index, 1:]
        mirrored = np.array([scene.labels[index, 0], width - right, top, width - left, bottom], np.float32)
        if (_hidden_share(mirrored[1:], labels[:, 1:]) >= 0.30).any():
            continue
        labels = np.concatenate([labels, mirrored[None]])
        segments.append(np.stack([width - segments[index][:, 0], segments[index][:, 1]], 1))
        cv2.drawContours(mask, [scene.segments[index].astype(np.int32)], -1, 255, cv2.FILLED)
    image = np.where(mask[:, ::-1, None] > 0, scene.image[:, ::-1], scene.image)
    return Scene(image, labels, segments)


def _hidden_share(cover: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return how much of each of (n, 4) ``boxes`` lies under the box ``cover`` (4,), 0..1."""
    shared = (np.minimum(cover[2:], boxes[:, 2:]) - np.maximum(cover[:2], boxes[:, :2])).clip(0).prod(1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(1) + 1e-16)


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
    if len(scene.labels) == 0:
        return Scene(image, scene.labels, [])
    boxes, segments, least = warp_boxes(scene.labels[:, 1:], matrix, output_hw), [], MIN_AREA_LEFT
    if len(scene.segments) == len(scene.labels):
        segments = [move_points(resample_polygon(segment), matrix) for segment in scene.segments]
        boxes, least = np.stack([polygon_box(segment, output_hw) for segment in segments]), MIN_AREA_LEFT_POLYGON
    keep = keep_boxes(scene.labels[:, 1:] * scale, boxes, least)
    labels = np.concatenate([scene.labels[keep, :1], boxes[keep]], 1).astype(np.float32)
    return Scene(image, labels, [segment for segment, kept in zip(segments, keep, strict=False) if kept])


def warp_image(image: np.ndarray, matrix: np.ndarray, output_hw: tuple[int, int]) -> np.ndarray:
    """Return (H, W, 3) ``image`` moved by ``matrix`` bilinearly, grey outside; ``image`` itself if nothing moves."""
    if image.shape[:2] == output_hw and np.array_equal(matrix, np.eye(3)):
        return image
    grey = (GREY, GREY, GREY)
    if matrix[2, 0] or matrix[2, 1]:
        return cv2.warpPerspective(image, matrix, output_hw[::-1], borderValue=grey)
    return cv2.warpAffine(image, matrix[:2], output_hw[::-1], borderValue=grey)


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


def draw_hsv_gains(strength: Augmentation, generator: Generator) -> np.ndarray:
    """Draw the factors (3,) for hue, saturation and value, around 1."""
    return generator.uniform(-1, 1, 3) * (strength.hsv_h, strength.hsv_s, strength.hsv_v) + 1


def hsv_tables(gains: np.ndarray) -> np.ndarray:
    """Return the (256, 3) uint8 look-up tables that multiply hue (modulo 180), saturation and value by ``gains``."""
    scaled = np.arange(256)[:, None] * gains
    scaled[:, 0] %= 180
    return scaled.clip(0, 255).astype(np.uint8)


def jitter_hsv(image: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) BGR ``image`` with hue, saturation and value multiplied by ``gains``."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hsv = cv2.LUT(hsv, hsv_tables(gains)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def flip_left_right(scene: Scene) -> Scene:
    """Mirror a scene left to right. Polygons are dropped: no later step uses them."""
    labels, width = scene.labels.copy(), scene.size_hw[1]
    labels[:, [1, 3]] = width - scene.labels[:, [3, 1]]
    return Scene(cv2.flip(scene.image, 1), labels, [])


def flip_up_down(scene: Scene) -> Scene:
    """Mirror a scene top to bottom. Polygons are dropped: no later step uses them."""
    labels, height = scene.labels.copy(), scene.size_hw[0]
    labels[:, [2, 4]] = height - scene.labels[:, [4, 2]]
    return Scene(cv2.flip(scene.image, 0), labels, [])
