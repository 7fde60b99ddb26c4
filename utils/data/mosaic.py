"""Mosaics: several images on one canvas, of which only what will be seen is ever painted.

YOLOv5 v6.1 fills a canvas of twice the image size and then moves and crops it. Here the places and objects are computed
first, without pixels; a tile is drawn straight into the final image, or not decoded at all if it does not show. Places
and objects are exactly those of v6.1, pixels differ where it resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from utils.data.letterbox import with_channels
from utils.data.scene import GREY, Scene, join_objects
from utils.data.warp import has_perspective, move_points, warp_image, warp_objects

SUBPIXEL_BITS = 4  # of polygon corners


@dataclass(frozen=True)
class Tile:
    """An image, decoded when asked for, and what is on it.

    Attributes:
        size_hw: height and width, px.
        labels: (n, 5) float32 class, left, top, right, bottom; px.
        segments: n polygons (points, 2) px x, y; or none.
        picture: returns the (H, W, C) uint8 image, which is not to be changed.
    """

    size_hw: tuple[int, int]
    labels: np.ndarray
    segments: list[np.ndarray]
    picture: Callable[[], np.ndarray]


class Place(NamedTuple):
    """Where a tile lies on a canvas, px.

    ``origin_xy`` is its top left corner, which may lie outside; ``visible`` left, top, right, bottom of the part that
    the canvas shows.
    """

    tile: Tile
    origin_xy: tuple[int, int]
    visible: tuple[int, int, int, int]


@dataclass(frozen=True)
class Collage:
    """Tiles on a grey canvas that exists only as far as it is looked at.

    Attributes:
        size: both sides of the canvas, px.
        channels: of every tile.
        places: the tiles, in the order they are laid down.
        labels: (n, 5) float32 class, left, top, right, bottom; px of the canvas, clipped to it.
        segments: n polygons (points, 2) px, clipped likewise; none unless every object has one.
    """

    size: int
    channels: int
    places: list[Place]
    labels: np.ndarray
    segments: list[np.ndarray]

    def scene(self) -> Scene:
        """Return the whole canvas."""
        return Scene(self._paint(np.eye(3), (self.size, self.size)), self.labels, self.segments)

    def warp(self, matrix: np.ndarray, output_hw: tuple[int, int], scale: float) -> Scene:
        """Return what :func:`utils.data.warp.warp` makes of the whole canvas, but paint only that."""
        if has_perspective(matrix):  # tiles may turn inside out
            image = warp_image(self.scene().image, matrix, output_hw)
        else:
            image = self._paint(matrix, output_hw)
        return Scene(image, *warp_objects(self.labels, self.segments, matrix, output_hw, scale))

    def _paint(self, matrix: np.ndarray, output_hw: tuple[int, int]) -> np.ndarray:
        image = np.full((*output_hw, self.channels), GREY, np.uint8)
        for place in self.places:
            _draw(image, place, matrix)
        return image


def _draw(image: np.ndarray, place: Place, matrix: np.ndarray) -> None:
    """Draw the visible part of a tile onto ``image``, into which an affine (3, 3) ``matrix`` leads from the canvas."""
    left, top, right, bottom = (side - 0.5 for side in place.visible)  # a pixel reaches half around its centre
    corners = move_points(np.array([[left, top], [right, top], [right, bottom], [left, bottom]]), matrix)
    # The pixels whose centres lie within: neighbours neither overlap nor leave a gap.
    limit_xy = np.array(image.shape[1::-1])
    (left, top), (right, bottom) = (
        np.ceil(ends).clip(0, limit_xy).astype(int) for ends in (corners.min(0), corners.max(0))
    )
    if left >= right or top >= bottom:
        return
    window = image[top:bottom, left:right]
    picture, to_window = place.tile.picture(), matrix[:2].copy()
    to_window[:, 2] += matrix[:2, :2] @ place.origin_xy - (left, top)
    moved = with_channels(
        cv2.warpAffine(picture, to_window, (right - left, bottom - top), borderMode=cv2.BORDER_REPLICATE)
    )
    if matrix[0, 1] == matrix[1, 0] == 0:
        window[:] = moved
        return
    mask = np.zeros(window.shape[:2], np.uint8)
    fixed_point = np.rint((corners - (left, top)) * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed_point, 1, shift=SUBPIXEL_BITS)
    window[mask > 0] = moved[mask > 0]


def draw_mosaic_centre(size: int, generator: Generator) -> tuple[int, int]:
    """Draw x, y of the corner where four tiles of ``size`` px meet on a canvas twice as large."""
    y, x = (int(generator.uniform(size / 2, 3 * size / 2)) for _ in range(2))
    return x, y


def mosaic4(tiles: Sequence[Tile], centre_xy: tuple[int, int], size: int, channels: int = 3) -> Collage:
    """Join four tiles at ``centre_xy`` of a canvas of 2 ``size`` x 2 ``size`` px.

    Args:
        tiles: top left, top right, bottom left, bottom right.
        centre_xy: the corner they share, px.
        size: long side of the tiles, px.
        channels: of the tiles.
    """
    x, y = centre_xy
    origins = []
    for number, tile in enumerate(tiles):
        height, width = tile.size_hw
        origins.append((x if number % 2 else x - width, y if number >= 2 else y - height))
    return _collage(tiles, origins, 2 * size, channels)


def draw_mosaic9_offset(size: int, generator: Generator) -> tuple[int, int]:
    """Draw x, y of the part that is kept of a canvas three times ``size`` px."""
    x, y = (int(generator.uniform(0, size)) for _ in range(2))
    return x, y


def mosaic9(tiles: Sequence[Tile], offset_xy: tuple[int, int], size: int, channels: int = 3) -> Collage:
    """Lay eight tiles around the first one and keep 2 ``size`` x 2 ``size`` px of it all, from ``offset_xy`` on (v6.1).

    Args:
        tiles: centre, top, top right, right, bottom right, bottom, bottom left, left, top left.
        offset_xy: where the kept part begins, px; the centre tile's top left corner is at (``size``, ``size``).
        size: long side of the tiles, px.
        channels: of the tiles.
    """
    centre_height, centre_width = tiles[0].size_hw
    end_x, end_y = size + centre_width, size + centre_height  # where the centre tile ends
    origins = []
    before_height = before_width = 0
    for number, tile in enumerate(tiles):
        height, width = tile.size_hw
        origins.append(
            (
                (size, size),
                (size, size - height),
                (size + before_width, size - height),
                (end_x, size),
                (end_x, size + before_height),
                (end_x - width, end_y),
                (end_x - before_width - width, end_y),
                (size - width, end_y - height),
                (size - width, end_y - before_height - height),
            )[number]
        )
        before_height, before_width = height, width
    offset_x, offset_y = offset_xy
    return _collage(tiles, [(x - offset_x, y - offset_y) for x, y in origins], 2 * size, channels)


def _collage(tiles: Sequence[Tile], origins: Sequence[tuple[int, int]], size: int, channels: int) -> Collage:
    """Lay each tile down at its origin on a canvas of ``size`` x ``size`` px."""
    places, labels, segments = [], [], []
    for tile, (x, y) in zip(tiles, origins, strict=True):
        height, width = tile.size_hw
        left, top, right, bottom = visible = (max(x, 0), max(y, 0), min(x + width, size), min(y + height, size))
        if left < right and top < bottom:
            places.append(Place(tile, (x, y), visible))
        moved = tile.labels.copy()
        moved[:, 1:] += (x, y, x, y)
        labels.append(moved)
        segments.append([(segment + np.array([x, y], np.float32)).clip(0, size) for segment in tile.segments])
    joined, polygons = join_objects(labels, segments)
    joined[:, 1:].clip(0, size, out=joined[:, 1:])
    return Collage(size, channels, places, joined, polygons)
