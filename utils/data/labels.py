"""Images and their label files: finding them, reading them, and saying what is wrong with them.

The rules are those of YOLOv5 v6.1, except that user files are never changed and duplicate polygons are handled.
"""

import glob
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from utils.boxes import xyxy_to_xywh
from utils.errors import UserError
from utils.log import progress

IMAGE_SUFFIXES = ("bmp", "dng", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
VIDEO_SUFFIXES = ("asf", "avi", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "wmv")
MIN_SIDE = 10  # px
BOX_VALUES = 5  # class x y width height
POLYGON_VALUES = 9  # one row this long makes every row of the file a polygon
EXIF_ORIENTATION = 0x0112
SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
SCAN_THREADS = 8


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


@dataclass
class Scan:
    """What a split was found to hold: usable samples, and counts and one-line warnings about the rest.

    An image is *missing* its label file or the file was *found*; a found file may be *empty*; a fault of the image or
    of its labels makes it *corrupt* and leaves it out of ``samples``.
    """

    samples: list[Sample] = field(default_factory=list)
    found: int = 0
    missing: int = 0
    empty: int = 0
    corrupt: int = 0
    warnings: list[str] = field(default_factory=list)

    def add(self, other: "Scan") -> None:
        """Append the findings of ``other``."""
        self.samples += other.samples
        self.found += other.found
        self.missing += other.missing
        self.empty += other.empty
        self.corrupt += other.corrupt
        self.warnings += other.warnings

    def summary(self) -> str:
        """Return ``"126 found, 2 missing, 0 empty, 0 corrupt"``."""
        return f"{self.found} found, {self.missing} missing, {self.empty} empty, {self.corrupt} corrupt"


def has_suffix(path: str | Path, suffixes: Iterable[str]) -> bool:
    """Tell whether the file name ends in one of ``suffixes``, in upper or lower case."""
    return os.path.splitext(path)[1].lower().lstrip(".") in suffixes


def label_path(image: Path) -> Path:
    """Return where the labels of ``image`` are: its last ``images`` folder becomes ``labels``, its suffix ``.txt``."""
    parts = list(image.parts)
    for position in range(len(parts) - 2, 0, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def list_images(entries: Iterable[Path]) -> list[Path]:
    """Return the image files of a split in v6.1's order.

    Args:
        entries: folders, searched to any depth (hidden files excepted), and text files with one image path a line.

    Raises:
        UserError: an entry is neither a folder nor a text file.
    """
    found: list[str] = []
    for entry in entries:
        if entry.is_dir():
            found += glob.glob(os.path.join(glob.escape(str(entry)), "**", "*.*"), recursive=True)
        elif entry.is_file():
            found += _read_list(entry)
        else:
            raise UserError(f"'{entry}' is neither a folder of images nor a text file that lists images")
    return [Path(name) for name in sorted(found) if has_suffix(name, IMAGE_SUFFIXES)]


def _read_list(file: Path) -> list[str]:
    """Return the paths that ``file`` lists; relative ones start from its folder, or from the working folder."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"'{file}' is not a text file; expected one image path a line") from error
    names = []
    for line in filter(None, lines):
        beside = os.path.normpath(file.parent / line)
        is_beside = line.startswith(("./", ".\\")) or not os.path.exists(line)
        names.append(beside if is_beside else os.path.abspath(line))
    return names


def parse_labels(text: str) -> tuple[np.ndarray, list[np.ndarray], str | None]:
    """Read the rows of a label file: ``class x y width height``, or polygons ``class x1 y1 x2 y2 ...``, all in 0..1.

    When any row has more than 8 values, every row is a polygon (v6.1's rule).

    Returns:
        labels: (n, 5) float32 class, x, y, width, height; (0, 5) when there is a problem.
        segments: n polygons (points, 2) float32, or none when the rows are boxes.
        problem: None, or the line number and reason of the first malformed row, as ``"3: 4 values, expected ..."``.
    """
    lines = text.rstrip().splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line and number > first]
    as_polygons = any(len(words) >= POLYGON_VALUES for _, words in rows)
    labels, segments = [], []
    for number, words in rows:
        try:
            label, segment = _parse_row(words, as_polygons)
        except ValueError as error:
            return np.zeros((0, 5), np.float32), [], f"{number}: {error}"
        labels.append(label)
        segments.append(segment)
    return np.array(labels, np.float32).reshape(-1, 5), segments if as_polygons else [], None


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
    return label, points


def _to_number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise ValueError(f"'{word}' is not a number") from None


def _show(values: np.ndarray) -> str:
    return f"{values[0]:.6g}"


def drop_duplicates(labels: np.ndarray, segments: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the distinct rows of (n, 5) ``labels`` in sorted order, with their polygons; unchanged if all differ."""
    distinct, positions = np.unique(labels, axis=0, return_index=True)
    if len(distinct) == len(labels):
        return labels, segments
    return distinct, [segments[position] for position in positions] if segments else []


def check_image(path: Path) -> tuple[tuple[int, int], str | None]:
    """Check that an image can be used, reading little more than its header.

    Returns:
        size_hw: height and width in px, after EXIF rotation.
        warning: None, or what is odd about it.

    Raises:
        ValueError: it cannot be used; the message says why.
    """
    try:
        with Image.open(path) as image:
            size_hw, file_format = _upright_hw(image), str(image.format).lower()
            image.verify()
        if min(size_hw) < MIN_SIDE:
            raise ValueError(f"{size_hw[1]}x{size_hw[0]} px, expected at least {MIN_SIDE} px a side")
        if file_format not in IMAGE_SUFFIXES:
            raise ValueError(f"holds {file_format} data, expected one of {' '.join(IMAGE_SUFFIXES)}")
        if file_format in ("jpeg", "mpo") and not _ends_like_jpeg(path):
            with Image.open(path) as image:
                image.load()
            return size_hw, "JPEG without end marker at its end; used as it is"
    except ValueError:
        raise
    except Exception as error:  # Pillow's readers raise many kinds (SyntaxError, struct.error, ...) on broken files
        raise ValueError(
            f"cannot be read ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error
    return size_hw, None


def _upright_hw(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if "exif" in image.info and image.getexif().get(EXIF_ORIENTATION) in SIDEWAYS:  # elsewhere Pillow would decode
        return width, height
    return height, width


def _ends_like_jpeg(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-2, os.SEEK_END)
        return file.read() == b"\xff\xd9"


def scan_image(image: Path) -> Scan:
    """Check one image and its labels; return the one-image findings."""
    scan, labels_file = Scan(), label_path(image)
    try:
        size_hw, warning = check_image(image)
    except ValueError as error:
        return Scan(corrupt=1, warnings=[f"{image}: image ignored: {error}"])
    if warning:
        scan.warnings.append(f"{image}: {warning}")
    try:
        text = labels_file.read_text(encoding="utf-8-sig")
        scan.found = 1
    except FileNotFoundError:
        text, scan.missing = "", 1
    except (OSError, UnicodeDecodeError) as error:
        return Scan(found=1, corrupt=1, warnings=[f"{labels_file}: image ignored: {error}"])
    labels, segments, problem = parse_labels(text)
    if problem:
        return Scan(found=1, corrupt=1, warnings=[*scan.warnings, f"{labels_file}:{problem}; image ignored"])
    scan.empty = int(scan.found and len(labels) == 0)
    rows = len(labels)
    labels, segments = drop_duplicates(labels, segments)
    if len(labels) < rows:
        scan.warnings.append(f"{labels_file}: {rows - len(labels)} duplicate rows ignored")
    scan.samples.append(Sample(image, size_hw, labels, segments))
    return scan


def scan_images(images: list[Path], description: str) -> Scan:
    """Check all ``images`` and their labels, with a progress bar under ``description``; the order is kept."""
    total = Scan()
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        for scan in progress(pool.map(scan_image, images), description, total=len(images), unit="img"):
            total.add(scan)
    return total
