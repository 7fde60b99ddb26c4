"""COCO JSON: ``annotations/instances_<split>.json`` with images beside, or one JSON file; polygons or boxes.

Categories become classes 0, 1, ... in the order of their ids. Crowd regions are dropped; a mask in run lengths keeps
its box and loses its outline; an outline of several parts becomes one polygon. The exports of Roboflow
(``train/_annotations.coco.json`` with the images beside) are read, too.
"""

import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.data.convert.geometry import corner_box, join_polygons, polygon_of
from utils.data.convert.json_files import list_of, read_json, size_of
from utils.data.convert.records import Category, Loss, Reading, Record, Thing, Unusable
from utils.errors import UserError
from utils.files import safe_name
from utils.log import LOGGER

CROWD = "crowd region"
RUN_LENGTHS = "masks in run lengths (RLE) kept as their boxes"
LESS_PARTS = "outlines with parts of fewer than 3 points, which were left out"
NO_OUTLINE = "malformed outlines replaced by their boxes"
SPLIT_IN_NAME = re.compile(r"(?:instances|annotations?)[_.-]+(\w+)")

Find = Callable[[str], Path | None]  # file name as annotated -> image file


@dataclass(frozen=True)
class Document:
    """One JSON file, the split it describes, and how its images are found."""

    file: Path
    split: str
    content: dict[str, Any]
    find: Find


def read(source: Path) -> Reading:
    """Return what the JSON files of ``source``, a folder or one of them, describe.

    Raises:
        UserError: there is none, or one is malformed or lacks its images, annotations or categories.
    """
    documents = []
    for file in find_json(source):
        LOGGER.info(f"reading '{file}'")
        split = split_of(file)
        root = file.parent.parent if file.parent.name == "annotations" else file.parent
        documents.append(Document(file, split, read_json(file), finder(root, split)))
    return read_documents(documents)


def find_json(source: Path) -> list[Path]:
    """Return the JSON files that ``source`` means, those of instances where there are several kinds."""
    if source.is_file():
        return [source]
    for pattern in ("annotations/instances_*.json", "instances_*.json", "annotations/*.json", "*.json", "*/*.json"):
        files = sorted(file for file in source.glob(pattern) if file.is_file())
        if files:
            return files
    raise UserError(f"'{source}' holds no annotations/instances_*.json nor another JSON file; name the file itself")


def split_of(file: Path) -> str:
    """Return the split that a file name tells: ``instances_val2017.json`` is ``val2017``, else its folder's name."""
    match = SPLIT_IN_NAME.fullmatch(file.stem)
    if match and match[1] != "coco":
        return safe_name(match[1])
    if file.parent.name.lower() in ("train", "val", "valid", "test"):
        return file.parent.name
    return next((split for split in ("train", "val", "test") if split in file.stem.lower()), "train")


def finder(root: Path, split: str) -> Find:
    """Return what finds images below ``root``: in images/<split>, images, <split>, and in root itself."""
    folders = [root / "images" / split, root / "images", root / split, root]
    folders = [folder for folder in folders if folder.is_dir()]

    def find(name: str) -> Path | None:
        inside = name.replace("\\", "/")
        for wanted in dict.fromkeys((inside, inside.rsplit("/", 1)[-1])):
            for folder in folders:
                if (folder / wanted).is_file():
                    return folder / wanted
        return None

    return find


def read_documents(documents: list[Document]) -> Reading:
    """Return the reading of several JSON files with common categories."""
    categories = merge_categories(documents)
    total = sum(len(list_of(document.file, document.content, "images")) for document in documents)
    reading = Reading(categories, (), total)
    reading.records = (record for document in documents for record in _records(document, reading))
    return reading


def merge_categories(documents: list[Document]) -> dict[Category, str]:
    """Return id -> name in the order of ids.

    Raises:
        UserError: a file has no categories or a malformed one, or an id has two names.
    """
    names: dict[Any, str] = {}
    for document in documents:
        for entry in list_of(document.file, document.content, "categories"):
            if not isinstance(entry, dict) or not _is_id(entry.get("id")) or not isinstance(entry.get("name"), str):
                raise UserError(f"{document.file}: category {str(entry)[:80]} has no id or name")
            if names.setdefault(entry["id"], entry["name"]) != entry["name"]:
                both = f"'{names[entry['id']]}' and '{entry['name']}'"
                raise UserError(f"{document.file}: category id {entry['id']} is called {both}; make the names agree")
    if not names:
        raise UserError(f"{documents[0].file}: 'categories' is empty; it names the classes")
    return {key: names[key] for key in sorted(names, key=lambda key: (isinstance(key, str), key))}


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _records(document: Document, reading: Reading) -> Iterator[Record]:
    file = str(document.file)
    images = list_of(document.file, document.content, "images")
    annotations = _by_image(document, images, reading)
    seen: set[Hashable] = set()
    for number, entry in enumerate(images):
        identity, name = (entry.get("id"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
        if not _is_id(identity) or not isinstance(name, str) or not name.strip():
            reading.lost_images.append(Loss(file, f"image number {number}", "no id or file_name"))
        elif identity in seen:
            reading.lost_images.append(Loss(file, f"image id {identity}", f"the id is used twice: '{name}' left out"))
        else:
            seen.add(identity)
            image = document.find(name)
            problem = "" if image else f"the image is missing: '{name}'"
            record = Record(document.file, document.split, name, image, size_of(entry, "height", "width"))
            record.problem = problem
            for annotation in annotations.get(identity, ()):
                _add(record, annotation, reading.categories)
            yield record
    for identity in annotations.keys() - seen:  # their images are among the lost
        for annotation in annotations[identity]:
            reading.lost_boxes.append(Loss(file, _where(annotation), f"its image is left out: id {identity}"))


def _by_image(document: Document, images: list[Any], reading: Reading) -> dict[Hashable, list[dict[str, Any]]]:
    """Return image id -> annotations; those of no image are lost, a second use of an id is told."""
    known = {entry["id"] for entry in images if isinstance(entry, dict) and _is_id(entry.get("id"))}
    groups: dict[Hashable, list[dict[str, Any]]] = {}
    used: set[Hashable] = set()
    repeated = []
    for number, annotation in enumerate(list_of(document.file, document.content, "annotations")):
        if not isinstance(annotation, dict) or not _is_id(annotation.get("image_id")):
            reading.lost_boxes.append(Loss(str(document.file), f"annotation number {number}", "no image_id"))
            continue
        identity = annotation.get("id")
        if _is_id(identity):
            if identity in used:
                repeated.append(identity)
            used.add(identity)
        if annotation["image_id"] in known:
            groups.setdefault(annotation["image_id"], []).append(annotation)
        else:
            reason = f"unknown image: id {annotation['image_id']}"
            reading.lost_boxes.append(Loss(str(document.file), _where(annotation), reason))
    if repeated:
        listed = f"{', '.join(map(str, repeated[:5]))}{', ...' if len(repeated) > 5 else ''}"
        reading.notes.append(f"{document.file}: {len(repeated)} annotation ids are used twice ({listed}); all are kept")
    return groups


def _where(annotation: dict[str, Any]) -> str:
    return f"annotation {annotation.get('id', 'without id')}"


def _add(record: Record, annotation: dict[str, Any], categories: dict[Category, str]) -> None:
    """Add one annotation to its record, or to the losses of it."""
    where = _where(annotation)
    try:
        category = annotation.get("category_id")
        if not _is_id(category) or category not in categories:
            raise Unusable(f"unknown category: id {category}")
        if annotation.get("iscrowd"):
            raise Unusable(f"{CROWD}: {categories[category]}")
        polygon, change = outline(annotation.get("segmentation"))
        try:
            box = corner_box(annotation.get("bbox"))
        except Unusable:
            if polygon is None:
                raise
            box = None
        record.things.append(Thing(where, category, box, polygon))
        record.changes += [change] if change else []
    except Unusable as error:
        record.losses.append((where, str(error)))


def outline(segmentation: Any) -> tuple[np.ndarray | None, str]:
    """Return the polygon (points, 2) in px that a ``segmentation`` means, or None; and what had to be changed."""
    if not segmentation:
        return None, ""
    if isinstance(segmentation, dict):
        return None, RUN_LENGTHS
    if not isinstance(segmentation, list):
        return None, NO_OUTLINE
    parts = segmentation if isinstance(segmentation[0], list) else [segmentation]  # some tools write one flat list
    usable = []
    for part in parts:
        try:
            usable.append(polygon_of(part))
        except Unusable:
            continue
    if not usable:
        return None, NO_OUTLINE
    return join_polygons(usable), LESS_PARTS if len(usable) < len(parts) else ""
