"""One split of a data set, as the doctor looks at it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from utils.data.cache import cached_scan
from utils.data.config import DatasetConfig
from utils.data.doctor.findings import MOST_EXAMPLES, Example, Finding, Picture
from utils.data.listing import ImageList, label_path, list_images
from utils.data.samples import Samples
from utils.data.scan import Scan
from utils.errors import UserError


@dataclass(frozen=True, eq=False)
class Split:
    """The images and labels of a split.

    Attributes:
        name: ``"train"``, ``"val"`` or ``"test"``.
        samples: its usable images; classes may be outside the names.
        listed: all image files, usable or not; empty when only the labels are looked at.
        scan: how many of them have labels, and warnings.
    """

    name: str
    samples: Samples
    listed: ImageList = field(default_factory=lambda: ImageList([]))
    scan: Scan = field(default_factory=Scan)

    @property
    def labels(self) -> np.ndarray:
        """(m, 5) class, x, y, width, height of all boxes, in 0..1."""
        return self.samples.labels

    @cached_property
    def owners(self) -> np.ndarray:
        """(m,) index of the image of each box."""
        return np.repeat(np.arange(len(self.samples)), self.samples.label_counts)

    @property
    def polygons(self) -> int:
        """Number of outlines."""
        return len(self.samples.points)

    def sides_px(self, image_size: int) -> np.ndarray:
        """Return (m, 2) widths and heights of the boxes in px, the long side of each image at ``image_size``."""
        sizes_wh = self.samples.sizes_hw[:, ::-1].astype(np.float32)
        scaled = sizes_wh * (image_size / sizes_wh.max(1, keepdims=True, initial=1))  # (n, 2) px
        return self.labels[:, 3:5] * scaled[self.owners]

    def picture(self, image: int, marked: tuple[int, ...] = ()) -> Picture:
        """Return the picture of the image at that index."""
        return Picture(self.samples.image(image), self.name, self.samples.boxes[image], marked)

    def found_boxes(self, kind: str, boxes: np.ndarray, describe: Callable[[int], str]) -> list[Finding]:
        """Return a finding about ``boxes``, or none without any. Its examples are of different images.

        Args:
            kind: key of ``KINDS``.
            boxes: (k,) indices of boxes, the worst first.
            describe: what is wrong with one box.
        """
        if not len(boxes):
            return []
        shown = boxes[np.sort(np.unique(self.owners[boxes], return_index=True)[1])[:MOST_EXAMPLES]]
        examples = [self._box_example(box, describe(box)) for box in shown.tolist()]
        return [Finding(kind, self.name, len(boxes), examples)]

    def _box_example(self, box: int, detail: str) -> Example:
        owner = int(self.owners[box])
        picture = self.picture(owner, (box - int(self.samples.boxes.starts[owner]),))
        return Example(label_path(picture.image), detail, self.labels[box][None], (picture,))

    def found_images(self, kind: str, images: np.ndarray, describe: Callable[[int], str]) -> list[Finding]:
        """Return a finding about ``images``, (k,) indices with the worst first, or none without any."""
        if not len(images):
            return []
        pictures = [(int(index), self.picture(int(index))) for index in images[:MOST_EXAMPLES]]
        examples = [Example(picture.image, describe(index), pictures=(picture,)) for index, picture in pictures]
        return [Finding(kind, self.name, len(images), examples)]


def read_splits(config: DatasetConfig) -> tuple[list[Split], list[Finding]]:
    """Scan the splits of a data set; one that repeats an earlier one or cannot be used becomes a finding instead."""
    splits: list[Split] = []
    findings: list[Finding] = []
    for name, entries in config.splits.items():
        twin = next((split.name for split in splits if same_entries(config, split.name, name)), None)
        if twin:
            example = Example(None, f"{name} is the same folder as {twin}")
            findings.append(Finding("split-same", name, 1, [example]))
            continue
        try:
            splits.append(_read_split(name, entries))
        except UserError as error:
            findings.append(Finding("split-unusable", name, 1, [Example(None, str(error))]))
    return splits, findings


def same_entries(config: DatasetConfig, one: str, other: str) -> bool:
    """Tell whether two splits are the same folders or lists."""
    return {path.resolve() for path in config.splits[one]} == {path.resolve() for path in config.splits[other]}


def _read_split(name: str, entries: list[Path]) -> Split:
    where = ", ".join(f"'{entry}'" for entry in entries)
    images = list_images(entries)
    if not images:
        raise UserError(f"no images in {where}")
    scan, _ = cached_scan(images, entries, f"{name}: scanning {where}")
    return Split(name, Samples.of(scan.samples), images, scan)
