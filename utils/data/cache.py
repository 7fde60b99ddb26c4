"""Remembers what a scan found, so that the next run looks only at what has changed since.

The memory is one file beside the labels or in ``$YOLOV5_CACHE_DIR``: a hash, then flat arrays as an ``.npz`` without
pickles. Each image has its own entry, which holds as long as size and time of change of the image are the same and the
label file has the same content. As in git's index, a label file is taken for unchanged without opening it if its size
and times are; else it is read, and its hash compared. A file of another version, or a damaged or foreign one, is made
anew.
"""

import hashlib
import os
import time
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from utils.data.labels import Content
from utils.data.listing import ImageList, label_name, label_path, printable
from utils.data.samples import Ragged, Samples, Texts
from utils.data.scan import (
    DIGEST_BYTES,
    Findings,
    Scan,
    State,
    assemble,
    digest,
    examine,
    examine_all,
    file_state,
    in_chunks,
    read_content,
)
from utils.files import atomic_write
from utils.log import LOGGER

VERSION = 2  # raise when the rules of the scan or the arrays below change
HASH_LETTERS = 64
READ_BYTES = 1 << 20
CLOCK_STEP_NS = 2 * 10**9  # the coarsest clock of a file system, FAT's: a later change may show no later time
MOST_SHARED = 5  # label files of several images that are written out


Arrays = dict[str, np.ndarray]
LAYOUT: dict[
    str, tuple[Any, tuple[int, ...]]
] = {  # of the file: type of each array, and its shape after the first axis
    "time_ns": (np.int64, ()),
    "images": (np.uint8, ()),
    "states": (np.int64, (5,)),
    "sizes_hw": (np.int32, (2,)),
    "image_notes": (np.uint8, ()),
    "status": (np.uint8, ()),
    "digests": (np.uint8, (DIGEST_BYTES,)),
    "label_notes": (np.uint8, ()),
    "label_counts": (np.int64, ()),
    "labels": (np.float32, (5,)),
    "outline_counts": (np.int64, ()),
    "point_counts": (np.int64, ()),
    "points": (np.float32, (2,)),
}


@dataclass(frozen=True, eq=False)
class Memory:
    """What was found, and how the files were then.

    Attributes:
        findings: of n images, and the states of their files then.
        time_ns: when the scan began.
    """

    findings: Findings
    time_ns: int


def cached_scan(images: Sequence[Path], entries: Sequence[Path], description: str) -> tuple[Scan, bool]:
    """Scan ``images``, or recall what is known of those that did not change since the last time.

    Args:
        images: image files, at least one.
        entries: the folders or lists of the split; they name the cache file.
        description: text before the progress bar.

    Returns:
        the findings, and whether all of them were known.
    """
    file, names = cache_file(images, entries), ImageList.of(images).names
    labels, now, old = list(map(label_name, names)), time.time_ns(), _load(file)
    findings, recalled = _update(old, names, labels, description)
    if findings is not old.findings:
        try:
            _save(file, Memory(findings, now))
        except OSError as error:
            LOGGER.debug(f"label cache '{file}' not written: {error}")
    scan = findings.scan()
    scan.warnings += _shared_labels(names, labels)
    return scan, recalled


def cache_file(images: Sequence[Path], entries: Sequence[Path]) -> Path:
    """Return where the scan of ``images`` is kept: beside their labels, named by the ``entries`` of the split."""
    labels_folder = label_path(images[0]).parent
    folder = Path(os.environ.get("YOLOV5_CACHE_DIR") or labels_folder.parent)
    name = hashlib.sha256(os.fsencode("\n".join(map(str, entries)))).hexdigest()[:8]
    return folder / f"{labels_folder.name}-{name}.cache"


def _update(old: Memory, names: list[str], labels: list[str], description: str) -> tuple[Findings, bool]:
    """Return the findings on the images ``names``, the old ones if they still hold, and whether nothing was new."""
    sources = _positions(old.findings.samples.images, names)
    unmoved = np.array_equal(sources, np.arange(len(old.findings.states)))
    known = np.flatnonzero(sources >= 0)
    before = old.findings if unmoved else old.findings.take(sources[known])
    states = _current_states(_pick(names, known), _pick(labels, known))
    same = before.states == states
    same_image = same[:, :2].all(1)
    proven = same.all(1) & (states[:, 3:].max(1) < old.time_ns - CLOCK_STEP_NS)
    doubtful, new = np.flatnonzero(same_image & ~proven), np.setdiff1d(np.arange(len(names)), known[same_image])
    if unmoved and not len(doubtful) and not len(new):
        return old.findings, True
    before = replace(before, states=states)
    edited = _edited(before, doubtful, _pick(labels, known[doubtful]))
    changed = np.array(list(edited), np.int64)
    kept = np.setdiff1d(np.flatnonzero(same_image), changed)
    parts = [
        before.take(kept),
        _read_again(before.take(changed), _pick(labels, known[changed]), list(edited.values())),
        examine_all(_pick(names, new), _pick(labels, new), description),
    ]
    order = np.argsort(np.concatenate([known[kept], known[changed], new]))
    return Findings.concatenate(parts).take(order), not len(changed) and not len(new)


def _pick(names: list[str], indices: np.ndarray) -> list[str]:
    return [names[index] for index in indices.tolist()]


def _edited(findings: Findings, indices: np.ndarray, labels: list[str]) -> dict[int, Content]:
    """Return the contents of those ``labels`` files, of the images at ``indices``, that are not what they were."""
    edited = {}
    for index, label in zip(indices.tolist(), labels, strict=True):
        content, _ = read_content(label)
        if digest(content) != findings.digests[index].tobytes():
            edited[index] = content
    return edited


def _read_again(findings: Findings, labels: list[str], contents: list[Content]) -> Findings:
    """Replace what is known of the labels; the images did not change."""
    samples = findings.samples
    return assemble(list(samples.images), samples.sizes_hw, findings.image_notes, labels, contents, findings.states)


def _current_states(names: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Return (n, 5) what :class:`Findings` calls states, of the files as they are."""
    return np.concatenate([np.zeros((0, 5), np.int64), *in_chunks(_states, names, labels)])


def _states(names: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    return np.array([_state(name)[:2] + _state(label) for name, label in zip(names, labels, strict=True)], np.int64)


def _state(name: str) -> State:
    try:
        return file_state(os.stat(name))
    except OSError:
        return file_state(None)


def _positions(known: Texts, names: Sequence[str]) -> np.ndarray:
    """Return (n,) int64 where each of ``names`` is in ``known``, -1 for nowhere."""
    if np.array_equal(known.content, Texts.of(names).content):
        return np.arange(len(names))
    positions = {name: position for position, name in enumerate(known)}
    return np.array([positions.get(name, -1) for name in names], np.int64)


def _shared_labels(names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return warnings about images that differ in the suffix only, so that they share a label file."""
    if len(set(labels)) == len(set(names)):
        return []
    images = defaultdict(list)
    for name, label in dict(zip(names, labels, strict=True)).items():
        images[label].append(os.path.basename(name))
    shared = [(label, group) for label, group in images.items() if len(group) > 1 and os.path.exists(label)]
    warnings = [
        f"{printable(label)}: labels of {len(group)} images, {printable(', '.join(group))}; rename one if not meant"
        for label, group in shared[:MOST_SHARED]
    ]
    if len(shared) > MOST_SHARED:
        warnings.append(f"{len(shared) - MOST_SHARED} more label files belong to several images each")
    return warnings


def _save(file: Path, memory: Memory) -> None:
    findings, samples = memory.findings, memory.findings.samples
    arrays: Arrays = {
        "time_ns": np.array([memory.time_ns]),
        "images": samples.images.content,
        "states": findings.states,
        "sizes_hw": samples.sizes_hw,
        "image_notes": findings.image_notes.content,
        "status": findings.status,
        "digests": findings.digests,
        "label_notes": findings.label_notes.content,
        "label_counts": samples.label_counts,
        "labels": samples.labels,
        "outline_counts": samples.outlines.counts,
        "point_counts": samples.points.counts,
        "points": samples.points.rows,
    }
    with atomic_write(file) as temporary, temporary.open("w+b") as stream:
        stream.write(bytes(HASH_LETTERS))
        np.savez(stream, **{name: arrays[name].astype(kind, copy=False) for name, (kind, _) in LAYOUT.items()})  # type: ignore[arg-type]
        stream.seek(HASH_LETTERS)
        letters = _hash(stream)
        stream.seek(0)
        stream.write(letters)


def _hash(stream: IO[bytes]) -> bytes:
    """Return letters that follow from the rest of ``stream`` and from the version."""
    known = hashlib.sha256(str(VERSION).encode())
    while part := stream.read(READ_BYTES):
        known.update(part)
    return known.hexdigest().encode()


def _load(file: Path) -> Memory:
    """Return what ``file`` holds; nothing if it is missing, damaged, or of another version."""
    try:
        with file.open("rb") as stream:
            letters = stream.read(HASH_LETTERS)
            if letters != _hash(stream):
                raise ValueError("another version, or damaged")
            stream.seek(HASH_LETTERS)
            with np.load(stream, allow_pickle=False) as archive:
                return _restore({name: archive[name] for name in LAYOUT})
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        LOGGER.debug(f"label cache '{file}' not used: {error}")
    return Memory(examine([], []), 0)


def _restore(arrays: Arrays) -> Memory:
    """Build what was saved.

    Raises:
        ValueError: the arrays do not fit together.
    """
    for name, (kind, shape) in LAYOUT.items():
        if arrays[name].dtype != kind or arrays[name].ndim != len(shape) + 1 or arrays[name].shape[1:] != shape:
            raise ValueError(f"'{name}' has another shape")
    labels, label_counts, outline_counts = arrays["labels"], arrays["label_counts"], arrays["outline_counts"]
    if not ((labels >= 0).all() and (labels[:, 1:] <= 1).all() and (arrays["sizes_hw"] >= 0).all()):
        raise ValueError("labels or sizes beyond what a scan allows")
    if ((outline_counts != 0) & (outline_counts != label_counts)).any():
        raise ValueError("neither as many polygons as boxes nor none")
    samples = Samples.from_counts(
        Texts(arrays["images"]),
        arrays["sizes_hw"],
        Ragged(labels, label_counts),
        outline_counts,
        Ragged(arrays["points"], arrays["point_counts"]),
    )
    image_notes, label_notes = Texts(arrays["image_notes"]), Texts(arrays["label_notes"])
    findings = Findings(samples, image_notes, arrays["status"], arrays["digests"], label_notes, arrays["states"])
    return Memory(findings, int(arrays["time_ns"][0]))
