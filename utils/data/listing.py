"""Which images a split has, and where their labels are: the rules of YOLOv5 v6.1."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from utils.errors import UserError

IMAGE_SUFFIXES = ("bmp", "dng", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
VIDEO_SUFFIXES = ("asf", "avi", "gif", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "wmv")
IMAGES_FOLDER, LABELS_FOLDER = f"{os.sep}images{os.sep}", f"{os.sep}labels{os.sep}"


@dataclass(frozen=True)
class ImageList(Sequence[Path]):
    """Image files by name; a path is made when asked for, because a hundred thousand of them take half a second.

    Attributes:
        names: the files.
    """

    names: list[str]

    @classmethod
    def of(cls, images: Sequence[Path]) -> "ImageList":
        """Return ``images`` as such a list."""
        return images if isinstance(images, ImageList) else cls([str(image) for image in images])

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "ImageList": ...
    def __getitem__(self, index: int | slice) -> "Path | ImageList":
        if isinstance(index, slice):
            return ImageList(self.names[index])
        return Path(self.names[index])


def has_suffix(path: str | Path, suffixes: Iterable[str]) -> bool:
    """Tell whether the file name ends in one of ``suffixes``, in upper or lower case."""
    return os.path.splitext(path)[1].lower().lstrip(".") in suffixes


def label_path(image: Path) -> Path:
    """Return where the labels of ``image`` are: its last ``images`` folder becomes ``labels``, its suffix ``.txt``."""
    return Path(label_name(str(image)))


def label_name(image: str) -> str:
    """Return the same as :func:`label_path` for names."""
    stem, _, suffix = image.rpartition(".")
    if not stem or os.sep in suffix:  # the dot is elsewhere
        stem = image
    before, found, behind = stem.rpartition(IMAGES_FOLDER)
    return f"{before}{found and LABELS_FOLDER}{behind}.txt"


def printable(name: str) -> str:
    """Return ``name`` with escapes for what does not belong into a line of text, such as line ends."""
    return name if name.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)


def list_images(entries: Iterable[Path]) -> ImageList:
    """Return the image files of a split in v6.1's order.

    Args:
        entries: folders, searched to any depth (hidden files excepted), and text files with one image path a line.

    Raises:
        UserError: an entry is neither a folder nor a text file, or cannot be read.
    """
    found: list[str] = []
    for entry in entries:
        if entry.is_dir():
            found += _walk(str(entry), (os.path.realpath(entry),))
        elif entry.is_file():
            found += filter(_is_image, _read_list(entry))
        else:
            raise UserError(f"'{entry}' is neither a folder of images nor a text file that lists images")
    return ImageList(sorted(found))


def _is_image(name: str) -> bool:
    """Do as :func:`has_suffix` in half the time."""
    stem, _, suffix = name.rpartition(".")
    return bool(stem) and suffix.lower() in IMAGE_SUFFIXES


def _walk(folder: str, above: tuple[str, ...]) -> Iterator[str]:
    """Yield the images in ``folder`` and below; ``above`` are the real folders that led here, not entered again."""
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"folder '{folder}' cannot be listed ({error.strerror}); check its permissions") from error
    for entry in entries:
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            if real not in above:
                yield from _walk(entry.path, (*above, real))
        elif _is_image(entry.name):
            yield entry.path


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
