"""Changes to training images that keep boxes, polygons and pixels together: pure functions of scenes and drawn numbers.

Whatever is random is drawn by a ``draw_*`` function from the generator it is given; the function that applies it takes
the drawn numbers. Formulas are those of YOLOv5 v6.1. Mosaics are in mosaic.py, movements in warp.py.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from utils.data.letterbox import with_channels
from utils.data.scene import Scene, join_objects
from utils.data.strength import Augmentation

HIDDEN_MOST = 0.30  # share of a box that a pasted object may hide
CUTOUT_SIDES = (0.5, *(0.25,) * 2, *(0.125,) * 4, *(0.0625,) * 8, *(0.03125,) * 16)  # fractions of the image's sides
CUTOUT_GREYS = (64, 191)
CUTOUT_SMALL = 0.03  # cutouts of at most this fraction leave all labels; v6.1's are all larger
CUTOUT_HIDDEN_MOST = 0.60  # an object hidden by this share or more is no longer there


def draw_mixup_ratio(generator: Generator) -> float:
    """Draw the weight of the first image (Beta(32, 32), as in v6.1; mixup is arXiv 1710.09412)."""
    return float(generator.beta(32.0, 32.0))


def mixup(first: Scene, second: Scene, ratio: float) -> Scene:
    """Lay two scenes of one size over each other; the labels of both stay."""
    image = (first.image * ratio + second.image * (1 - ratio)).astype(np.uint8)
    return Scene(image, *join_objects([first.labels, second.labels], [first.segments, second.segments]))


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
        if (_hidden_share(mirrored[1:], labels[:, 1:]) >= HIDDEN_MOST).any():
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
    """Mirror a scene left to right."""
    labels, width = scene.labels.copy(), scene.size_hw[1]
    labels[:, [1, 3]] = width - scene.labels[:, [3, 1]]
    mirrored = [segment * (-1, 1) + (width, 0) for segment in scene.segments]
    return Scene(with_channels(cv2.flip(scene.image, 1)), labels, mirrored)


def flip_up_down(scene: Scene) -> Scene:
    """Mirror a scene top to bottom."""
    labels, height = scene.labels.copy(), scene.size_hw[0]
    labels[:, [2, 4]] = height - scene.labels[:, [4, 2]]
    mirrored = [segment * (1, -1) + (0, height) for segment in scene.segments]
    return Scene(with_channels(cv2.flip(scene.image, 0)), labels, mirrored)


class Cut(NamedTuple):
    """A rectangle to be painted over: left, top, right, bottom in px, its colour, and its nominal share of a side."""

    box: tuple[int, int, int, int]
    colour: tuple[int, ...]
    share: float


def draw_cutout(size_hw: tuple[int, int], channels: int, generator: Generator) -> list[Cut]:
    """Draw the 31 rectangles of :func:`cutout`: one of up to half a side, two of a quarter, and so on (v6.1)."""
    height, width = size_hw
    cuts = []
    for share in CUTOUT_SIDES:
        cut_height, cut_width = (
            int(generator.integers(1, max(int(side * share), 1), endpoint=True)) for side in size_hw
        )
        left = max(0, int(generator.integers(width, endpoint=True)) - cut_width // 2)
        top = max(0, int(generator.integers(height, endpoint=True)) - cut_height // 2)
        colour = generator.integers(*CUTOUT_GREYS, channels, endpoint=True)
        box = (left, top, min(width, left + cut_width), min(height, top + cut_height))
        cuts.append(Cut(box, tuple(colour.tolist()), share))
    return cuts


def cutout(scene: Scene, cuts: Sequence[Cut]) -> Scene:
    """Paint rectangles over a scene; objects of which one of the larger ones hides 60 % or more go (v6.1).

    Source: arXiv 1708.04552.
    """
    image, keep = scene.image.copy(), np.ones(len(scene.labels), bool)
    for (left, top, right, bottom), colour, share in cuts:
        image[top:bottom, left:right] = colour
        if share > CUTOUT_SMALL:
            hidden = _hidden_share(np.array([left, top, right, bottom]), scene.labels[:, 1:])
            keep &= hidden < CUTOUT_HIDDEN_MOST
    segments = [segment for segment, kept in zip(scene.segments, keep, strict=False) if kept]
    return Scene(image, scene.labels[keep], segments)
