"""What a split holds: images and their labels, a hundred thousand of them as easily as ten.

Everything lies in a few flat arrays, because an object for each image is slow to make and heavy, and is copied into
every loader process as soon as it is looked at.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np

END = b"\0"  # ends each text of a Texts; no path can hold it


@dataclass(frozen=True, eq=False)
class Sample:
    """One usable image and what is on it.

    Attributes:
        image: the image file.
        size_hw: height and width in px, after EXIF rotation.
        labels: (n, 5) float32 class, x, y, width, height; boxes in 0..1 of the image.
        segments: n polygons, each (points, 2) float32 x, y in 0..1; empty when the label file holds boxes.
    """

    image: Path
    size_hw: tuple[int, int]
    labels: np.ndarray
    segments: list[np.ndarray]


class Ragged:
    """Groups of rows, one behind the other in one array.

    Attributes:
        rows: (m, ...) rows of all groups.
        starts: (n + 1,) int64; group i is ``rows[starts[i]:starts[i + 1]]``.
    """

    def __init__(self, rows: np.ndarray, counts: np.ndarray) -> None:
        """Cut ``rows`` into groups of ``counts`` rows, (n,) integers.

        Raises:
            ValueError: the counts do not add up to the rows.
        """
        if counts.ndim != 1 or (len(counts) and (counts.dtype.kind not in "iu" or counts.min() < 0)):
            raise ValueError("counts are not a row of integers from 0")
        self.rows, self.starts = rows, np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=self.starts[1:])
        if self.starts[-1] != len(rows):
            raise ValueError(f"{self.starts[-1]} rows counted, {len(rows)} there")

    @classmethod
    def of(cls, groups: Sequence[np.ndarray], width: int) -> "Ragged":
        """Join (k, width) arrays to float32 rows."""
        rows = np.concatenate([np.zeros((0, width), np.float32), *groups]).astype(np.float32, copy=False)
        return cls(rows, np.array([len(group) for group in groups], np.int64))

    @classmethod
    def concatenate(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """Put the groups of ``parts``, at least one, behind each other."""
        return cls(np.concatenate([part.rows for part in parts]), np.concatenate([part.counts for part in parts]))

    @property
    def counts(self) -> np.ndarray:
        """(n,) rows of each group."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.rows[self.starts[index] : self.starts[index + 1]]

    def take(self, indices: np.ndarray) -> "Ragged":
        """Return the groups at ``indices``, (k,) integers from 0, in that order."""
        counts = self.counts[indices]
        return Ragged(self.rows[_ranges(self.starts[:-1][indices], counts)], counts)


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return ``starts[0], starts[0] + 1, ...``, ``counts[0]`` of them, then those of the next, as one array."""
    offsets = np.cumsum(counts) - counts  # where each range begins in the result
    return np.arange(counts.sum()) + np.repeat(starts - offsets, counts)


class Texts(Sequence[str]):
    """Texts without NUL, such as paths, in one array of bytes.

    Attributes:
        content: (bytes,) uint8; each text in the encoding of file names, and a NUL behind it.
    """

    def __init__(self, content: np.ndarray) -> None:
        """Take over ``content``.

        Raises:
            ValueError: the last text has no end.
        """
        self.content = content
        ends = np.flatnonzero(content == END[0]) + 1
        if len(content) and (not len(ends) or ends[-1] != len(content)):
            raise ValueError("a text has no end")
        self._groups = Ragged(content, np.diff(ends, prepend=0))

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Texts":
        """Store ``texts``.

        Raises:
            ValueError: one contains a NUL.
        """
        ended = [*texts, ""]
        stored = cls(np.frombuffer(os.fsencode(END.decode().join(ended)), np.uint8))
        if len(stored) != len(ended) - 1:
            raise ValueError("a text contains a NUL")
        return stored

    @classmethod
    def concatenate(cls, parts: Sequence["Texts"]) -> "Texts":
        """Put ``parts``, at least one, behind each other."""
        return cls(np.concatenate([part.content for part in parts]))

    @property
    def lengths(self) -> np.ndarray:
        """(n,) bytes of each text."""
        return self._groups.counts - len(END)

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Texts": ...
    def __getitem__(self, index: int | slice) -> "str | Texts":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        return os.fsdecode(self._groups[range(len(self))[index]].tobytes()[:-1])

    def __iter__(self) -> Iterator[str]:
        return iter(os.fsdecode(self.content.tobytes()).split(END.decode())[:-1])

    def take(self, indices: np.ndarray) -> "Texts":
        """Return the texts at ``indices``, (k,) integers from 0, in that order."""
        return Texts(self._groups.take(indices).rows)


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Sample]):
    """Images and their labels in flat arrays; a :class:`Sample` is made when asked for, with views of the arrays.

    Attributes:
        images: the n paths.
        sizes_hw: (n, 2) int32 heights and widths in px, after EXIF rotation.
        boxes: n groups of (k, 5) float32 class, x, y, width, height; boxes in 0..1 of the image.
        outlines: n groups: how many polygons an image has, as many as boxes or none; ``rows`` numbers them.
        points: a group of (p, 2) float32 x, y in 0..1 for every polygon.
    """

    images: Texts
    sizes_hw: np.ndarray
    boxes: Ragged
    outlines: Ragged
    points: Ragged

    def __post_init__(self) -> None:
        count = len(self.images)
        if not count == len(self.sizes_hw) == len(self.boxes) == len(self.outlines):
            raise ValueError("arrays of different numbers of images")
        if len(self.outlines.rows) != len(self.points):
            raise ValueError("arrays of different numbers of polygons")

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "Samples":
        """Store ``samples``; ones that are stored already are returned."""
        if isinstance(samples, Samples):
            return samples
        samples = list(samples)
        points = [segment for sample in samples for segment in sample.segments]
        return cls.from_counts(
            Texts.of(str(sample.image) for sample in samples),
            np.array([sample.size_hw for sample in samples], np.int32).reshape(-1, 2),
            Ragged.of([sample.labels for sample in samples], 5),
            np.array([len(sample.segments) for sample in samples], np.int64),
            Ragged.of(points, 2),
        )

    @classmethod
    def from_counts(
        cls, images: Texts, sizes_hw: np.ndarray, boxes: Ragged, outline_counts: np.ndarray, points: Ragged
    ) -> "Samples":
        """Build from the attributes, and (n,) numbers of polygons instead of ``outlines``.

        Raises:
            ValueError: they do not fit together.
        """
        return cls(images, sizes_hw, boxes, Ragged(np.arange(len(points)), outline_counts), points)

    @classmethod
    def concatenate(cls, parts: Sequence["Samples"]) -> "Samples":
        """Put ``parts`` behind each other."""
        if not parts:
            return cls.of([])
        return cls.from_counts(
            Texts.concatenate([part.images for part in parts]),
            np.concatenate([part.sizes_hw for part in parts]),
            Ragged.concatenate([part.boxes for part in parts]),
            np.concatenate([part.outlines.counts for part in parts]),
            Ragged.concatenate([part.points for part in parts]),
        )

    @property
    def labels(self) -> np.ndarray:
        """(m, 5) float32 labels of all images, in their order."""
        return self.boxes.rows

    @property
    def label_counts(self) -> np.ndarray:
        """(n,) number of labels of each image."""
        return self.boxes.counts

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> "Samples": ...
    def __getitem__(self, index: int | slice) -> "Sample | Samples":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        index = range(len(self))[index]
        height, width = self.sizes_hw[index].tolist()
        segments = [self.points[number] for number in self.outlines[index].tolist()]
        return Sample(self.image(index), (height, width), self.boxes[index], segments)

    def image(self, index: int) -> Path:
        """Return the image file at ``index``."""
        return Path(self.images[index])

    def take(self, indices: Sequence[int] | np.ndarray) -> "Samples":
        """Return those at ``indices``, from 0, in that order."""
        indices = np.asarray(indices, np.int64)
        outlines = self.outlines.take(indices)
        return Samples.from_counts(
            self.images.take(indices),
            self.sizes_hw[indices],
            self.boxes.take(indices),
            outlines.counts,
            self.points.take(outlines.rows),
        )

    def with_class_zero(self) -> "Samples":
        """Return the same with class 0 for every label."""
        labels = self.labels.copy()
        labels[:, 0] = 0
        return replace(self, boxes=Ragged(labels, self.label_counts))

    def first_class_beyond(self, count: int) -> tuple[int, float] | None:
        """Return the first image with a class that is not below ``count``, and this class; None if there is none."""
        rows = np.flatnonzero(~(self.labels[:, 0] < count))
        if not len(rows):
            return None
        return int(np.searchsorted(self.boxes.starts, rows[0], side="right")) - 1, float(self.labels[rows[0], 0])
