"""One picture of the built-in data set and what can be seen in it."""

from dataclasses import dataclass

import cv2
import numpy as np

from utils.data.shapes.geometry import (
    CLASS_SHAPES,
    DECOY_SHAPES,
    SOLID,
    SUBPIXEL_BITS,
    Contour,
    Sprite,
    chance,
    cut_sprite,
    draw_int,
    pick,
    place,
    scribble,
)
from utils.data.shapes.paint import (
    apply_lens,
    apply_light,
    contrasting_colour,
    draw_background,
    fill_texture,
    near_colour,
)

SIZES_HW = ((416, 416), (416, 416), (320, 416), (416, 320), (352, 416), (416, 352))
LEAST_VISIBLE_PERCENT = 35
LEAST_SIDE = 5  # pixels
OUTLINE_FROM = 28  # smaller objects are always filled: their outline would be all there is
ROOMY_SIZES = (8, 16, 16, 32, 32, 32, 32, 64, 64, 64, 64, 128)  # lower ends of the octaves drawn from
CROWDED_SIZES = (8, 16, 16, 16, 32, 32, 32, 64)

_MAKERS = tuple(CLASS_SHAPES.values())


@dataclass(frozen=True)
class Scene:
    """A picture with its truth.

    Attributes:
        image: (h, w, 3) uint8, BGR.
        classes: (n,) int64 indices into ``CLASS_SHAPES``.
        boxes: (n, 4) int64 xyxy pixels around what is visible of each object; right and bottom are exclusive.
        numbers: (n,) int64 number of each labelled object in ``owner``.
        owner: (h, w) int16 number of the object seen at each pixel; 0 is none.
    """

    image: np.ndarray
    classes: np.ndarray
    boxes: np.ndarray
    numbers: np.ndarray
    owner: np.ndarray

    def labels(self) -> np.ndarray:
        """Return (n, 5) float64 rows class, centre x, centre y, width, height, the last four in 0..1."""
        height, width = self.owner.shape
        centres = (self.boxes[:, :2] + self.boxes[:, 2:]) / (2 * width, 2 * height)
        sides = (self.boxes[:, 2:] - self.boxes[:, :2]) / (width, height)
        return np.concatenate([self.classes[:, None], centres, sides], 1)


class Canvas:
    """A picture being painted, which remembers whose paint is on top."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image  # (h, w, 3) uint8
        self.owner: np.ndarray = np.zeros(image.shape[:2], np.int16)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.owner.shape
        return height, width

    def paint(self, sprite: Sprite, texture: np.ndarray, number: int) -> None:
        """Lay (h, w, 3) uint8 ``texture`` through the mask and sign the covered pixels with ``number``."""
        there, here = sprite.window(self.size_hw)
        coverage = sprite.mask[here].astype(np.uint16)
        blended = self.image[there] * (255 - coverage[..., None]) + texture[here] * coverage[..., None]
        self.image[there] = (blended + 127) // 255
        self.owner[there][sprite.mask[here] >= SOLID] = number

    def cast_shadow(self, sprite: Sprite, shift: int) -> None:
        """Darken what lies under the sprite, ``shift`` pixels to its right and below."""
        fallen = Sprite(sprite.left + shift, sprite.top + shift, cv2.blur(sprite.mask, (5, 5)))
        there, here = fallen.window(self.size_hw)
        remaining = 255 - fallen.mask[here].astype(np.uint16) // 2
        self.image[there] = self.image[there] * remaining[..., None] // 255

    def mean_colour(self, sprite: Sprite) -> np.ndarray:
        """Return the (3,) int64 average colour around the sprite, from every fourth pixel."""
        there, _ = sprite.window(self.size_hw)
        sample = self.image[there][::4, ::4].reshape(-1, 3)
        return sample.sum(0, dtype=np.int64) // max(len(sample), 1)

    def visible_box(self, sprite: Sprite, number: int) -> tuple[int, tuple[int, int, int, int]]:
        """Return how many pixels signed ``number`` are left within the sprite, and the xyxy box around them."""
        (rows, columns), _ = sprite.window(self.size_hw)
        seen = (self.owner[rows, columns] == number).view(np.uint8)
        left, top, width, height = cv2.boundingRect(seen)
        left, top = left + columns.start, top + rows.start
        return cv2.countNonZero(seen), (left, top, left + width, top + height)


def compose_scene(rng: np.random.Generator) -> Scene:
    """Make one scene: a ground, then objects and distractors in random order, then light and lens."""
    canvas = Canvas(draw_background(rng, pick(rng, SIZES_HW)))
    object_count, distractor_count, sizes = _plan(rng)
    is_object = rng.permutation([True] * object_count + [False] * distractor_count)
    shadow_shift = pick(rng, (0, 0, 2, 4))
    drawn: list[tuple[int, Sprite]] = []  # class and mask; an object's number is its place in the list plus one
    taken: list[np.ndarray] = []
    for wanted in is_object:
        if not wanted and chance(rng, 50):
            _add_stroke(rng, canvas)
            continue
        kind = draw_int(rng, 0, len(_MAKERS) - 1)
        maker = _MAKERS[kind] if wanted else pick(rng, DECOY_SHAPES)
        contour = _find_place(rng, maker(rng), _draw_size(rng, sizes, canvas), canvas.size_hw, taken)
        if contour is None:
            continue
        sprite = _add_shape(rng, canvas, contour, len(drawn) + 1 if wanted else 0, shadow_shift)
        if wanted:
            drawn.append((kind, sprite))
    classes, boxes, numbers = _what_is_seen(canvas, drawn)
    return Scene(apply_lens(rng, apply_light(rng, canvas.image)), classes, boxes, numbers, canvas.owner)


def _plan(rng: np.random.Generator) -> tuple[int, int, tuple[int, ...]]:
    """Return how many objects and distractors a scene gets and the sizes they are drawn from."""
    distractors = draw_int(rng, 0, 14)
    roll = draw_int(rng, 0, 99)
    if roll < 6:
        return 0, distractors, ROOMY_SIZES
    if roll < 18:
        return draw_int(rng, 20, 40), distractors, CROWDED_SIZES
    return draw_int(rng, 1, 12), distractors, ROOMY_SIZES


def _draw_size(rng: np.random.Generator, sizes: tuple[int, ...], canvas: Canvas) -> int:
    octave = pick(rng, sizes)
    return min(octave + draw_int(rng, 0, octave - 1), min(canvas.size_hw) // 2)


def _find_place(
    rng: np.random.Generator, points: Contour, size: int, size_hw: tuple[int, int], taken: list[np.ndarray]
) -> Contour | None:
    """Turn and place a contour where it does not crowd the boxes ``taken``, and add its own; None when none is found.

    How much of the smaller box may be covered is drawn anew each time, so that some scenes overlap and others do not.
    """
    degrees, tolerance = draw_int(rng, 0, 359), pick(rng, (0, 5, 20, 40, 60))
    inset = -size // 5 if chance(rng, 12) else size // 2 + 1  # the first may be cut by the image's edge
    height, width = size_hw
    turned = place(points, degrees, size, (0, 0)) >> SUBPIXEL_BITS
    extent = np.concatenate([turned.min(0), turned.max(0)])  # xyxy pixels about the centre
    for _ in range(15):
        x, y = draw_int(rng, inset, width - 1 - inset), draw_int(rng, inset, height - 1 - inset)
        box = extent + np.array([x, y, x, y])
        if all(_overlap_percent(box, other) <= tolerance for other in taken):
            taken.append(box)
            return place(points, degrees, size, (x, y))
    return None


def _overlap_percent(box: np.ndarray, other: np.ndarray) -> int:
    """Return which part of the smaller of two xyxy boxes the other covers, in whole percent."""
    left, top, right, bottom = box.tolist()
    other_left, other_top, other_right, other_bottom = other.tolist()
    width = min(right, other_right) - max(left, other_left)
    height = min(bottom, other_bottom) - max(top, other_top)
    if width <= 0 or height <= 0:
        return 0
    smaller = min((right - left) * (bottom - top), (other_right - other_left) * (other_bottom - other_top))
    return 100 * width * height // max(smaller, 1)


def _add_shape(rng: np.random.Generator, canvas: Canvas, contour: Contour, number: int, shadow_shift: int) -> Sprite:
    """Paint a filled, bordered or outlined shape and return the mask of all its paint."""
    size = int((contour.max(0) - contour.min(0)).max()) >> SUBPIXEL_BITS
    style = draw_int(rng, 0, 9) if size >= OUTLINE_FROM else 9
    stroke = draw_int(rng, 2, max(2, size // 14)) if style < 4 else 0
    sprite = cut_sprite(contour, stroke, filled=style >= 2)
    if shadow_shift and size >= OUTLINE_FROM:
        canvas.cast_shadow(sprite, shadow_shift)
    colour = contrasting_colour(rng, canvas.mean_colour(sprite), pick(rng, (60, 100, 160, 220)))
    canvas.paint(sprite, fill_texture(rng, sprite.mask.shape, colour), number)
    if style in (2, 3):
        border = cut_sprite(contour, stroke, filled=False)
        canvas.paint(border, fill_texture(rng, border.mask.shape, near_colour(rng, colour, 120)), number)
    return sprite


def _add_stroke(rng: np.random.Generator, canvas: Canvas) -> None:
    """Paint a line or scribble over whatever is there."""
    height, width = canvas.size_hw
    size = draw_int(rng, 20, 90) if chance(rng, 65) else draw_int(rng, 90, 360)
    centre = draw_int(rng, 0, width - 1), draw_int(rng, 0, height - 1)
    contour = place(scribble(rng), draw_int(rng, 0, 359), size, centre)
    sprite = cut_sprite(contour, draw_int(rng, 1, 6), filled=False, closed=False)
    colour = contrasting_colour(rng, canvas.mean_colour(sprite), 80)
    texture = np.broadcast_to(colour.astype(np.uint8), (*sprite.mask.shape, 3))
    canvas.paint(sprite, texture, 0)


def _what_is_seen(canvas: Canvas, drawn: list[tuple[int, Sprite]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return classes (n,), boxes (n, 4) and numbers (n,) of the objects that enough is left of to be labelled."""
    rows = []
    for number, (kind, sprite) in enumerate(drawn, start=1):
        visible, box = canvas.visible_box(sprite, number)
        shorter = min(box[2] - box[0], box[3] - box[1])
        if visible * 100 >= sprite.area * LEAST_VISIBLE_PERCENT and shorter >= LEAST_SIDE:
            rows.append((kind, *box, number))
    table = np.array(rows, np.int64).reshape(-1, 6)
    return table[:, 0], table[:, 1:5], table[:, 5]
