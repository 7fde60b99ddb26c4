"""Writes a YOLO data set: ``images/<split>/``, ``labels/<split>/`` and ``<name>.yaml``."""

from typing import Any

import numpy as np

from utils.data.convert.geometry import LEAST_POINTS
from utils.data.convert.images import place_image
from utils.data.convert.records import Category, Reading, Thing
from utils.data.convert.report import Report
from utils.data.convert.writing import growing, ready_images
from utils.files import write_yaml

MIXED = "boxes written as polygons of 4 points, because other objects of their images are polygons"
SPLIT_KEYS = {"train": ("train",), "val": ("val", "minival", "dev"), "test": ("test",)}  # beginnings of split names


def write(reading: Reading, report: Report, boxes_only: bool, link: bool) -> None:
    """Write ``reading`` to ``report.destination``, whole or not at all.

    Raises:
        UserError: no image can be written.
    """
    class_of = {category: index for index, category in enumerate(reading.categories)}
    with growing(report.destination) as folder:
        for ready in ready_images(reading, report, boxes_only, clipped=True):
            place_image(ready.image, folder / "images" / ready.split / ready.path, link)
            labels = folder / "labels" / ready.split / ready.path.with_suffix(".txt")
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_bytes(label_text(ready.things, class_of, ready.size_hw).encode())
            if any(thing.polygon is not None for thing in ready.things):
                report.changes.update(MIXED for thing in ready.things if thing.polygon is None)
        content, notes = data_yaml(list(report.images_out), list(reading.categories.values()))
        report.notes += notes
        write_yaml(folder / f"{folder.name}.yaml", content)
        report.write(folder)


def label_text(things: list[Thing], class_of: dict[Category, int], size_hw: tuple[int, int]) -> str:
    """Return the label file: ``class x y width height`` rows, or polygons when one of ``things`` is a polygon.

    A row of 9 values or more is what makes the rows of a file polygons (v6.1's rule), so a file of triangles gets one
    with a point twice.
    """
    height, width = size_hw
    if all(thing.polygon is None for thing in things):
        rows = []
        for thing in things:
            left, top, right, bottom = thing.box  # type: ignore[misc]  # ready things have one
            values = ((left + right) / 2 / width, (top + bottom) / 2 / height)
            rows.append(_row(class_of[thing.category], [*values, (right - left) / width, (bottom - top) / height]))
        return "".join(rows)
    polygons = [_corners(thing) if thing.polygon is None else thing.polygon for thing in things]
    if max(map(len, polygons)) == LEAST_POINTS:
        polygons[0] = np.concatenate([polygons[0], polygons[0][-1:]])
    scale = np.array([width, height], np.float64)
    return "".join(
        _row(class_of[thing.category], (polygon / scale).ravel().tolist())
        for thing, polygon in zip(things, polygons, strict=True)
    )


def _corners(thing: Thing) -> np.ndarray:
    left, top, right, bottom = thing.box  # type: ignore[misc]
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def _row(index: int, values: list[float]) -> str:
    return ("%d" + " %.7f" * len(values) + "\n") % (index, *values)


def data_yaml(splits: list[str], names: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the content of the data YAML for folders ``images/<split>``, and what to tell the user about it."""
    keys: dict[str, list[str]] = {key: [] for key in SPLIT_KEYS}
    notes = []
    for split in sorted(splits):
        key = next((key for key, starts in SPLIT_KEYS.items() if split.lower().startswith(starts)), "train")
        keys[key].append(f"images/{split}")
    for key, other in (("train", "val"), ("val", "train")):
        if not keys[key]:
            keys[key] = keys[other] or keys["test"]
            mend = "make one with python -m utils.data.autosplit, or correct the YAML"
            notes.append(f"there is no {key} split, so the YAML names {', '.join(keys[key])} for it; {mend}")
    paths = {key: folders[0] if len(folders) == 1 else folders for key, folders in keys.items() if folders}
    return {"path": ".", **paths, "names": names}, notes
