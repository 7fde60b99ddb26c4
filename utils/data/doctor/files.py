"""Files: images and label files that cannot be used and why, that lack their partner, or that share one."""

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from utils.data.doctor.findings import MOST_EXAMPLES, Example, Finding, Picture, phrase
from utils.data.doctor.split import Split
from utils.data.headers import check_image
from utils.data.labels import BOX_VALUES, parse_labels
from utils.data.listing import IMAGE_SUFFIXES, has_suffix, label_name, label_path, printable

LEAST_PIXEL = 2  # a coordinate above this is no fraction, however generous
NO_LABELS = ("classes.txt", "labels.txt", "names.txt", "predefined_classes.txt", "notes.txt", "readme.txt")
REPEATED_ROWS = re.compile(r"(?P<file>.+): (?P<count>\d+) duplicate rows ignored")
DOUBTFUL_ROW = re.compile(r"(?P<place>.+\.txt:\d+): (?P<reason>.+)")
NOTE = re.compile(r"(?P<file>.+?): (?P<reason>.+)")
FRACTION = "is not a whole number"  # a doubt that classes.py has, too
NO_BOXES = np.zeros((0, 5), np.float32)


def file_findings(splits: Sequence[Split]) -> list[Finding]:
    """Look into the label files of unusable images, and into the folders."""
    found = []
    for split in splits:
        found += [*_unusable(split), *_warnings(split), *_without_labels(split), *_shared_labels(split)]
    return [*found, *_orphans(splits), *_listed_twice(splits)]


def _unusable(split: Split) -> list[Finding]:
    usable = set(split.samples.images)
    cases: dict[str, list[Example]] = defaultdict(list)
    for name in split.listed.names:
        if name not in usable:
            kind, example = explain_unusable(Path(name), split.name)
            cases[kind].append(example)
    return [Finding(kind, split.name, len(examples), examples[:MOST_EXAMPLES]) for kind, examples in cases.items()]


def explain_unusable(image: Path, split: str) -> tuple[str, Example]:
    """Return the kind of fault that makes ``image`` unusable, and where it is."""
    try:
        size_hw, _ = check_image(image)
    except ValueError as error:
        return "image-corrupt", Example(image, str(error))
    file = label_path(image)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return "labels-corrupt", Example(file, str(error))
    problem = parse_labels(text)[2] or "1: read without a fault now; run this again"
    number, reason = problem.split(": ", 1)
    place, pictures = Path(f"{file}:{number}"), (Picture(image, split, NO_BOXES),)
    rows = _numbers(text)
    if looks_like_pixels(rows, size_hw):
        return "labels-pixels", Example(place, f"pixels? {reason}", pictures=pictures)
    if class_looks_last(rows):
        reason += "; is the class the last column?"
    return "labels-corrupt", Example(place, reason, pictures=pictures)


def _numbers(text: str) -> list[list[float]]:
    """Return the values of the rows that hold nothing but numbers."""
    rows = []
    for line in text.splitlines():
        try:
            rows.append([float(word) for word in line.split()])
        except ValueError:
            continue
    return [row for row in rows if row]


def looks_like_pixels(rows: Sequence[Sequence[float]], size_hw: tuple[int, int]) -> bool:
    """Tell whether the coordinates in ``rows`` of class and coordinates are pixels of an image of ``size_hw``."""
    values = np.array([value for row in rows for value in row[1:]])
    if not len(values) or values.max() <= LEAST_PIXEL or values.min() < 0:
        return False
    return bool((values > 1).mean() >= 0.5 and values.max() <= max(size_hw))


def class_looks_last(rows: Sequence[Sequence[float]]) -> bool:
    """Tell whether all ``rows`` are four fractions and a class."""
    return bool(rows) and all(
        len(row) == BOX_VALUES and max(row[:4]) <= 1 and not row[0].is_integer() and row[4].is_integer() for row in rows
    )


def _warnings(split: Split) -> list[Finding]:
    """Return what the scan said of usable images and their label files, as far as no other check finds it."""
    cases: dict[str, list[Example]] = defaultdict(list)
    repeated, usable = 0, set(map(printable, split.samples.images))
    for line in split.scan.warnings:
        if match := REPEATED_ROWS.fullmatch(line):
            repeated += int(match["count"])
            cases["row-twice"].append(Example(Path(match["file"]), phrase("row-twice", int(match["count"]))))
        elif (match := DOUBTFUL_ROW.fullmatch(line)) and FRACTION not in line and "image ignored" not in line:
            cases["row-doubtful"].append(Example(Path(match["place"]), match["reason"]))
        elif (match := NOTE.fullmatch(line)) and match["file"] in usable:
            cases["image-incomplete"].append(Example(Path(match["file"]), match["reason"]))
    counts = {kind: len(examples) for kind, examples in cases.items()} | ({"row-twice": repeated} if repeated else {})
    return [Finding(kind, split.name, counts[kind], examples[:MOST_EXAMPLES]) for kind, examples in cases.items()]


def _without_labels(split: Split) -> list[Finding]:
    bare = np.flatnonzero(split.samples.label_counts == 0)
    found = []
    if len(split.samples) and len(bare) == len(split.samples):
        expected = label_path(split.samples.image(0))
        found.append(Finding("split-unlabelled", split.name, 1, [Example(expected, "expected there")]))
    elif 2 * len(bare) > len(split.samples):
        found += split.found_images("backgrounds", bare, lambda _: "")
    if split.scan.missing:
        missing = [index for index in bare.tolist() if not label_path(split.samples.image(index)).exists()]
        found += split.found_images("labels-missing", np.array(missing, np.int64), lambda _: "")
    return found


def _shared_labels(split: Split) -> list[Finding]:
    partners: dict[str, list[Path]] = defaultdict(list)
    names = dict.fromkeys(split.listed.names)
    files = list(map(label_name, names))
    if len(set(files)) == len(files):
        return []
    for name, file in zip(names, files, strict=True):
        partners[file].append(Path(name))
    shared = [Path(file) for file, images in partners.items() if len(images) > 1 and os.path.exists(file)]
    examples = [_shared_example(file, partners[str(file)], split.name) for file in shared[:MOST_EXAMPLES]]
    return [Finding("labels-shared", split.name, len(shared), examples)] if shared else []


def _shared_example(file: Path, images: Sequence[Path], split: str) -> Example:
    names = " and ".join(image.name for image in images)
    return Example(file, f"of {names}", pictures=tuple(Picture(image, split, NO_BOXES) for image in images[:2]))


def _orphans(splits: Sequence[Split]) -> list[Finding]:
    """Find label files beside the used ones whose image is not there, in whatever split."""
    folders: dict[Path, set[str]] = defaultdict(set)  # folder of labels: folders of their images
    for folder in {os.path.dirname(name) for split in splits for name in split.listed.names}:
        folders[label_path(Path(folder, "x.jpg")).parent].add(folder)
    orphans: list[Path] = []
    for labels, images in sorted(folders.items()):
        stems = {os.path.splitext(name)[0] for folder in images for name in _names(folder) if _is_image(name)}
        files = {os.path.splitext(name)[0]: name for name in _names(labels) if _is_label_file(name)}
        orphans += [labels / files[stem] for stem in sorted(files.keys() - stems)]
    names = ", ".join(split.name for split in splits)
    examples = [Example(file) for file in orphans[:MOST_EXAMPLES]]
    return [Finding("labels-orphan", names, len(orphans), examples)] if orphans else []


def _names(folder: str | Path) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def _is_image(name: str) -> bool:
    return has_suffix(name, IMAGE_SUFFIXES)


def _is_label_file(name: str) -> bool:
    return name.endswith(".txt") and not name.startswith(".") and name.lower() not in NO_LABELS


def _listed_twice(splits: Sequence[Split]) -> list[Finding]:
    """Find files that belong to two splits, by name only."""
    found = []
    for position, split in enumerate(splits):
        for other in splits[:position]:
            both = sorted(set(split.listed.names) & set(other.listed.names))
            where = f"{other.name} and {split.name}"
            examples = [
                Example(Path(name), pictures=(Picture(Path(name), where, NO_BOXES),)) for name in both[:MOST_EXAMPLES]
            ]
            found += [Finding("leak", f"{other.name}, {split.name}", len(both), examples)] if both else []
    return found


def place(example: Example) -> str:
    """Return where to look, as ``"file:line"`` if the example is about one row that is found, else ``"file"``."""
    if example.file is None:
        return ""
    if example.rows is None:
        return str(example.file)
    numbers = line_numbers(example.file, example.rows)
    return f"{example.file}:{','.join(map(str, numbers))}" if numbers else str(example.file)


def line_numbers(file: Path, rows: np.ndarray) -> list[int]:
    """Return the line of ``file`` that each of (k, 5) ``rows`` was read from; none if the file is another now."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return []
    numbers = [number for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    labels = parse_labels(text)[0]
    if len(labels) != len(numbers):
        return []
    lines = [np.flatnonzero((labels == row).all(1)) for row in rows]
    return [numbers[line[0]] for line in lines if len(line)]
