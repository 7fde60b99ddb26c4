"""What folders, patterns and list files name."""

import glob
import os
from pathlib import Path

from utils.data.listing import IMAGE_SUFFIXES, VIDEO_SUFFIXES, has_suffix
from utils.data.sources.naming import masked
from utils.data.sources.web import check_address, is_address, is_stream
from utils.errors import UserError, listed
from utils.log import LOGGER

LIST_SUFFIXES = ("txt", "streams")
OTHER_IMAGES = (
    *("avif", "heic", "heif", "ico", "j2k", "jfif", "jp2", "jpe", "jxl", "pbm", "pgm", "ppm", "psd", "svg", "tga"),
    *("arw", "cr2", "cr3", "nef", "orf", "raf", "rw2"),  # cameras' own
)
SUPPORTED = f"supported suffixes are {' '.join(IMAGE_SUFFIXES)} for images, {' '.join(VIDEO_SUFFIXES)} for videos"


def find_files(source: str) -> tuple[list[str], int]:
    """Return the image and video files of a file, folder (not searched deeper) or pattern, by name.

    Images of kinds that are not supported are left out with a warning; the second value is their number.

    Raises:
        UserError: there are none.
    """
    path = Path(source).expanduser()
    try:
        names = sorted(filter(_is_file, _candidates(source, path)))
    except OSError as error:
        raise UserError(f"--source '{source}' cannot be listed: {error.strerror}") from error
    files = [name for name in names if has_suffix(name, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))]
    others = [name for name in names if has_suffix(name, OTHER_IMAGES)]
    if not files:
        got = f"'{names[0]}' is neither an image nor a video" if names else "no files there"
        raise UserError(f"--source '{source}': {got}; {SUPPORTED}")
    if others:
        what = listed([f"'{name}'" for name in others])
        LOGGER.warning(f"WARNING: {what} skipped: {SUPPORTED}")
    return files, len(others)


def _is_file(name: str) -> bool:
    """Tell whether ``name`` is a file, or a link to one that is gone: which is reported when it is to be read."""
    return os.path.isfile(name) or not os.path.exists(name)


def _candidates(source: str, path: Path) -> list[str]:
    if path.is_dir():
        return [str(path / name) for name in os.listdir(path) if not name.startswith(".")]
    if path.is_file():
        return [str(path)]
    if glob.has_magic(source):
        return glob.glob(str(path), recursive=True)
    raise UserError(
        f"--source '{source}' does not exist; give an image or video file, a folder, a pattern like '*.jpg', "
        "a list file, the number of a camera, an address, 'screen' or '-'"
    )


def read_list(file: Path) -> list[str]:
    """Return what a list file names: either files, or streams and cameras.

    One a line; relative paths start from the folder of the list, or else from the working folder. Empty lines and
    those that begin with ``#`` do not count.

    Raises:
        UserError: it is no text, names nothing, both kinds, or something that cannot be used.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"--source '{file}' is not a text file; expected one file or address a line") from error
    except OSError as error:
        raise UserError(f"--source '{file}' cannot be read: {error.strerror}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not numbered:
        raise UserError(f"--source '{file}' names nothing; expected one file or address a line")
    streams = [is_stream(line) for _, line in numbered]
    for (number, line), is_live in zip(numbered, streams, strict=True):
        if is_live != streams[0]:
            kinds = ("a stream", "a file") if is_live else ("a file", "a stream")
            raise UserError(
                f"--source '{file}', line {number}: '{masked(line)}' is {kinds[0]}, the first entry {kinds[1]}; "
                "put streams and files into lists of their own"
            )
    return [_entry(file, number, line) for number, line in numbered]


def _entry(file: Path, number: int, line: str) -> str:
    """Return one line of a list as a path, an address or the number of a camera."""
    if is_address(line):
        check_address(line)
        return line
    if is_stream(line):
        return line
    if not has_suffix(line, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)):
        raise UserError(f"--source '{file}', line {number}: '{line}' is neither an address nor a file; {SUPPORTED}")
    beside = os.path.normpath(file.parent / Path(line).expanduser())
    return beside if os.path.exists(beside) or not os.path.exists(line) else line
