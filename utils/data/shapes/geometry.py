"""Contours in whole numbers and the masks they fill.

Nothing here depends on a machine's floating point: angles are whole degrees looked up in a table, lengths are integers
on a circle of radius ``UNIT``, and OpenCV draws in 1/16 pixel. The same seed therefore gives the same picture on any
machine with the same OpenCV and NumPy.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

UNIT = 1 << 14
SUBPIXEL_BITS = 4
SOLID = 128  # coverage from which a pixel counts as covered

Contour = np.ndarray  # (n, 2) int64 corners, x then y
ShapeMaker = Callable[[np.random.Generator], Contour]
Item = TypeVar("Item")

_COSINES = np.array([round(math.cos(math.radians(degrees)) * UNIT) for degrees in range(360)], np.int64)


def draw_int(rng: np.random.Generator, low: int, high: int) -> int:
    """Return a whole number from ``low`` to ``high``, both included."""
    return int(rng.integers(low, high + 1))


def chance(rng: np.random.Generator, percent: int) -> bool:
    """Return True in ``percent`` of 100 calls."""
    return int(rng.integers(100)) < percent


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """Return one of ``items``; list an item twice to double its odds."""
    return items[int(rng.integers(len(items)))]


def cosine(degrees: np.ndarray | int) -> np.ndarray:
    """Return ``UNIT`` times the cosine of whole degrees."""
    return _COSINES[np.asarray(degrees) % 360]


def sine(degrees: np.ndarray | int) -> np.ndarray:
    """Return ``UNIT`` times the sine of whole degrees."""
    return cosine(np.asarray(degrees) - 90)


def polar(degrees: np.ndarray, radii: np.ndarray | int = UNIT) -> Contour:
    """Return the (n, 2) points at these angles and radii."""
    return np.stack([cosine(degrees) * radii, sine(degrees) * radii], 1) // UNIT


def _stretch(points: Contour, percent: int) -> Contour:
    return points * (100, percent) // 100


def _regular(corners: int) -> Contour:
    return polar(np.arange(corners) * 360 // corners)


def _oval(percent: int) -> Contour:
    return _stretch(_regular(90), percent)


def _box(percent: int) -> Contour:
    return _stretch(np.array([(-UNIT, -UNIT), (UNIT, -UNIT), (UNIT, UNIT), (-UNIT, UNIT)]), percent)


def _star(points: int, inner_percent: int) -> Contour:
    corners = np.arange(2 * points)
    return polar(corners * 180 // points, np.where(corners % 2, UNIT * inner_percent // 100, UNIT))


def _arrowhead(rng: np.random.Generator) -> Contour:
    tip, right, left = _regular(3)
    notch = (right + left) // 2 + (tip - (right + left) // 2) * draw_int(rng, 20, 45) // 100
    return _stretch(np.stack([tip, right, notch, left]), draw_int(rng, 75, 130))


# Five pairs whose members are easily taken for each other.
CLASS_SHAPES: dict[str, ShapeMaker] = {
    "circle": lambda rng: _oval(100),
    "ellipse": lambda rng: _oval(draw_int(rng, 50, 80)),
    "square": lambda rng: _box(100),
    "rectangle": lambda rng: _box(draw_int(rng, 40, 75)),
    "triangle": lambda rng: _stretch(_regular(3), draw_int(rng, 75, 130)),
    "arrowhead": _arrowhead,
    "pentagon": lambda rng: _regular(5),
    "hexagon": lambda rng: _regular(6),
    "star5": lambda rng: _star(5, draw_int(rng, 38, 58)),
    "star6": lambda rng: _star(6, draw_int(rng, 42, 62)),
}


def _pie(rng: np.random.Generator) -> Contour:
    """Return a half disc, a quarter, or a disc with a bite."""
    degrees = np.arange(0, pick(rng, (90, 180, 180, 270)) + 1, 5)
    return np.concatenate([polar(degrees), [(0, 0)]])


def _crescent(rng: np.random.Generator) -> Contour:
    outer = polar(np.arange(60, 301, 5))
    return np.concatenate([outer, outer[::-1] * (draw_int(rng, -40, 60), 100) // 100])


def _cross(rng: np.random.Generator) -> Contour:
    arm = UNIT * draw_int(rng, 20, 45) // 100
    quarter = np.array([(arm, arm), (arm, UNIT), (-arm, UNIT)])  # the three corners of one arm
    turns = [quarter, quarter[:, ::-1] * (-1, 1), -quarter, quarter[:, ::-1] * (1, -1)]
    return np.concatenate(turns)


def _trapezoid(rng: np.random.Generator) -> Contour:
    top, height = UNIT * draw_int(rng, 25, 55) // 100, UNIT * draw_int(rng, 40, 80) // 100
    return np.array([(-top, -height), (top, -height), (UNIT, height), (-UNIT, height)])


def blob(rng: np.random.Generator) -> Contour:
    """Return a jagged contour that is none of the classes: every third corner is pulled in, so it is never convex."""
    corners = draw_int(rng, 7, 13)
    degrees = np.arange(corners) * 360 // corners + rng.integers(0, 20, corners)
    percents = np.where(np.arange(corners) % 3, rng.integers(60, 101, corners), rng.integers(25, 55, corners))
    return polar(degrees, percents * UNIT // 100)


DECOY_SHAPES: tuple[ShapeMaker, ...] = (_pie, _crescent, _cross, _trapezoid, blob)


def scribble(rng: np.random.Generator) -> Contour:
    """Return an open stroke like a letter written in haste, or a plain line."""
    if chance(rng, 40):
        return np.array([(-UNIT, 0), (UNIT, 0)])
    return rng.integers(-UNIT, UNIT + 1, (draw_int(rng, 3, 6), 2))


def place(points: Contour, degrees: int, size: int, centre_xy: tuple[int, int]) -> Contour:
    """Turn a contour, scale its longer side to ``size`` pixels and centre its box on ``centre_xy`` (pixels).

    Returns:
        (n, 2) int64 corners in 1/16 pixel.
    """
    x, y = points[:, 0], points[:, 1]
    turned = np.stack([x * cosine(degrees) - y * sine(degrees), x * sine(degrees) + y * cosine(degrees)], 1) // UNIT
    low, high = turned.min(0), turned.max(0)
    extent = max(int((high - low).max()), 1)
    scaled = (turned - (low + high) // 2) * (size << SUBPIXEL_BITS) // extent
    return scaled + (np.array(centre_xy) << SUBPIXEL_BITS)


@dataclass(frozen=True)
class Sprite:
    """A small mask and where it lies in the image, possibly partly outside.

    Attributes:
        left: image column of the mask's first column.
        top: image row of the mask's first row.
        mask: (h, w) uint8 coverage; 255 is full.
    """

    left: int
    top: int
    mask: np.ndarray

    @property
    def area(self) -> int:
        """Covered pixels, those outside the image included."""
        return int(np.count_nonzero(self.mask >= SOLID))

    def window(self, size_hw: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the (rows, columns) of the image under the mask, and the same window in the mask."""
        height, width = self.mask.shape
        top, bottom = (min(max(row, 0), size_hw[0]) for row in (self.top, self.top + height))
        left, right = (min(max(column, 0), size_hw[1]) for column in (self.left, self.left + width))
        inside_mask = slice(top - self.top, bottom - self.top), slice(left - self.left, right - self.left)
        return (slice(top, bottom), slice(left, right)), inside_mask


def cut_sprite(points: Contour, stroke: int = 0, filled: bool = True, closed: bool = True) -> Sprite:
    """Draw a placed contour into the smallest mask that holds it.

    Args:
        points: (n, 2) corners in 1/16 pixel, from `place`.
        stroke: width in pixels of the line along the contour; 0 draws none.
        filled: whether the inside is covered.
        closed: whether the stroke returns to its first point.
    """
    margin = stroke + 2
    left, top = (int(value) for value in (points.min(0) >> SUBPIXEL_BITS) - margin)
    right, bottom = (int(value) for value in (points.max(0) >> SUBPIXEL_BITS) + margin + 1)
    mask = np.zeros((bottom - top, right - left), np.uint8)
    local = (points - np.array([left, top]) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    if filled:
        cv2.fillPoly(mask, [local], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    if stroke:
        cv2.polylines(mask, [local], closed, 255, stroke, cv2.LINE_AA, SUBPIXEL_BITS)
    return Sprite(left, top, mask)
