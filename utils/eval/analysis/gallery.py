"""Galleries of what went wrong: up to twelve images with what is right, wrong and missed in colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.data.pixels import read_image
from utils.errors import UserError
from utils.eval.analysis.analyse import Analysis
from utils.eval.analysis.errors import KINDS, RIGHT
from utils.eval.draw import Colour, draw_detections, text_patch
from utils.eval.findings import Findings

TILE = 440  # px, longest side of an image
COLUMNS = 4
GAP = 8
TITLE_LENGTH = 44  # characters
RIGHT_COLOUR: Colour = (115, 158, 0)  # blue, green, red; three colours that colour-blind people tell apart
WRONG_COLOUR: Colour = (0, 60, 230)
MISSED_COLOUR: Colour = (40, 220, 250)
LABEL_COLOUR: Colour = (200, 120, 0)
LEGEND = {"right": RIGHT_COLOUR, "wrong": WRONG_COLOUR, "missed": MISSED_COLOUR}
PAPER: Colour = (255, 255, 255)
INK: Colour = (60, 60, 60)


@dataclass(frozen=True)
class _Tile:
    """What to show of one image: ``view`` of it (left, top, right, bottom in px) with ``boxes`` (n, 4) in px."""

    image: int
    view: tuple[int, int, int, int]
    boxes: np.ndarray
    labels: list[str]
    colours: list[Colour]
    title: str


def worst_false_positives(analysis: Analysis, findings: Findings) -> np.ndarray | None:
    """Return a gallery of the images with most wrong detections, (H, W, 3) BGR; None if there are none to show."""
    entries = analysis.worst.false_positives
    tiles = [_whole_image(analysis, findings, image, f"{count} wrong", WRONG_COLOUR) for image, count in entries]
    return _gallery(findings, tiles, f"Most false positives at confidence {analysis.confidence:.2f}")


def worst_misses(analysis: Analysis, findings: Findings) -> np.ndarray | None:
    """Return a gallery of the images with most labels that were not found; None if there are none to show."""
    entries = analysis.worst.misses
    tiles = [_whole_image(analysis, findings, image, f"{count} missed", MISSED_COLOUR) for image, count in entries]
    return _gallery(findings, tiles, f"Most misses at confidence {analysis.confidence:.2f}")


def confident_mistakes(analysis: Analysis, findings: Findings) -> np.ndarray | None:
    """Return a gallery of the wrong detections that were most confident, each with its surroundings."""
    tiles = [_around(analysis, findings, index) for index in analysis.worst.mistakes]
    return _gallery(findings, tiles, "Most confident mistakes", {"wrong": WRONG_COLOUR, "label": LABEL_COLOUR})


def _whole_image(analysis: Analysis, findings: Findings, image: int, what: str, named: Colour) -> _Tile:
    """Show all of an image, with names at the boxes of colour ``named`` only: those of all would hide it."""
    height, width = (int(side) for side in findings.sizes_hw[image])
    boxes, labels, colours = _objects(analysis, findings, image)
    labels = [label if colour == named else "" for label, colour in zip(labels, colours, strict=True)]
    on_top = sorted(range(len(labels)), key=lambda index: colours[index] == named)
    return _Tile(
        image,
        (0, 0, width, height),
        boxes[on_top],
        [labels[index] for index in on_top],
        [colours[index] for index in on_top],
        f"{Path(findings.paths[image]).name}: {what}",
    )


def _objects(analysis: Analysis, findings: Findings, image: int) -> tuple[np.ndarray, list[str], list[Colour]]:
    """Return boxes, texts and colours of an image: right detections, labels that were missed, wrong detections."""
    diagnosis = analysis.errors.diagnosis
    rows, columns = findings.detections_of(image), findings.labels_of(image)
    shown = findings.scores[rows] >= analysis.confidence
    right = rows.start + np.flatnonzero(shown & (diagnosis.kinds[rows] == RIGHT))
    wrong = rows.start + np.flatnonzero(shown & (diagnosis.kinds[rows] != RIGHT))[::-1]  # best on top
    missed = np.setdiff1d(np.arange(columns.start, columns.stop), diagnosis.labels[right])
    boxes = np.concatenate([findings.boxes[right], findings.label_boxes[missed], findings.boxes[wrong]])
    labels = [""] * len(right) + [findings.names[int(index)] for index in findings.label_classes[missed]]
    labels += [_scored_name(findings, int(index)) for index in wrong]
    colours = [RIGHT_COLOUR] * len(right) + [MISSED_COLOUR] * len(missed) + [WRONG_COLOUR] * len(wrong)
    return boxes, labels, colours


def _scored_name(findings: Findings, index: int) -> str:
    return f"{findings.names[int(findings.classes[index])]} {findings.scores[index]:.2f}"


def _around(analysis: Analysis, findings: Findings, index: int) -> _Tile:
    """Show one wrong detection and the labels around it."""
    image = int(findings.detection_image[index])
    box, truth = findings.boxes[index], findings.label_boxes[findings.labels_of(image)]
    touched = (truth[:, :2] < box[2:]).all(1) & (truth[:, 2:] > box[:2]).all(1)
    names = [findings.names[int(one)] for one in findings.label_classes[findings.labels_of(image)]]
    kind = KINDS[int(analysis.errors.diagnosis.kinds[index]) - 1]
    return _Tile(
        image,
        _surroundings(box, findings.sizes_hw[image]),
        np.concatenate([truth, box[None]]),
        [name if near else "" for name, near in zip(names, touched, strict=True)] + [_scored_name(findings, index)],
        [LABEL_COLOUR] * len(names) + [WRONG_COLOUR],
        f"{Path(findings.paths[image]).name}: {kind}",
    )


def _surroundings(box: np.ndarray, size_hw: np.ndarray) -> tuple[int, int, int, int]:
    """Return a part of the image around a box, with a margin of half the box, at least 60 px a side if there are."""
    height, width = (int(side) for side in size_hw)
    margin = max(float(max(box[2] - box[0], box[3] - box[1])) / 2, 30)
    left, top = max(int(box[0] - margin), 0), max(int(box[1] - margin), 0)
    return left, top, min(int(box[2] + margin) + 1, width), min(int(box[3] + margin) + 1, height)


def _gallery(
    findings: Findings, tiles: Sequence[_Tile], title: str, legend: Mapping[str, Colour] = LEGEND
) -> np.ndarray | None:
    """Put tiles side by side, row after row, below a title; those whose image cannot be read are left out."""
    pictures = [picture for picture in (_draw(findings, tile) for tile in tiles) if picture is not None]
    if not pictures:
        return None
    columns = min(COLUMNS, len(pictures))
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    head = _head(title, legend, columns * (TILE + GAP) + GAP)
    parts = [head]
    for row in rows:
        height = max(picture.shape[0] for picture in row)
        band = np.full((height + GAP, head.shape[1], 3), PAPER, np.uint8)
        for index, picture in enumerate(row):
            left = GAP + index * (TILE + GAP)
            band[: picture.shape[0], left : left + TILE] = picture
        parts.append(band)
    return np.concatenate(parts)


def _head(title: str, legend: Mapping[str, Colour], width: int) -> np.ndarray:
    """Draw the title and what the colours mean; below each other where it is narrow."""
    patches = [text_patch(title, PAPER, 3), *(text_patch(name, colour, 2) for name, colour in legend.items())]
    needed = sum(patch.shape[1] + 2 * GAP for patch in patches)
    narrow = needed > width
    height = max(patch.shape[0] for patch in patches) + 2 * GAP
    head = np.full((height * (1 + narrow), width, 3), PAPER, np.uint8)
    left, line = GAP, 0
    for index, patch in enumerate(patches):
        if narrow and index == 1:
            left, line = GAP, height
        top = line + (height - patch.shape[0]) // 2
        patch = patch[:, : width - left]
        head[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
        left += patch.shape[1] + 2 * GAP
    return head


def _draw(findings: Findings, tile: _Tile) -> np.ndarray | None:
    """Return a tile with its title as (H, TILE, 3) BGR, or None if its file cannot be read (any more)."""
    left, top, right, bottom = tile.view
    scale = TILE / max(right - left, bottom - top)
    size_wh = max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1)
    part = _read_part(Path(findings.paths[tile.image]), tile.view, findings.sizes_hw[tile.image], scale)
    if part is None:
        return None
    part = cv2.resize(part, size_wh, interpolation=cv2.INTER_AREA if part.shape[1] > size_wh[0] else cv2.INTER_LINEAR)
    boxes = (tile.boxes - [left, top, left, top]) * scale
    visible = np.flatnonzero((boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < size_wh).all(1))
    boxes = boxes[visible].clip(0, [size_wh[0] - 1, size_wh[1] - 1] * 2)
    part = draw_detections(
        part, boxes, [tile.labels[index] for index in visible], [tile.colours[index] for index in visible], 2
    )
    title = text_patch(tile.title[-TITLE_LENGTH:], INK, 2)[:, :TILE]
    picture = np.full((size_wh[1] + title.shape[0], TILE, 3), INK, np.uint8)
    picture[: size_wh[1]] = PAPER
    picture[: size_wh[1], : size_wh[0]] = part
    picture[size_wh[1] :, : title.shape[1]] = title
    return picture


def _read_part(path: Path, view: tuple[int, int, int, int], size_hw: np.ndarray, scale: float) -> np.ndarray | None:
    """Return what an image file shows at ``view``, (h, w, 3) BGR, at least ``scale`` times as large if it can be."""
    try:
        image = read_image(path, shrink=max(int(1 / scale), 1))
    except UserError:  # of a kind that has no colours to show
        return None
    if image is None:
        return None
    factor_y, factor_x = np.array(image.shape[:2]) / size_hw  # what shrinking has left of the sides
    left, top = int(view[0] * factor_x), int(view[1] * factor_y)
    right, bottom = round(view[2] * factor_x), round(view[3] * factor_y)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]
