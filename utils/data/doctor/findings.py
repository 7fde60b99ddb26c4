"""What the doctor can find: every kind in one table, and one finding of a kind with its examples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

MOST_EXAMPLES = 6  # of one finding
MOST_NAMED = 3  # kinds that a verdict names


class Kind(NamedTuple):
    """One kind of finding.

    Attributes:
        is_error: a label or image is lost or wrong, or a measurement would mislead; otherwise it is a remark.
        one: what is counted, a single one.
        many: several of them.
        mend: what to do.
    """

    is_error: bool
    one: str
    many: str
    mend: str


ERROR, REMARK = True, False

KINDS: dict[str, Kind] = {
    "split-unusable": Kind(ERROR, "unusable split", "unusable splits", "correct the path in the data YAML"),
    "split-unlabelled": Kind(
        ERROR, "split without a box", "splits without a box", "labels belong where 'images' in the path is 'labels'"
    ),
    "image-corrupt": Kind(
        ERROR, "unreadable image", "unreadable images", "replace or remove it; until then it is left out"
    ),
    "labels-corrupt": Kind(
        ERROR, "malformed label file", "malformed label files", "correct the line; until then its image is left out"
    ),
    "labels-pixels": Kind(
        ERROR,
        "label file in pixels",
        "label files in pixels",
        "divide x and width by the width of the image, y and height by its height; until then the image is left out",
    ),
    "labels-shared": Kind(
        ERROR, "label file of several images", "label files of several images", "give each image a stem of its own"
    ),
    "class-beyond": Kind(
        ERROR, "box of a class outside names", "boxes of classes outside names", "add the class to names, or correct it"
    ),
    "class-one-based": Kind(
        ERROR, "class id that seems to count from 1", "class ids that seem to count from 1", "subtract 1 from every id"
    ),
    "class-fraction": Kind(
        ERROR, "class id that is no whole number", "class ids that are no whole number", "check the order of columns"
    ),
    "class-untrained": Kind(
        ERROR, "class without a training box", "classes without a training box", "move images of it to train"
    ),
    "box-corners": Kind(
        ERROR,
        "box that looks like left top right bottom",
        "boxes that look like left top right bottom",
        "write centre x, centre y, width and height",
    ),
    "box-left-top": Kind(
        ERROR,
        "box that looks like left top width height",
        "boxes that look like left top width height",
        "add half the width to x and half the height to y",
    ),
    "box-empty": Kind(ERROR, "box without area", "boxes without area", "remove the row, or draw the box anew"),
    "leak": Kind(
        ERROR, "image in two splits", "images in two splits", "keep it in one, or the measurement flatters the model"
    ),
    "leak-near": Kind(
        ERROR,
        "image that looks the same in two splits",
        "images that look the same in two splits",
        "keep all of them in one split, or the measurement flatters the model",
    ),
    "split-same": Kind(
        REMARK, "split measured on training images", "splits measured on training images", "fine for a trial only"
    ),
    "labels-missing": Kind(
        REMARK, "image without a label file", "images without a label file", "fine if nothing is to be found on it"
    ),
    "labels-orphan": Kind(
        REMARK, "label file without an image", "label files without an image", "bring the image, or remove the file"
    ),
    "backgrounds": Kind(
        REMARK, "image without a box", "images without a box", "more than half of the split; some are enough"
    ),
    "class-absent": Kind(REMARK, "class without a box", "classes without a box", "label some, or take it out of names"),
    "class-rare": Kind(REMARK, "rare class", "rare classes", "label more of it, or train with --image-weights"),
    "anchors-poor": Kind(
        REMARK, "box that no anchor fits", "boxes that no anchor fits", "train.py finds better anchors by itself"
    ),
    "box-tiny": Kind(
        REMARK, "box below 2 px", "boxes below 2 px", "too small to be learned: a larger --imgsz, or remove it"
    ),
    "box-huge": Kind(REMARK, "box over 95 % of its image", "boxes over 95 % of their image", "see that it is meant"),
    "box-outside": Kind(
        REMARK, "box that leaves its image", "boxes that leave their image", "training cuts it at the border"
    ),
    "box-twice": Kind(
        REMARK, "box that covers another of its class", "boxes that cover another of their class", "remove one of them"
    ),
    "row-twice": Kind(REMARK, "repeated row", "repeated rows", "ignored in training; remove the copy"),
    "row-doubtful": Kind(
        REMARK, "row that is hardly meant so", "rows that are hardly meant so", "see the line, and correct it"
    ),
    "image-twice": Kind(REMARK, "copy of another image", "copies of another image", "remove the copies"),
    "image-near": Kind(
        REMARK, "image that looks like another", "images that look like another", "one of them adds little"
    ),
    "image-odd": Kind(REMARK, "image of odd shape or size", "images of odd shape or size", "see that it is meant"),
    "image-incomplete": Kind(
        REMARK, "image file with a blemish", "image files with a blemish", "write it anew if you can"
    ),
}


@dataclass(frozen=True, eq=False)
class Picture:
    """An image to be shown.

    Attributes:
        image: the file.
        split: where it belongs.
        labels: (n, 5) class, x, y, width, height in 0..1.
        marked: rows of ``labels`` that the finding is about.
    """

    image: Path
    split: str
    labels: np.ndarray
    marked: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Example:
    """One case.

    Attributes:
        file: the image or label file to look into, or None where there is no such file.
        detail: what is wrong there, in a few words.
        rows: (k, 5) labels whose lines in ``file`` are meant.
        pictures: what to show.
    """

    file: Path | None
    detail: str = ""
    rows: np.ndarray | None = None
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, eq=False)
class Finding:
    """All cases of one kind in one split.

    Attributes:
        kind: key of ``KINDS``.
        split: name of the split, or ``"train, val"`` where it is about several.
        count: number of cases.
        examples: the worst of them, at most ``MOST_EXAMPLES``.
    """

    kind: str
    split: str
    count: int
    examples: Sequence[Example] = ()

    @property
    def is_error(self) -> bool:
        """Whether something is wrong rather than worth a look."""
        return KINDS[self.kind].is_error

    @property
    def mend(self) -> str:
        """What to do about it."""
        return KINDS[self.kind].mend

    def __str__(self) -> str:
        return phrase(self.kind, self.count)


def phrase(kind: str, count: int) -> str:
    """Return such as ``"12 boxes below 2 px"``."""
    return f"{count} {KINDS[kind].one if count == 1 else KINDS[kind].many}"


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Return ``findings`` in the order of ``KINDS``: errors first."""
    order = list(KINDS)
    return sorted(findings, key=lambda finding: order.index(finding.kind))


def summarise(findings: Iterable[Finding], noun: str) -> str:
    """Return ``"3 errors (2 unreadable images, 12 repeated rows, 1 rare class)"``; the splits are taken together.

    Args:
        findings: some, or none.
        noun: what one of them is.
    """
    counts: dict[str, int] = {}
    for finding in in_order(findings):
        counts[finding.kind] = counts.get(finding.kind, 0) + finding.count
    named = [phrase(kind, count) for kind, count in list(counts.items())[:MOST_NAMED]]
    rest = f" and {len(counts) - MOST_NAMED} more" if len(counts) > MOST_NAMED else ""
    return f"{len(counts)} {noun}{'s' if len(counts) != 1 else ''}" + (f" ({', '.join(named)}{rest})" if named else "")
