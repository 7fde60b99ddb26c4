"""The common middle of all formats: what a reader yields and a writer takes."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.errors import UserError

Box = tuple[float, float, float, float]  # left, top, right, bottom in px
Category = Hashable  # what the format calls a class: a number or a name
LONGEST_PART = 300  # characters shown of a name or reason in a list


class Unusable(ValueError):
    """One object, or one image, cannot be converted; the message says why."""


@dataclass(frozen=True, eq=False)
class Thing:
    """One annotated object.

    Attributes:
        where: its place in the annotation file, as ``"annotation 12"`` or ``"line 7"``.
        category: a key of ``Reading.categories``.
        box: px, or None when only the polygon is known.
        polygon: (points, 2) float64 x, y in px, or None.
    """

    where: str
    category: Category
    box: Box | None = None
    polygon: np.ndarray | None = None


@dataclass(frozen=True)
class Loss:
    """An image or an object that does not reach the data set, and why."""

    file: str
    where: str
    reason: str

    def line(self) -> str:
        """Return all of it as one line; names in damaged files can be long and have line breaks."""
        parts = (self.file, self.where, self.reason)
        return ": ".join(" ".join(part.split())[:LONGEST_PART] for part in parts)


@dataclass
class Record:
    """One image and what is on it.

    Attributes:
        annotation: the file that says so.
        split: ``train``, ``val2017``, ...: the folder it goes to.
        name: the wanted path below that folder.
        image: the image file, or its encoded content; None when there is a problem.
        size_hw: height and width in px as annotated; None when the annotation has none.
        things: the objects.
        losses: objects the reader had to drop: (where, reason).
        changes: what the reader had to change, one entry a change, such as ``"mask kept as its box"``.
        problem: why the image cannot be converted, or empty.
    """

    annotation: Path
    split: str
    name: str
    image: Path | bytes | None
    size_hw: tuple[int, int] | None = None
    things: list[Thing] = field(default_factory=list)
    losses: list[tuple[str, str]] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass
class Reading:
    """A data set as read.

    Attributes:
        categories: category -> class name, in the order of the classes to be.
        records: the images, to be gone through once.
        total: number of records.
        lost_images: images that could not even become a record.
        lost_boxes: objects that belong to no record. Like ``lost_images`` it may fill while records are read.
        notes: what the user should know about the whole.
    """

    categories: dict[Category, str]
    records: Iterable[Record]
    total: int
    lost_images: list[Loss] = field(default_factory=list)
    lost_boxes: list[Loss] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def by_name(records: list[Record], names: list[str] | None) -> Reading:
    """Return the reading of records whose categories are class names.

    Args:
        records: all images; objects of other classes than ``names`` are moved to their losses.
        names: the classes in their order; those of the objects, sorted, when None.

    Raises:
        UserError: a name is given twice.
    """
    if names and len(set(names)) < len(names):
        raise UserError(f"--names {' '.join(names)}: a class is named twice; name each once")
    found = {str(thing.category) for record in records for thing in record.things}
    categories: dict[Category, str] = {name: name for name in names or sorted(found)}
    for record in records:
        others = [thing for thing in record.things if thing.category not in categories]
        record.losses += [(thing.where, f"class '{thing.category}' is not in --names") for thing in others]
        record.things = [thing for thing in record.things if thing.category in categories]
    return Reading(categories, records, len(records))
