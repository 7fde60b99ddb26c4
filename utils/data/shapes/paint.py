"""Patterns, backgrounds, light and lens, on uint8 images and in integer arithmetic.

Of OpenCV's filters only those with the same result in every build are used: resizing by ``INTER_LINEAR_EXACT``, and box
blurs with odd sides, whose averages never end in .5 and so leave nothing to rounding.
"""

from collections.abc import Callable

import cv2
import numpy as np

from utils.data.shapes.geometry import (
    SUBPIXEL_BITS,
    UNIT,
    blob,
    chance,
    cosine,
    draw_int,
    pick,
    place,
    scribble,
    sine,
)

Colour = np.ndarray  # (3,) int64 in 0..255
SizeHW = tuple[int, int]
Pattern = Callable[[np.random.Generator, SizeHW], np.ndarray]


def _turned_axes(rng: np.random.Generator, size_hw: SizeHW) -> tuple[np.ndarray, np.ndarray]:
    """Return the (h, w) int32 coordinates, in pixels, of axes turned by a random angle."""
    degrees = draw_int(rng, 0, 359)
    x, y = np.arange(size_hw[1], dtype=np.int32), np.arange(size_hw[0], dtype=np.int32)[:, None]
    cos, sin = np.int32(cosine(degrees)), np.int32(sine(degrees))
    return (x * cos + y * sin) // np.int32(UNIT), (y * cos - x * sin) // np.int32(UNIT)


def _period(rng: np.random.Generator, size_hw: SizeHW) -> int:
    longest = max(size_hw)
    return draw_int(rng, min(4, longest), max(longest // 5, 6))


def _plain(rng: np.random.Generator, size_hw: SizeHW) -> np.ndarray:
    return np.zeros(size_hw, np.uint8)


def _gradient(rng: np.random.Generator, size_hw: SizeHW) -> np.ndarray:
    along, _ = _turned_axes(rng, size_hw)
    low, high = int(along.min()), int(along.max())
    return ((along - low) * 255 // max(high - low, 1)).astype(np.uint8)


def _stripes(rng: np.random.Generator, size_hw: SizeHW) -> np.ndarray:
    along, _ = _turned_axes(rng, size_hw)
    return (along // _period(rng, size_hw) % 2 * 255).astype(np.uint8)


def _waves(rng: np.random.Generator, size_hw: SizeHW) -> np.ndarray:
    along, _ = _turned_axes(rng, size_hw)
    period = 2 * _period(rng, size_hw)
    return (abs(along % period - period // 2) * 255 // (period // 2)).astype(np.uint8)


def _checker(rng: np.random.Generator, size_hw: SizeHW) -> np.ndarray:
    along, across = _turned_axes(rng, size_hw)
    period = _period(rng, size_hw)
    return ((along // period + across // period) % 2 * 255).astype(np.uint8)


def _dots(rng: np.random.Generator, size_hw: SizeHW) -> np.ndarray:
    along, across = _turned_axes(rng, size_hw)
    period = _period(rng, size_hw) + 2
    squared = (along % period - period // 2) ** 2 + (across % period - period // 2) ** 2
    return np.where(squared * 9 <= period * period, 255, 0).astype(np.uint8)


def _grain(rng: np.random.Generator, size_hw: SizeHW) -> np.ndarray:
    return rng.integers(0, 256, size_hw, np.uint8)


def _clouds(rng: np.random.Generator, size_hw: SizeHW) -> np.ndarray:
    """Return random grids of three spacings, enlarged and added: soft patches with finer ones inside."""
    height, width = size_hw
    spacing = draw_int(rng, 12, 90)
    total = np.zeros(size_hw, np.uint16)
    for weight in (4, 2, 1):
        coarse = rng.integers(0, 256, (height // spacing + 2, width // spacing + 2), np.uint8)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint16) * weight
        spacing = max(spacing // 3, 1)
    return (total // 7).astype(np.uint8)


FILL_PATTERNS: tuple[Pattern, ...] = (_plain, _plain, _gradient, _stripes, _waves, _checker, _dots, _grain, _clouds)
GROUND_PATTERNS: tuple[Pattern, ...] = (_clouds, _clouds, _clouds, _gradient, _stripes, _waves, _checker, _dots, _grain)


def random_colour(rng: np.random.Generator) -> Colour:
    """Return any colour."""
    return rng.integers(0, 256, 3)


def near_colour(rng: np.random.Generator, colour: Colour, spread: int) -> Colour:
    """Return a colour at most ``spread`` away in each channel."""
    return np.clip(colour + rng.integers(-spread, spread + 1, 3), 0, 255)


def contrasting_colour(rng: np.random.Generator, other: Colour, distance: int) -> Colour:
    """Return a colour whose channels differ from ``other``'s by at least ``distance`` (up to 380) in sum."""
    colour = random_colour(rng)
    while int(abs(colour - other).sum()) < distance:
        colour = random_colour(rng)
    return colour


def blend_colours(first: Colour, second: Colour, weight: np.ndarray) -> np.ndarray:
    """Return the (h, w, 3) uint8 picture that goes from ``first`` (weight 0) to ``second`` (weight 255)."""
    steps = np.arange(256)[:, None]
    ramp = (first * (255 - steps) + second * steps) // 255  # (256, 3)
    return ramp.astype(np.uint8)[weight]


def fill_texture(rng: np.random.Generator, size_hw: SizeHW, colour: Colour) -> np.ndarray:
    """Return (h, w, 3) uint8 paint in ``colour`` and a second one, in a random pattern."""
    second = near_colour(rng, colour, 60) if chance(rng, 60) else random_colour(rng)
    return blend_colours(colour, second, pick(rng, FILL_PATTERNS)(rng, size_hw))


def draw_background(rng: np.random.Generator, size_hw: SizeHW) -> np.ndarray:
    """Return a (h, w, 3) uint8 ground: one pattern, often clouded, often littered with patches and strokes."""
    colour = random_colour(rng)
    second = near_colour(rng, colour, pick(rng, (25, 50, 50, 110)))
    image = blend_colours(colour, second, pick(rng, GROUND_PATTERNS)(rng, size_hw))
    if chance(rng, 60):
        shade = _clouds(rng, size_hw).astype(np.uint16) // 2 + pick(rng, (96, 64, 32))  # 128 leaves a pixel as it is
        image = np.minimum(image * shade[..., None] >> 7, 255).astype(np.uint8)
    if chance(rng, 65):
        _litter(rng, image, colour)
    return image


def _litter(rng: np.random.Generator, image: np.ndarray, colour: Colour) -> None:
    """Draw patches and strokes on the ground, in colours near its own."""
    height, width = image.shape[:2]
    spread = pick(rng, (30, 60, 100))
    for _ in range(pick(rng, (6, 15, 30, 60))):
        stroke = chance(rng, 45)
        size = draw_int(rng, 10, 60) if chance(rng, 70) else draw_int(rng, 60, 300)
        centre = draw_int(rng, 0, width), draw_int(rng, 0, height)
        contour = place((scribble if stroke else blob)(rng), draw_int(rng, 0, 359), size, centre).astype(np.int32)
        paint = near_colour(rng, colour, spread).tolist()
        if stroke:
            cv2.polylines(image, [contour], False, paint, draw_int(rng, 1, 4), cv2.LINE_AA, SUBPIXEL_BITS)
        else:
            cv2.fillPoly(image, [contour], paint, cv2.LINE_AA, SUBPIXEL_BITS)


def apply_light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Return the image under uneven, tinted light, at times with a cast shadow."""
    size_hw = image.shape[:2]
    bright, dark = draw_int(rng, 110, 165), draw_int(rng, 50, 105)  # 128 leaves a pixel as it is
    light = dark + (bright - dark) * _gradient(rng, size_hw).astype(np.uint16) // 255
    if chance(rng, 30):
        shadow = np.zeros(size_hw, np.uint8)
        centre = draw_int(rng, 0, size_hw[1]), draw_int(rng, 0, size_hw[0])
        contour = place(blob(rng), draw_int(rng, 0, 359), draw_int(rng, 120, 400), centre).astype(np.int32)
        cv2.fillPoly(shadow, [contour], draw_int(rng, 60, 140), cv2.LINE_8, SUBPIXEL_BITS)
        light = light * (255 - cv2.blur(shadow, (9, 9)).astype(np.uint16)) // 255
    tint = rng.integers(112, 145, 3)
    table = np.minimum(np.arange(256)[:, None] * tint >> 7, 255).astype(np.uint8)  # (256, 3)
    tinted = cv2.LUT(image, table[None]).astype(np.uint16)
    return np.minimum(tinted * light.astype(np.uint16)[..., None] >> 7, 255).astype(np.uint8)


def apply_lens(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Return the image as a poor camera sees it: at times soft, shaken or coarse, mostly grainy."""
    blur = draw_int(rng, 0, 9)
    if blur < 3:
        side = pick(rng, (3, 3, 3, 5))
        image = cv2.blur(cv2.blur(image, (side, side)), (side, side))
    elif blur == 3:
        image = cv2.blur(image, pick(rng, ((7, 1), (1, 7), (5, 1), (1, 5))))
    elif blur == 4:
        height, width = image.shape[:2]
        small = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_LINEAR_EXACT)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    if chance(rng, 65):
        image = _add_noise(rng, image, pick(rng, (12, 24, 40, 64)))
    return image


def _add_noise(rng: np.random.Generator, image: np.ndarray, strength: int) -> np.ndarray:
    """Add noise of about 0.4 ``strength`` grey levels standard deviation: two dice, because normals need floats."""
    height, width = image.shape[:2]
    channels = pick(rng, (1, 3))
    dice = rng.integers(0, 256, (2, height, width, channels), np.uint8).astype(np.int16)
    noise = (dice[0] + dice[1] - 255) * np.int16(strength) >> 8
    return np.clip(image + noise, 0, 255).astype(np.uint8)
