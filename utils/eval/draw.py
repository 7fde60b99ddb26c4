"""Boxes and names on images, and grids of images; no fonts are fetched and no window is opened."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.channels import displayable, swap_red_and_blue
from utils.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

Colour = tuple[int, int, int]  # blue, green, red in 0..255

_PALETTE_HEX = (
    "E6194B 1E88E5 2EAD4B F58231 8E3CCB 00A9B5 E83FB8 9BC31C B0542A 3F51D5 "
    "F2B705 17805F FF7C8F 5C8DB0 7A2048 6FD3C4 B39DFF 8A7A1F C94F7C 4B5563"
)
PALETTE: tuple[Colour, ...] = tuple(
    (int(code[4:], 16), int(code[2:4], 16), int(code[:2], 16)) for code in _PALETTE_HEX.split()
)
TITLE_LENGTH = 40  # characters of a file name shown in a grid
GRID_IMAGES = 16
GRID_SIDE = 1920  # px


def class_colour(index: int) -> Colour:
    """Return the colour of a class; the 20 colours repeat."""
    return PALETTE[index % len(PALETTE)]


def default_line_width(image: np.ndarray) -> int:
    """Return v6.1's box line width in px for an (H, W, C) image."""
    return max(round(sum(image.shape) / 2 * 0.003), 2)


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[str],
    colours: Sequence[Colour],
    line_width: int | None = None,
) -> np.ndarray:
    """Return a picture of ``image`` with boxes and their labels; later boxes lie on top.

    Args:
        image: (H, W, C) uint8; three channels are BGR.
        boxes: (n, 4) left, top, right, bottom in px.
        labels: n texts, in any script that DejaVu Sans covers; an empty text draws the box only.
        colours: n colours.
        line_width: px; follows from the image size when None.

    Returns:
        (H, W, 3) uint8 BGR, a copy.
    """
    image = np.array(displayable(image), order="C")
    width = line_width or default_line_width(image)
    for box, label, colour in zip(np.asarray(boxes).round().astype(int).tolist(), labels, colours, strict=True):
        left, top, right, bottom = box
        cv2.rectangle(image, (left, top), (right, bottom), colour, width)
        if label:
            patch = text_patch(label, colour, width)
            above = top - len(patch) >= 0
            _paste(image, patch, left - width // 2, top - len(patch) if above else top)
    return image


def _paste(image: np.ndarray, patch: np.ndarray, left: int, top: int) -> None:
    """Copy ``patch`` into ``image``, moved left or right to stay inside and cut where it does not fit."""
    left = max(0, min(left, image.shape[1] - patch.shape[1]))
    top = max(0, top)
    target = image[top : top + patch.shape[0], left : left + patch.shape[1]]
    target[:] = patch[: target.shape[0], : target.shape[1]]


def text_patch(text: str, background: Colour, line_width: int) -> np.ndarray:
    """Return ``text`` on a (h, w, 3) uint8 BGR rectangle as at a box of ``line_width`` px; ink black or white."""
    blue, green, red = background
    ink: Colour = (0, 0, 0) if 0.114 * blue + 0.587 * green + 0.299 * red > 150 else (255, 255, 255)
    render = _hershey_patch if text.isascii() else _truetype_patch
    return render(text, background, ink, line_width)


def _hershey_patch(text: str, background: Colour, ink: Colour, line_width: int) -> np.ndarray:
    scale, weight, margin = line_width / 3, max(line_width - 1, 1), line_width + 1
    (width, height), descent = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    patch = np.full((height + descent + margin, width + 2 * margin, 3), background, np.uint8)
    origin = (margin, height + margin // 2)
    cv2.putText(patch, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, weight, cv2.LINE_AA)
    return patch


def _truetype_patch(text: str, background: Colour, ink: Colour, line_width: int) -> np.ndarray:
    font, margin = _font(max(10, line_width * 9)), line_width + 1
    _, _, width, height = font.getbbox(text)
    picture = Image.new("RGB", (math.ceil(width) + 2 * margin, math.ceil(height) + 2 * margin), background)
    ImageDraw.Draw(picture).text((margin, margin // 2), text, fill=ink, font=font)
    return np.asarray(picture)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Load the font that matplotlib ships, so that nothing has to be downloaded."""
    import matplotlib  # most labels do not need it, and it takes a while

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write an image, atomically and to any path (OpenCV's own writer balks at some on Windows).

    Args:
        path: ``.jpg`` or ``.png`` file.
        image: (H, W, C) uint8; three channels are BGR, of others ``displayable`` ones are written.
    """
    encoded = cv2.imencode(path.suffix, displayable(image))[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def plot_batch(
    images: "Tensor",
    detections: "Sequence[Tensor]",
    names: Mapping[int, str] | None = None,
    paths: Sequence[str] = (),
    show_scores: bool = True,
) -> np.ndarray:
    """Return a picture of up to 16 images of a batch in a square grid, filled column by column.

    Args:
        images: (B, C, H, W) uint8; three channels are RGB.
        detections: B tensors (n, 6) left, top, right, bottom in px of ``images``, score, class.
        names: class names; class numbers are shown when None.
        paths: B image files, whose names become titles.
        show_scores: append the score, with one decimal, to each name.

    Returns:
        (rows, columns, 3) uint8 BGR, at most 1920 px a side.
    """
    count, _, height, width = images[:GRID_IMAGES].shape
    side = math.ceil(math.sqrt(count))
    scale = min(1.0, GRID_SIDE / (side * max(height, width)))
    height, width = int(height * scale), int(width * scale)
    canvas = np.full((side * height, side * width, 3), 255, np.uint8)
    for index in range(count):
        column, row = divmod(index, side)
        picture = images[index].cpu().permute(1, 2, 0).contiguous().numpy()  # (H, W, C)
        picture = np.ascontiguousarray(displayable(swap_red_and_blue(picture)))  # (H, W, 3) BGR
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        picture = _draw_tile(picture, detections[index].cpu().numpy(), scale, names, show_scores)
        if index < len(paths):
            title = text_patch(Path(paths[index]).name[:TITLE_LENGTH], (60, 60, 60), 2)
            _paste(picture, title, 1, height - len(title) - 1)  # at the bottom, where no label is
        cv2.rectangle(picture, (0, 0), (width - 1, height - 1), (255, 255, 255), 1)
        canvas[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
    return canvas


def _draw_tile(
    picture: np.ndarray, objects: np.ndarray, scale: float, names: Mapping[int, str] | None, show_scores: bool
) -> np.ndarray:
    classes = objects[:, 5].astype(int).tolist()
    labels = [str(names[index]) if names else str(index) for index in classes]
    if show_scores:
        labels = [f"{label} {score:.1f}" for label, score in zip(labels, objects[:, 4], strict=True)]
    return draw_detections(picture, objects[:, :4] * scale, labels, [class_colour(index) for index in classes], 2)


def plot_targets(
    images: "Tensor", targets: "Tensor", names: Mapping[int, str] | None = None, paths: Sequence[str] = ()
) -> np.ndarray:
    """Return the grid of `plot_batch` with the ground truth.

    Args:
        images: (B, C, H, W) uint8; three channels are RGB.
        targets: (n, 6) image index, class, centre x, y, width, height in 0..1 of the input.
        names: class names; class numbers are shown when None.
        paths: B image files.
    """
    from utils.eval.metrics import labels_per_image  # with torch

    labels = labels_per_image(targets, len(images), (images.shape[2], images.shape[3]))
    as_detections = [label[:, [1, 2, 3, 4, 0, 0]] for label in labels]
    return plot_batch(images, as_detections, names, paths, show_scores=False)
