"""CSV files of users."""

import csv
from collections.abc import Iterator
from pathlib import Path

from utils.errors import UserError


def read_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, words) of the rows that are not empty.

    Raises:
        UserError: the file is not UTF-8 text, or malformed.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            for row in reader:
                if any(row):
                    yield reader.line_num, [word.strip() for word in row]
    except UnicodeDecodeError as error:
        raise UserError(f"'{file}' is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except csv.Error as error:
        raise UserError(f"'{file}': malformed CSV: {error}") from error


def split_in_name(name: str) -> str:
    """Return the split that a file name tells, ``train`` when it tells none."""
    return next((split for split in ("train", "val", "test") if split in name.lower()), "train")
