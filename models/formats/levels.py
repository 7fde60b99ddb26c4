"""Looking at objectness first: of 18,900 boxes of a picture ten count, and the others need no scores and no pixels.

The head computes 85 numbers for each box of COCO, by a matrix product with what the network has found in the cell of
the box. Here it computes objectness, and the other 84 only where that is high.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALONE = 2**18  # multiplications for which OpenBLAS does not wake its threads


@dataclass(frozen=True)
class Level:
    """One scale of the head.

    Attributes:
        stride: side of a cell, px.
        anchors: (A, 2) width and height, px.
        weights: (A, 5 + classes, C) float32. biases: (A, 5 + classes).
    """

    stride: float
    anchors: np.ndarray
    weights: np.ndarray
    biases: np.ndarray


def rows_of_levels(
    cells: Sequence[np.ndarray],
    objectness: Sequence[np.ndarray],
    levels: Sequence[Level],
    least: float,
) -> list[np.ndarray]:
    """Return of each image the rows whose objectness is above ``least``, or NaN, as ``Backend.find_rows`` does.

    Args:
        cells: of each level (B, rows * columns, C), what the head reads.
        objectness: of each level (B, rows, columns, A) logits.
        levels: the same levels.
        least: objectness in 0..1.
    """
    with np.errstate(divide="ignore"):
        threshold = float(np.log(least) - np.log1p(-least))  # minus infinity at 0
    found = []
    for image in range(len(cells[0])):
        parts = zip(cells, objectness, levels, strict=True)
        rows = [_rows(one[image], own[image], level, threshold) for one, own, level in parts]
        found.append(np.concatenate(rows))
    return found


def _rows(cells: np.ndarray, objectness: np.ndarray, level: Level, threshold: float) -> np.ndarray:
    """Return the likely rows of one image and level, ordered by anchor and cell, as Detect orders them."""
    columns = objectness.shape[1]
    likely = ~(objectness <= threshold).reshape(len(cells), -1)  # (cells, A)
    parts = []
    for anchor in np.arange(len(level.anchors)):
        cell = np.flatnonzero(likely[:, anchor])
        logits = _product(cells[cell], level.weights[anchor].T) + level.biases[anchor]
        with np.errstate(over="ignore"):
            rows = 1 / (1 + np.exp(-logits))
        rows[:, 0] = (rows[:, 0] * 2 - 0.5 + cell % columns) * level.stride
        rows[:, 1] = (rows[:, 1] * 2 - 0.5 + cell // columns) * level.stride
        rows[:, 2:4] = (rows[:, 2:4] * 2) ** 2 * level.anchors[anchor]
        parts.append(rows)
    return np.concatenate(parts)


def _product(rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return ``rows @ matrix``, computed by this thread alone: others are at work, too, and BLAS lets its own spin."""
    step = max(ALONE // matrix.size, 1)
    starts = range(0, max(len(rows), 1), step)
    return np.concatenate([rows[start : start + step] @ matrix for start in starts])
