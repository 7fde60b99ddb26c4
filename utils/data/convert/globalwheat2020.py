"""Global Wheat Head Detection: CSV files with the images somewhere below, one class.

Both published tables are read: one row a box, ``image_id,width,height,bbox,source`` of ``[left, top, width, height]``;
one row an image, ``image_name,BoxesString,domain`` with ``left top right bottom;...`` or ``no_box``. The name of a
file tells the split. Written from what is known of the format and tried on made examples only.
"""

from collections.abc import Iterator
from pathlib import Path

from utils.data.convert.csv_files import read_rows, split_in_name
from utils.data.convert.geometry import corner_box, numbers
from utils.data.convert.images import index_images
from utils.data.convert.records import Box, Reading, Record, Thing, Unusable
from utils.errors import UserError

NAME = "wheat_head"
NO_BOX = ("", "no_box", "nan")


def read(source: Path) -> Reading:
    """Return what the CSV files of ``source`` describe; images that no row names have no boxes and are not read.

    Raises:
        UserError: there are none, or the columns of one are others.
    """
    files = sorted(source.glob("*.csv")) or sorted(source.glob("*/*.csv"))
    if not files:
        raise UserError(f"'{source}' holds no CSV files")
    index = index_images([source], deep=True)
    records: dict[tuple[str, str], Record] = {}
    for file in files:
        split = split_in_name(file.stem)
        for where, name, word in _boxes(file):
            record = records.get((split, name))
            if record is None:
                image = index.get(name)
                problem = "" if image else f"the image is missing: '{name}'"
                record = records[split, name] = Record(file, split, name, image, problem=problem)
            if word.lower() not in NO_BOX:
                _add(record, word, where)
    return Reading({NAME: NAME}, records.values(), len(records))


def _boxes(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (place, image name, box as text); an image without boxes comes once, with an empty text."""
    rows = read_rows(file)
    _, header = next(rows, (0, []))
    image, boxes = (("image_id", "bbox"), ("image_name", "BoxesString"))["BoxesString" in header]
    if image not in header or boxes not in header:
        got = " ".join(", ".join(header).split())[:80]
        raise UserError(f"{file}:1: columns {got}; expected image_id, bbox or image_name, BoxesString")
    for line, words in rows:
        row = dict(zip(header, words, strict=False))
        parts = row.get(boxes, "").split(";")
        for number, part in enumerate(parts, 1):
            yield f"line {line}" + (f" box {number}" if len(parts) > 1 else ""), row.get(image, ""), part.strip()


def _add(record: Record, word: str, where: str) -> None:
    try:
        record.things.append(Thing(where, NAME, _box(word)))
    except Unusable as error:
        record.losses.append((where, str(error)))


def _box(word: str) -> Box:
    if word.startswith("["):
        return corner_box(word.strip("[]").split(","))
    left, top, right, bottom = numbers(word.split(), 4)
    return left, top, right, bottom
