"""VisDrone-DET: ``annotations/*.txt`` beside ``images/``, rows ``left,top,width,height,score,category,...``.

The source is such a folder, or holds several (``VisDrone2019-DET-train``, ``-val``, ``-test-dev``). As in v6.1, rows of
score 0 (ignored regions) are dropped; so is category 11 ("others"). Categories 1 to 10 become classes 0 to 9.
"""

from pathlib import Path

from utils.data.convert.geometry import corner_box
from utils.data.convert.images import index_images
from utils.data.convert.records import Category, Reading, Record, Thing, Unusable
from utils.errors import UserError

NAMES = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
OTHERS = 11
LEAST_VALUES = 6
CATEGORIES: dict[Category, str] = dict(enumerate(NAMES, 1))


def read(source: Path) -> Reading:
    """Return what the text files of ``source`` describe.

    Raises:
        UserError: there is no folder of annotations.
    """
    roots = (
        [source] if (source / "annotations").is_dir() else sorted(path.parent for path in source.glob("*/annotations"))
    )
    if not roots:
        raise UserError(f"'{source}' holds no folder 'annotations', nor does a folder in it; expected VisDrone-DET")
    wanted = [pair for root in roots for pair in _files(root)]
    return Reading(CATEGORIES, (read_file(*pair) for pair in wanted), len(wanted))


def _files(root: Path) -> list[tuple[Path, Path | None, str]]:
    """Return (text file, image, split) of one folder, sorted by stem; either of the first two may not exist."""
    split = next((split for split in ("train", "val", "test") if split in root.name.lower()), "train")
    index = index_images([root / "images"])
    images: dict[str, list[Path | None]] = {}
    for path in sorted(set(index.values())):
        images.setdefault(path.stem, []).append(path)
    stems = images.keys() | {path.stem for path in (root / "annotations").glob("*.txt")}
    return [
        (root / "annotations" / f"{stem}.txt", image, split)
        for stem in sorted(stems)
        for image in images.get(stem, [None])
    ]


def read_file(file: Path, image: Path | None, split: str) -> Record:
    """Return the record of one image; without a text file it has no objects."""
    record = Record(file, split, image.name if image else file.stem, image)
    record.problem = "" if image else f"the image is missing: '{file.stem}'"
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        lines = []
    except UnicodeDecodeError as error:
        record.problem = f"its annotations are no text: {error.reason}"
        lines = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                record.things.append(read_line(line, f"line {number}"))
            except Unusable as error:
                record.losses.append((f"line {number}", str(error)))
    return record


def read_line(line: str, where: str) -> Thing:
    """Return the object of one row; raise ``Unusable`` for a malformed or ignored one."""
    words = line.strip().strip(",").split(",")
    if len(words) < LEAST_VALUES:
        raise Unusable(f"{len(words)} values, expected 8: {line[:60]}")
    try:
        score, category = float(words[4]), int(words[5])
        box = corner_box([float(word) for word in words[:4]])
    except ValueError:
        raise Unusable(f"not all numbers: {line[:60]}") from None
    if category == 0 or score == 0:
        raise Unusable("ignored region or object (category or score 0)")
    if category not in CATEGORIES:
        raise Unusable("category 11 (others)" if category == OTHERS else f"unknown category: {category}")
    return Thing(where, category, box)
