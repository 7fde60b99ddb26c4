"""Pascal VOC XML: ``Annotations/*.xml``, images in ``JPEGImages``, splits in ``ImageSets/Main``.

One or several such folders (VOC2007, VOC2012) below the source become one data set; XML files beside their images, in
one folder a split or in one for all, are read, too. ``trainval`` only adds what ``train`` and ``val`` leave out.

Coordinates: VOC counts pixels from 1 and a box covers its last pixel, so ``xmin=1, xmax=width`` is the whole width
(v6.1 moves both corners by one pixel and loses the last). A 0 among them says that the tool counted from 0; then they
are taken as they are.
"""

import math
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element

from utils.data.convert.images import index_images
from utils.data.convert.records import Reading, Record, Thing, Unusable, by_name
from utils.data.convert.xml_files import read_xml, text_of
from utils.errors import UserError
from utils.log import progress

SPLITS = ("train", "val", "test")
IMAGE_FOLDERS = ("JPEGImages", "images", "Images", "jpgs")
DIFFICULT = "marked as difficult (kept with --keep-difficult)"
SIDES = ("xmin", "ymin", "xmax", "ymax")


def read(source: Path, names: list[str] | None = None, keep_difficult: bool = False) -> Reading:
    """Return what the XML files of ``source`` describe.

    Args:
        source: folder.
        names: the classes in their order; those in the files, sorted, when None.
        keep_difficult: keep objects marked as difficult, which v6.1 leaves out.

    Raises:
        UserError: there are no XML files.
    """
    notes: list[str] = []
    files = [(file, split, index) for root in _roots(source) for file, split, index in _files(root, source, notes)]
    bar = progress(files, "Reading XML", total=len(files), unit="file")
    records = [read_file(file, split, index, keep_difficult) for file, split, index in bar]
    reading = by_name(records, names)
    zeros = sum(min(thing.box[:2]) == 0 for record in records for thing in record.things if thing.box)
    if zeros:
        notes.append(f"{zeros} boxes begin at 0, so coordinates count from 0 and are taken as they are")
    else:
        for record in records:
            record.things = [_count_from_one(thing) for thing in record.things]
    reading.notes += notes
    return reading


def _count_from_one(thing: Thing) -> Thing:
    left, top, right, bottom = thing.box  # type: ignore[misc]  # each object of VOC has one
    return replace(thing, box=(left - 1, top - 1, right, bottom))


def _roots(source: Path) -> list[Path]:
    """Return the folders of XML files: those called Annotations, else all that hold any."""
    if source.is_file():
        raise UserError(f"'{source}' is a file, expected the folder of Annotations and JPEGImages")
    folders = sorted({file.parent for file in source.rglob("*.xml")})
    if not folders:
        raise UserError(f"'{source}' holds no XML files; expected Annotations/*.xml")
    return [folder for folder in folders if folder.name.lower() == "annotations"] or folders


def _files(annotations: Path, source: Path, notes: list[str]) -> list[tuple[Path, str, dict[str, Path]]]:
    """Return (XML file, split, index of the images) for one folder of XML files."""
    root = annotations.parent if annotations.name.lower() == "annotations" else annotations
    index = index_images([*(root / name for name in IMAGE_FOLDERS), annotations, root])
    stems = {file.stem: file for file in sorted(annotations.glob("*.xml"))}
    lists = _lists(root / "ImageSets" / "Main")
    if not lists:
        split = "train" if root in (annotations.parent, source) else root.name
        return [(file, split, index) for file in stems.values()]
    split_of: dict[str, str] = {}
    twice = 0
    for split, listed in lists.items():
        for stem in listed:
            twice += stem in split_of
            split_of.setdefault(stem, split)
    unlisted = len(stems.keys() - split_of.keys())
    if twice:
        notes.append(f"'{root}': {twice} images are in two lists of ImageSets/Main; each went to its first split")
    if unlisted:
        notes.append(f"'{root}': {unlisted} XML files are in no list of ImageSets/Main; they were not read")
    return [(annotations / f"{stem}.xml", split, index) for stem, split in split_of.items()]


def _lists(folder: Path) -> dict[str, list[str]]:
    """Return split -> stems as listed; what only trainval has goes to train."""
    lists = {}
    for split in (*SPLITS, "trainval"):
        try:
            text = (folder / f"{split}.txt").read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            continue
        except UnicodeDecodeError as error:
            raise UserError(f"'{folder / f'{split}.txt'}' is not a text file; expected one name a line") from error
        lists[split] = list(dict.fromkeys(line.split()[0] for line in text.splitlines() if line.strip()))
    known = {stem for split in ("train", "val") for stem in lists.get(split, ())}
    rest = [stem for stem in lists.pop("trainval", []) if stem not in known]
    if rest:
        lists["train"] = lists.get("train", []) + rest
    return lists


def read_file(file: Path, split: str, index: dict[str, Path], keep_difficult: bool) -> Record:
    """Return the record of one XML file, with the coordinates as they are there.

    Args:
        file: XML file.
        split: where it belongs.
        index: file name and stem -> image.
        keep_difficult: keep objects marked as difficult.
    """
    record = Record(file, split, file.stem, None)
    try:
        root = read_xml(file)
        if root.tag != "annotation":
            raise Unusable(f"no VOC file: its outermost element is '{root.tag}', not 'annotation'")
        filename = text_of(root, "filename").replace("\\", "/").rsplit("/", 1)[-1]
        image = index.get(file.stem) or index.get(filename) or index.get(Path(filename).stem)
        if image is None:
            raise Unusable(f"the image is missing: '{filename or file.stem}'")
    except FileNotFoundError:
        record.problem = "listed in ImageSets/Main, but there is no such XML file"
        return record
    except Unusable as error:
        record.problem = str(error)
        return record
    record.image, record.name, record.size_hw = image, image.name, _size(root)
    for number, element in enumerate(root.iter("object"), 1):
        name = text_of(element, "name")
        where = f"object {number} ({name or 'without name'})"
        try:
            record.things.append(_thing(element, where, name, keep_difficult))
        except Unusable as error:
            record.losses.append((where, str(error)))
    return record


def _size(root: Element) -> tuple[int, int] | None:
    try:
        height, width = (int(float(text_of(root, f"size/{side}"))) for side in ("height", "width"))
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def _thing(element: Element, where: str, name: str, keep_difficult: bool) -> Thing:
    if not name:
        raise Unusable("it has no name")
    if text_of(element, "difficult") not in ("", "0") and not keep_difficult:
        raise Unusable(DIFFICULT)
    words = [text_of(element, f"bndbox/{side}") for side in SIDES]
    try:
        left, top, right, bottom = map(float, words)
    except ValueError:
        raise Unusable(f"no box of four numbers: {' '.join(words).strip() or 'bndbox is missing'}") from None
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise Unusable(f"no box of four numbers: {' '.join(words)}")
    if right < left or bottom < top:
        raise Unusable(f"its corners are exchanged: {' '.join(words)}")
    return Thing(where, name, (left, top, right, bottom))
