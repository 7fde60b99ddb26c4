"""Remembers the findings of a scan, so that the next run does not open every image again.

One ``.npz`` of flat arrays without pickles, beside the labels or in ``$YOLOV5_CACHE_DIR``. It is used only while every
path, size and time of change is the same; a cache that is unreadable, foreign or out of date is made anew.
"""

import hashlib
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from utils.data.labels import Sample, Scan, label_path, scan_images
from utils.files import atomic_write
from utils.log import LOGGER

VERSION = 1  # raise when the rules of the scan or the arrays below change


def cached_scan(images: list[Path], entries: list[Path], description: str) -> tuple[Scan, bool]:
    """Scan ``images``, or recall the scan when nothing changed since.

    Args:
        images: image files, at least one.
        entries: the folders or lists of the split; they name the cache file.
        description: text before the progress bar.

    Returns:
        the findings, and whether they came from the cache.
    """
    file, key = cache_file(images, entries), _fingerprint(images)
    scan = _load(file, key, images)
    if scan is not None:
        return scan, True
    scan = scan_images(images, description)
    try:
        _save(file, key, images, scan)
    except OSError as error:
        LOGGER.debug(f"label cache '{file}' not written: {error}")
    return scan, False


def cache_file(images: list[Path], entries: list[Path]) -> Path:
    """Return where the scan of ``images`` is kept: beside their labels, named by the ``entries`` of the split."""
    labels_folder = label_path(images[0]).parent
    folder = Path(os.environ.get("YOLOV5_CACHE_DIR") or labels_folder.parent)
    digest = hashlib.sha256("\n".join(map(str, entries)).encode()).hexdigest()[:8]
    return folder / f"{labels_folder.name}-{digest}.cache"


def _fingerprint(images: list[Path]) -> str:
    digest = hashlib.sha256(str(VERSION).encode())
    for path in (*images, *map(label_path, images)):
        try:
            status = os.stat(path)
            digest.update(f"{path}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{path}|absent\n".encode())
    return digest.hexdigest()


def _save(file: Path, key: str, images: list[Path], scan: Scan) -> None:
    samples, positions = scan.samples, {path: position for position, path in enumerate(images)}
    segments = [segment for sample in samples for segment in sample.segments]
    arrays: dict[str, Any] = {
        "key": np.array(key),
        "counts": np.array([scan.found, scan.missing, scan.empty, scan.corrupt]),
        "warnings": np.array("\n".join(scan.warnings)),
        "positions": np.array([positions[sample.image] for sample in samples], np.int64),
        "sizes_hw": np.array([sample.size_hw for sample in samples], np.int64).reshape(-1, 2),
        "label_counts": np.array([len(sample.labels) for sample in samples], np.int64),
        "labels": np.concatenate([np.zeros((0, 5), np.float32), *(sample.labels for sample in samples)]),
        "segment_counts": np.array([len(sample.segments) for sample in samples], np.int64),
        "point_counts": np.array([len(segment) for segment in segments], np.int64),
        "points": np.concatenate([np.zeros((0, 2), np.float32), *segments]),
    }
    with atomic_write(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def _load(file: Path, key: str, images: list[Path]) -> Scan | None:
    """Return the findings in ``file`` if it was written for exactly this data, else None."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            if str(archive["key"]) != key:
                return None
            arrays = {name: archive[name] for name in archive.files}
        segments = _split(arrays["points"], arrays["point_counts"])
        label_groups = _split(arrays["labels"], arrays["label_counts"])
        ends = np.cumsum(arrays["segment_counts"])
        samples = [
            Sample(images[position], (int(height), int(width)), labels, segments[end - count : end])
            for position, (height, width), labels, end, count in zip(
                arrays["positions"], arrays["sizes_hw"], label_groups, ends, arrays["segment_counts"], strict=True
            )
        ]
        found, missing, empty, corrupt = map(int, arrays["counts"])
        return Scan(samples, found, missing, empty, corrupt, str(arrays["warnings"]).splitlines())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        LOGGER.debug(f"label cache '{file}' not used: {error}")
        return None


def _split(rows: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Cut ``rows`` into consecutive groups of ``counts`` rows."""
    return np.split(rows, np.cumsum(counts)[:-1]) if len(counts) else []
