"""Looking at every image of a split and at its labels."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from utils.data.headers import READ_ONLY, check_ends, read_ends
from utils.data.labels import CORRUPT, EMPTY, FOUND, MISSING, Content, LabelFile, read_label_files
from utils.data.listing import printable
from utils.data.samples import Ragged, Samples, Texts
from utils.log import progress

CHUNK = 256  # images looked at in one go
SCAN_THREADS, CHUNKS_AT_ONCE = 8, 128  # where files have to be waited for
MOSTLY_WAITING = 4  # times as long as busy
DIGEST_BYTES = 16
READ_BYTES = 1 << 16

State = tuple[int, int, int]
Part = TypeVar("Part")


@dataclass
class Scan:
    """What a split was found to hold: usable samples, and counts and one-line warnings about the rest.

    An image is *missing* its label file or the file was *found*; a found file may be *empty*; a fault of the image or
    of its labels makes it *corrupt* and leaves it out of ``samples``.
    """

    samples: Samples = field(default_factory=lambda: Samples.of([]))
    found: int = 0
    missing: int = 0
    empty: int = 0
    corrupt: int = 0
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Return ``"126 found, 2 missing, 0 empty, 0 corrupt"``."""
        return f"{self.found} found, {self.missing} missing, {self.empty} empty, {self.corrupt} corrupt"


@dataclass(frozen=True, eq=False)
class Findings:
    """What is known of n images, the unusable ones included, in flat arrays.

    Attributes:
        samples: of all images; (0, 0) is the size of an unusable one.
        image_notes: what is odd about each image; mostly nothing.
        status: (n,) uint8 state of each label file, as in :class:`LabelFile`.
        digests: (n, 16) uint8 hash of each label file's content; see :func:`digest`.
        label_notes: what is odd about each label file, lines joined.
        states: (n, 5) int64 how the files were: size and time of change of each image; size, time of change, and time
            of the last change of anything but the content of its label file. Sizes in bytes, times in ns, -1 for
            missing files.
    """

    samples: Samples
    image_notes: Texts
    status: np.ndarray
    digests: np.ndarray
    label_notes: Texts
    states: np.ndarray

    def __post_init__(self) -> None:
        others = self.image_notes, self.status, self.digests, self.label_notes, self.states
        if any(len(other) != len(self.samples) for other in others):
            raise ValueError("arrays of different numbers of images")

    @classmethod
    def concatenate(cls, parts: Sequence["Findings"]) -> "Findings":
        """Put ``parts``, at least one, behind each other."""
        return cls(
            Samples.concatenate([part.samples for part in parts]),
            Texts.concatenate([part.image_notes for part in parts]),
            np.concatenate([part.status for part in parts]),
            np.concatenate([part.digests for part in parts]),
            Texts.concatenate([part.label_notes for part in parts]),
            np.concatenate([part.states for part in parts]),
        )

    def take(self, indices: np.ndarray) -> "Findings":
        """Return those of the images at ``indices``, (k,) integers from 0, in that order."""
        return Findings(
            self.samples.take(indices),
            self.image_notes.take(indices),
            self.status[indices],
            self.digests[indices],
            self.label_notes.take(indices),
            self.states[indices],
        )

    def scan(self) -> Scan:
        """Count, and leave the corrupt images out."""
        status = np.where((self.samples.sizes_hw > 0).all(1), self.status, CORRUPT)
        usable = np.flatnonzero(status & CORRUPT == 0)
        samples = self.samples if len(usable) == len(status) else self.samples.take(usable)
        states = {"found": FOUND, "missing": MISSING, "empty": EMPTY, "corrupt": CORRUPT}
        counts = {name: int(np.count_nonzero(status & state)) for name, state in states.items()}
        return Scan(samples, **counts, warnings=self._warnings(status))

    def _warnings(self, status: np.ndarray) -> list[str]:
        """Return all notes, except those on the labels of images that are unusable anyway."""
        image_lengths, label_lengths = self.image_notes.lengths, self.label_notes.lengths
        warnings = []
        for index in np.flatnonzero(image_lengths + label_lengths).tolist():
            if image_lengths[index]:
                warnings.append(self.image_notes[index])
            if label_lengths[index] and status[index] != CORRUPT:
                warnings += self.label_notes[index].split("\n")
        return warnings


def digest(content: Content) -> bytes:
    """Return 16 bytes that tell contents of label files apart; zeros if there is no file."""
    if content is None:
        return bytes(DIGEST_BYTES)
    known = content if isinstance(content, bytes) else str(content).encode("utf-8", "backslashreplace")
    return hashlib.blake2b(known, digest_size=DIGEST_BYTES).digest()


def file_state(status: os.stat_result | None) -> State:
    """Return size, time of change of the content, and of anything else; -1 for a missing file."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns) if status else (-1, -1, -1)


def read_content(name: str) -> tuple[Content, State]:
    """Read a label file; also return its state before."""
    try:
        descriptor = os.open(name, READ_ONLY)
        try:
            state, content = file_state(os.fstat(descriptor)), b""
            while part := os.read(descriptor, READ_BYTES):
                content += part
            return content, state
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None, file_state(None)
    except OSError as error:
        return error, file_state(None)


def examine(images: Sequence[str], labels: Sequence[str]) -> Findings:
    """Look at ``images`` and at their ``labels`` files."""
    headers, files = [_examine_image(image) for image in images], [read_content(label) for label in labels]
    return assemble(
        images,
        np.array([size_hw for size_hw, _, _ in headers], np.int32).reshape(-1, 2),
        Texts.of(note for _, note, _ in headers),
        labels,
        [content for content, _ in files],
        np.array([of_image[2][:2] + state for of_image, (_, state) in zip(headers, files, strict=True)], np.int64),
    )


def _examine_image(image: str) -> tuple[tuple[int, int], str, State]:
    """Return its size, (0, 0) if it is of no use, what is odd about it, and its state."""
    head, tail, status = read_ends(image)
    try:
        size_hw, warning = check_ends(image, head, tail)
    except ValueError as error:
        return (0, 0), f"{printable(image)}: image ignored: {printable(str(error))}", file_state(status)
    return size_hw, f"{printable(image)}: {warning}" if warning else "", file_state(status)


def assemble(
    images: Sequence[str],
    sizes_hw: np.ndarray,
    image_notes: Texts,
    labels: Sequence[str],
    contents: Sequence[Content],
    states: np.ndarray,
) -> Findings:
    """Put together what is known of images and the contents of their label files.

    Args:
        images: their names.
        sizes_hw: (n, 2) int32 height and width, zeros for the unusable.
        image_notes: what is odd about them.
        labels: names of their label files.
        contents: of these.
        states: (n, 5) int64 how all files were before they were read.
    """
    files: list[LabelFile] = read_label_files(labels, contents)
    samples = Samples.from_counts(
        Texts.of(images),
        sizes_hw,
        Ragged.of([file.labels for file in files], 5),
        np.array([len(file.segments) for file in files], np.int64),
        Ragged.of([segment for file in files for segment in file.segments], 2),
    )
    digests = np.frombuffer(b"".join(map(digest, contents)), np.uint8).reshape(-1, DIGEST_BYTES)
    status = np.array([file.status for file in files], np.uint8)
    notes = Texts.of("\n".join(file.notes) for file in files)
    return Findings(samples, image_notes, status, digests, notes, states.reshape(-1, 5))


def examine_all(images: Sequence[str], labels: Sequence[str], description: str) -> Findings:
    """Look at many images, with a progress bar under ``description``; the order is kept."""
    parts = [examine([], [])]
    with progress((), description, total=len(images), unit="img") as bar:
        for part in in_chunks(examine, images, labels):
            parts.append(part)
            bar.update(len(part.samples))
    return Findings.concatenate(parts)


def in_chunks(work: Callable[[Sequence[str], Sequence[str]], Part], *names: Sequence[str]) -> Iterator[Part]:
    """Yield what ``work`` makes of each few hundred of ``names``, which are equally many.

    Threads get in each other's way at Python's lock, up to twice the time for the same work, so they are used only
    where files keep one waiting, as on a cold disk or over a network.
    """
    chunks = [[some[start : start + CHUNK] for some in names] for start in range(0, len(names[0]), CHUNK)]
    pool, position = ThreadPoolExecutor(SCAN_THREADS), 0
    try:
        while position < len(chunks):
            start, start_busy = time.perf_counter(), time.thread_time()
            part = work(*chunks[position])
            elapsed, busy = time.perf_counter() - start, time.thread_time() - start_busy
            yield part
            position += 1
            if elapsed > MOSTLY_WAITING * busy:
                yield from pool.map(lambda chunk: work(*chunk), chunks[position : position + CHUNKS_AT_ONCE])
                position += CHUNKS_AT_ONCE
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, do not look at the rest first
