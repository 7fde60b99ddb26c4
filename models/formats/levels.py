"""Decoding a few boxes: of 18,900 that a network looks at, a picture holds ten, and nobody needs the others in px.

Where a graph gives the outputs of its head as they are, beside the table of all boxes, objectness says which boxes are
worth decoding. In INT8 decoding all takes as long as half of the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.formats.facts import Facts

OUTPUT = "level{}"  # name of such an output of a graph


@dataclass(frozen=True)
class Level:
    """One scale of the head.

    Attributes:
        stride: side of a cell, px.
        anchors: (anchors, 2) width and height, px.
    """

    stride: float
    anchors: np.ndarray


def levels_of(facts: Facts) -> list[Level]:
    """Return the scales that the facts of a file tell of; none if they do not."""
    pairs = zip(facts.get("strides", ()), facts.get("anchors", ()), strict=True)
    return [Level(stride, np.array(anchors, np.float32)) for stride, anchors in pairs]


def decode_likely(
    logits: Sequence[np.ndarray], levels: Sequence[Level], input_hw: tuple[int, int], least: float
) -> list[np.ndarray]:
    """Return of each image the rows whose objectness is not below ``least``, as ``Backend.find_rows`` does.

    Args:
        logits: of each level (B, cells, anchors * (5 + classes)), cells row by row.
        levels: the same levels.
        input_hw: height and width of the network's input, px.
        least: objectness in 0..1, exclusive.
    """
    with np.errstate(divide="ignore"):
        threshold = float(np.log(least) - np.log1p(-least))  # minus infinity at 0
    found = []
    for of_image in zip(*logits, strict=True):
        pairs = zip(of_image, levels, strict=True)
        found.append(np.concatenate([_rows(one, level, input_hw[1], threshold) for one, level in pairs]))
    return found


def _rows(logits: np.ndarray, level: Level, width: int, threshold: float) -> np.ndarray:
    """Return the likely rows of one image and level, ordered by anchor and cell, as Detect orders them."""
    by_anchor = logits.reshape(len(logits), len(level.anchors), -1)  # (cells, anchors, 5 + classes)
    anchor, cell = np.nonzero(~(by_anchor[..., 4] <= threshold).T)
    with np.errstate(over="ignore"):
        rows = 1 / (1 + np.exp(-by_anchor[cell, anchor]))
    columns = int(width // level.stride)
    rows[:, 0] = (rows[:, 0] * 2 - 0.5 + cell % columns) * level.stride
    rows[:, 1] = (rows[:, 1] * 2 - 0.5 + cell // columns) * level.stride
    rows[:, 2:4] = (rows[:, 2:4] * 2) ** 2 * level.anchors[anchor]
    return rows
