"""Where the images of a data set are: the folders its ``path`` may mean, and what each of them lacks."""

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from utils.files import ROOT, datasets_dir

DATASETS_PREFIX = "../datasets/"
LINES_TRIED = 100  # of a text file of images; a list of which none exists belongs to a set that is not there

Entries = dict[str, list[str]]  # split -> its folders and text files as the YAML has them


@dataclass(frozen=True)
class Search:
    """What a data set YAML says about the place of its images.

    Attributes:
        file: the YAML.
        path: its ``path``, or None.
        entries: the splits it names.
        splits: those that are needed.
    """

    file: Path
    path: str | None
    entries: Entries
    splits: tuple[str, ...]

    @property
    def home(self) -> Path:
        """Where the data are put when they are made or fetched: in the data sets folder."""
        return _absolute(datasets_dir(), self.path.removeprefix(DATASETS_PREFIX) if self.path else self.file.stem)

    def roots(self) -> list[Path]:
        """Return the folders that the split paths may start from, likeliest first."""
        in_datasets = self.path is not None and self.path.startswith(DATASETS_PREFIX)
        first = [self.home] if in_datasets and os.environ.get("YOLOV5_DATASETS_DIR") else []
        bases = (self.file.parent, Path.cwd(), ROOT, datasets_dir())
        return list(dict.fromkeys([*first, *(_absolute(base, self.path or ".") for base in bases), self.home]))

    def found(self) -> Path | None:
        """Return the first root that has all that is needed, or None."""
        return next((root for root in self.roots() if not self.lacking(root)), None)

    def place_to_fill(self) -> Path:
        """Return the root that has a part of the needed, else ``home``."""
        needed = sum(len(self.entries[split]) for split in self.splits)
        partly = (root for root in self.roots() if self.path and len(self.lacking(root)) < needed)
        return next(partly, self.home)

    def lacking(self, root: Path) -> list[tuple[str, str]]:
        """Return what is needed and not below ``root``: (split, the missing thing in words)."""
        missing = []
        for split in self.splits:
            for path, placed in zip(self.entries[split], place(root, self.entries[split]), strict=True):
                absent = _absent(path, placed)
                if absent:
                    missing.append((split, absent))
        return missing

    def describe(self, *roots: Path) -> str:
        """Return which entries are missing in which of ``roots``, folders that lack the same together.

        Example: ``'images/val' (val) not found in '/a'; 'images/train' (train), 'images/val' (val) not found in '/b'``.
        """
        groups: dict[str, list[str]] = {}
        for root in roots:
            by_entry: dict[str, list[str]] = {}
            for split, absent in self.lacking(root):
                by_entry.setdefault(absent, []).append(split)
            text = ", ".join(f"{absent} ({' and '.join(dict.fromkeys(used))})" for absent, used in by_entry.items())
            if text:
                groups.setdefault(text, []).append(f"'{root}'")
        return "; ".join(f"{text} not found in {' or '.join(names)}" for text, names in groups.items())


def _absolute(base: Path, path: str) -> Path:
    """Join the two; symbolic links stay, for labels lie beside the link, not its target."""
    return Path(os.path.abspath(base / Path(path).expanduser()))


def place(root: Path, paths: list[str]) -> list[Path]:
    """Join ``paths`` to ``root``. A leading ``../`` that leads nowhere is dropped, as exports of some tools need."""
    placed = []
    for path in paths:
        joined, inside = _absolute(root, path), _absolute(root, path.removeprefix("../"))
        placed.append(inside if inside.exists() and not joined.exists() else joined)
    return placed


def _absent(path: str, placed: Path) -> str:
    if not placed.exists():
        return f"'{path}'"
    if placed.is_dir():
        return ""
    first = _listed_but_absent(placed)
    return f"'{first}', which '{path}' lists," if first else ""


def _listed_but_absent(file: Path) -> str:
    """Return the first line of a list of images of which none exists, else an empty text."""
    try:
        with file.open(encoding="utf-8-sig") as opened:
            lines = [line.strip() for line in islice(opened, LINES_TRIED) if line.strip()]
    except UnicodeDecodeError:  # reported when it is read as a list
        return ""
    exists = any((file.parent / line).exists() or Path(line).exists() for line in lines)
    return "" if exists or not lines else lines[0]
