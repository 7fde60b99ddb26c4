"""Boxes and polygons in pixels: checked, limited to the image, joined."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from utils.data.convert.records import Box, Thing, Unusable

NOISE = 0.01  # px; annotations are rounded, so what is clipped by less is no change worth a word
LEAST_FRACTION = 1e-6  # of the image; a narrower box would be written with width 0
CIRCLE_POINTS = 36
LEAST_POINTS = 3

CLIPPED = "reached beyond the image and were clipped"
POLYGON_OMITTED = "polygons left out (--boxes-only)"
POLYGON_FLAT = "polygons without area replaced by their boxes"


def numbers(values: Any, count: int) -> tuple[float, ...]:
    """Return ``values`` as ``count`` finite floats.

    Raises:
        Unusable: they are not.
    """
    try:
        array = np.asarray(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        array = np.empty(0)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise Unusable(f"not {count} numbers: {str(values)[:60]}")
    return tuple(array.tolist())


def corner_box(values: Any) -> Box:
    """Return ``[left, top, width, height]`` as corners; raise ``Unusable`` when it is none."""
    left, top, width, height = numbers(values, 4)
    return left, top, left + width, top + height


def polygon_of(values: Any) -> np.ndarray:
    """Return ``[x1, y1, x2, y2, ...]`` as (points, 2); raise ``Unusable`` for fewer than 3 points or no numbers."""
    try:
        flat = np.asarray(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        flat = np.empty(0)
    if flat.ndim != 1 or len(flat) % 2 or len(flat) < 2 * LEAST_POINTS or not np.isfinite(flat).all():
        raise Unusable("not a polygon of 3 or more points")
    return flat.reshape(-1, 2)


def circle(centre: Sequence[float], edge: Sequence[float]) -> np.ndarray:
    """Return the circle around ``centre`` through ``edge`` as a polygon with the same box."""
    radius = np.hypot(edge[0] - centre[0], edge[1] - centre[1])
    angles = np.arange(CIRCLE_POINTS) * (2 * np.pi / CIRCLE_POINTS)
    return np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], 1)


def join_polygons(parts: list[np.ndarray]) -> np.ndarray:
    """Return one polygon that covers all ``parts``, bridged without width where they are nearest to each other."""
    joined = parts[0]
    for part in parts[1:]:
        distances = ((joined[:, None] - part[None]) ** 2).sum(-1)  # (points of joined, points of part)
        here, there = np.unravel_index(distances.argmin(), distances.shape)
        joined = np.concatenate([joined[: here + 1], part[there:], part[: there + 1], joined[here:]])
    return joined


def extent(polygon: np.ndarray) -> Box:
    """Return the box around (points, 2)."""
    (left, top), (right, bottom) = polygon.min(0).tolist(), polygon.max(0).tolist()
    return left, top, right, bottom


def fit(thing: Thing, size_hw: tuple[int, int], boxes_only: bool) -> tuple[Thing, list[str]]:
    """Return ``thing`` limited to its image, and what was changed for it.

    Args:
        thing: with a box, a polygon or both; a polygon counts, unless it has no area or ``boxes_only``.
        size_hw: height and width of the image in px.
        boxes_only: leave a polygon out.

    Returns:
        thing: its box is set; its polygon is None when the box is what counts.
        changes: descriptions, for counting.

    Raises:
        Unusable: nothing of it is inside the image, or it has no area.
    """
    changes = []
    if thing.polygon is not None and boxes_only:
        changes.append(POLYGON_OMITTED)
    elif thing.polygon is not None:
        polygon = np.clip(thing.polygon, 0, (size_hw[1], size_hw[0]))
        if has_area(extent(polygon), size_hw):
            moved = np.abs(polygon - thing.polygon).max() > NOISE
            return replace(thing, polygon=polygon, box=extent(polygon)), [CLIPPED] if moved else []
        if thing.box is None:
            raise Unusable(_why_empty(extent(thing.polygon), size_hw))
        changes.append(POLYGON_FLAT)
    before = thing.box if thing.box is not None else extent(thing.polygon)  # type: ignore[arg-type]
    after = clip(before, size_hw)
    if not has_area(before, size_hw) or not has_area(after, size_hw):
        raise Unusable(_why_empty(before, size_hw))
    if max(abs(old - new) for old, new in zip(before, after, strict=True)) > NOISE:
        changes.append(CLIPPED)
    return replace(thing, polygon=None, box=after), changes


def unfitted(thing: Thing, boxes_only: bool) -> tuple[Thing, list[str]]:
    """Return ``thing`` as it is, wherever it reaches; without its polygon if ``boxes_only``; and what was changed."""
    if thing.polygon is None or not boxes_only:
        return thing, []
    return replace(thing, box=thing.box or extent(thing.polygon), polygon=None), [POLYGON_OMITTED]


def clip(box: Box, size_hw: tuple[int, int]) -> Box:
    """Return ``box`` limited to an image of ``size_hw`` px."""
    height, width = size_hw
    left, top, right, bottom = box
    return (
        min(max(left, 0.0), float(width)),
        min(max(top, 0.0), float(height)),
        min(max(right, 0.0), float(width)),
        min(max(bottom, 0.0), float(height)),
    )


def has_area(box: Box, size_hw: tuple[int, int]) -> bool:
    """Tell whether ``box`` is wide and high enough to be written as fractions of the image."""
    left, top, right, bottom = box
    return right - left > LEAST_FRACTION * size_hw[1] and bottom - top > LEAST_FRACTION * size_hw[0]


def _why_empty(box: Box, size_hw: tuple[int, int]) -> str:
    left, top, right, bottom = box
    if has_area(box, size_hw):
        corners = f"{left:g} {top:g} {right:g} {bottom:g}"
        return f"outside the image: {corners} in {size_hw[1]} x {size_hw[0]} px"
    return f"no area: {right - left:g} x {bottom - top:g} px"
