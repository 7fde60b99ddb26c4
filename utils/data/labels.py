"""The text of label files: reading it by the rules of YOLOv5 v6.1, and saying what is wrong with it."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from utils.boxes import xyxy_to_xywh
from utils.data.listing import printable

BOX_VALUES = 5  # class x y width height
POLYGON_VALUES = 9  # one row this long makes every row of the file a polygon
LEAST_POINTS = 3  # a polygon of fewer is doubtful
LONGEST_WORD = 40  # characters shown of a word that is no number
SPREAD = np.sqrt([2.0, 3.0, 5.0, 7.0, 11.0])  # factors that have no common measure
CLASS_LIMIT = 2**24  # from here on float32 does not hold every whole number
PLAIN_CHARACTERS = b"0123456789 .\n\t\r-+eE"  # bytes without surprises: no NaN, no lines that only str.splitlines knows

FOUND, MISSING, EMPTY, CORRUPT = 1, 2, 4, 8  # states of a label file; found ones may be empty or corrupt as well

Content = bytes | OSError | None  # of a label file: what is in it, or why that is not known; None if there is no file


class LabelFile(NamedTuple):
    """What a label file was found to hold.

    Attributes:
        status: sum of FOUND, MISSING, EMPTY and CORRUPT.
        labels: (n, 5) float32 class, x, y, width, height; no rows if it is corrupt.
        segments: n polygons (points, 2) float32, or none when the rows are boxes.
        notes: what is wrong with it, each a line ``"file:line: what"``.
    """

    status: int
    labels: np.ndarray
    segments: list[np.ndarray]
    notes: list[str]


NO_LABELS = np.zeros((0, BOX_VALUES), np.float32)


def read_label_file(name: str, content: Content) -> LabelFile:
    """Check the ``content`` of the label file ``name`` by every rule."""
    if content is None:
        return LabelFile(MISSING, NO_LABELS, [], [])
    if isinstance(content, OSError):
        return _corrupt(f"{printable(name)}: image ignored: cannot be read ({content.strerror})")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return _corrupt(f"{printable(name)}: image ignored: not UTF-8 text ({error.reason} at byte {error.start})")
    labels, segments, problem = parse_labels(text)
    if problem:
        return _corrupt(f"{printable(name)}:{problem}; image ignored")
    notes = [f"{printable(name)}:{doubt}" for doubt in _doubts(text, labels, segments)]
    distinct, segments = drop_duplicates(labels, segments)
    if len(distinct) < len(labels):
        notes.append(f"{printable(name)}: {len(labels) - len(distinct)} duplicate rows ignored")
    return LabelFile(FOUND if len(labels) else FOUND | EMPTY, distinct, segments, notes)


def _corrupt(note: str) -> LabelFile:
    return LabelFile(FOUND | CORRUPT, NO_LABELS, [], [note])


def read_label_files(names: Sequence[str], contents: Sequence[Content]) -> list[LabelFile]:
    """Do the same for many files, those without anything unusual in a fraction of the time."""
    plain = parse_plain([content if isinstance(content, bytes) else b"?" for content in contents])
    return [
        read_label_file(name, content)
        if labels is None
        else LabelFile(FOUND if len(labels) else FOUND | EMPTY, labels, [], [])
        for name, content, labels in zip(names, contents, plain, strict=True)
    ]


def parse_plain(contents: Sequence[bytes]) -> list[np.ndarray | None]:
    """Read files in which every row is an impeccable box.

    Returns:
        for each file (n, 5) float32 class, x, y, width, height, or None where :func:`read_label_file` has to look.
    """
    values: list[float] = []
    counts = [_collect(content, values) for content in contents]
    with np.errstate(over="ignore"):  # what is too large for float32 is found by its limits
        labels = np.array(values, np.float32).reshape(-1, BOX_VALUES)
    owners = np.repeat(np.arange(len(counts)), [max(count, 0) for count in counts])
    classes, boxes = labels[:, 0], labels[:, 1:]
    fine = (labels >= 0).all(1) & (boxes <= 1).all(1) & (classes == np.floor(classes)) & (classes < CLASS_LIMIT)
    sums = (labels * SPREAD).sum(1)  # the same for equal rows, and hardly ever for others
    order = np.lexsort((sums, owners))
    repeated = (np.diff(sums[order]) == 0) & (np.diff(owners[order]) == 0)
    unusual = {*owners[~fine].tolist(), *owners[order][1:][repeated].tolist()}
    ends = np.cumsum([max(count, 0) for count in counts]).tolist()
    return [
        None if count < 0 or index in unusual else labels[end - count : end]
        for index, (count, end) in enumerate(zip(counts, ends, strict=True))
    ]


def _collect(content: bytes, values: list[float]) -> int:
    """Append the numbers of a file to ``values`` and return how many rows it has; -1 if they are not plain boxes."""
    rows = list(map(bytes.split, content.splitlines()))
    if content.translate(None, PLAIN_CHARACTERS) or not {BOX_VALUES}.issuperset(map(len, rows)):
        return -1
    try:
        values += [*map(float, chain.from_iterable(rows))]  # all or none
    except ValueError:
        return -1
    return len(rows)


def parse_labels(text: str) -> tuple[np.ndarray, list[np.ndarray], str | None]:
    """Read the rows of a label file: ``class x y width height``, or polygons ``class x1 y1 x2 y2 ...``, all in 0..1.

    When any row has more than 8 values, every row is a polygon (v6.1's rule).

    Returns:
        labels: (n, 5) float32 class, x, y, width, height; (0, 5) when there is a problem.
        segments: n polygons (points, 2) float32, or none when the rows are boxes.
        problem: None, or the line number and reason of the first malformed row, as ``"3: 4 values, expected ..."``.
    """
    rows = _numbered_rows(text)
    as_polygons = any(len(words) >= POLYGON_VALUES for _, words in rows)
    labels, segments = [], []
    for number, words in rows:
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is found by its limits
                label, segment = _parse_row(words, as_polygons)
        except ValueError as error:
            return NO_LABELS, [], f"{number}: {error}"
        labels.append(label)
        segments.append(segment)
    return np.array(labels, np.float32).reshape(-1, BOX_VALUES), segments if as_polygons else [], None


def _numbered_rows(text: str) -> list[tuple[int, list[str]]]:
    """Return the line number and words of each row: empty lines, and blank ones before the first row, are none."""
    lines = text.rstrip().splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    return [(number, line.split()) for number, line in enumerate(lines, 1) if line and number > first]


def _parse_row(words: list[str], as_polygon: bool) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([_to_number(word) for word in words], np.float32)
    points = values[1:].reshape(-1, 2) if len(values) % 2 else np.zeros((0, 2), np.float32)
    if as_polygon and len(points) == 0:
        raise ValueError(f"{len(values)} values, expected a class and pairs of x y (another row is a polygon)")
    if not as_polygon and len(values) != BOX_VALUES:
        raise ValueError(f"{len(values)} values, expected 5 (class x y width height) or a polygon of 4 or more points")
    label = values
    if as_polygon:
        label = np.concatenate([values[:1], xyxy_to_xywh(np.concatenate([points.min(0), points.max(0)]))])
    if not (label >= 0).all():
        raise ValueError(f"{_show(label[~(label >= 0)])} is negative or not a number, expected 0 or more")
    if (label[1:] > 1).any():
        raise ValueError(f"{_show(label[1:][label[1:] > 1])} is beyond 1; coordinates are fractions of the image")
    if label[0] >= CLASS_LIMIT:
        raise ValueError(f"class {_show(label)} is too large, expected less than {CLASS_LIMIT}")
    return label, points


def _to_number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"{word[:LONGEST_WORD]!r} is not a number") from None


def _show(values: np.ndarray) -> str:
    return f"{values[0]:.6g}"


def _doubts(text: str, labels: np.ndarray, segments: list[np.ndarray]) -> list[str]:
    """Return ``"line: what"`` about rows that are read by v6.1's rules but were hardly meant so."""
    numbers = [number for number, _ in _numbered_rows(text)]
    doubts = []
    thin = [number for number, points in zip(numbers, segments, strict=False) if len(points) < LEAST_POINTS]
    if thin:
        doubts.append(
            f"{thin[0]}: a row{_and_more(thin)} of fewer than {LEAST_POINTS} points in a file of polygons; if it means "
            "x y width height, write the corners of the box instead"
        )
    broken = np.flatnonzero(labels[:, 0] % 1).tolist()
    if broken:
        what = f"class {labels[broken[0], 0]:g}{_and_more(broken)} is not a whole number; the fraction is dropped"
        doubts.append(f"{numbers[broken[0]]}: {what}")
    return doubts


def _and_more(found: list[int]) -> str:
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def drop_duplicates(labels: np.ndarray, segments: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the distinct rows of (n, 5) ``labels`` in sorted order, with their polygons; unchanged if all differ."""
    distinct, positions = np.unique(labels, axis=0, return_index=True)
    if len(distinct) == len(labels):
        return labels, segments
    return distinct, [segments[position] for position in positions] if segments else []
