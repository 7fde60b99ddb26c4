"""Writes COCO JSON: ``annotations/instances_<split>.json`` beside ``images/<split>/``."""

import json
from typing import Any

import numpy as np

from utils.data.convert.geometry import extent
from utils.data.convert.images import place_image
from utils.data.convert.records import Category, Reading, Thing
from utils.data.convert.report import Report
from utils.data.convert.writing import Ready, growing, ready_images


def write(reading: Reading, report: Report, boxes_only: bool, link: bool) -> None:
    """Write ``reading`` to ``report.destination``, whole or not at all.

    Category ids are class numbers, from 0. Image ids are the numbers that the files are named after, where all of a
    split are named so and differ, else 1, 2, ... Objects stay as they are, also where they reach beyond their images.

    Raises:
        UserError: no image can be written.
    """
    class_of = {category: index for index, category in enumerate(reading.categories)}
    categories = [{"id": index, "name": name} for index, name in enumerate(reading.categories.values())]
    documents: dict[str, list[Ready]] = {}
    with growing(report.destination) as folder:
        for ready in ready_images(reading, report, boxes_only, clipped=False):
            place_image(ready.image, folder / "images" / ready.split / ready.path, link)
            documents.setdefault(ready.split, []).append(ready)
        (folder / "annotations").mkdir()
        for split, images in documents.items():
            content = {**document(images, class_of), "categories": categories}
            text = json.dumps(content, ensure_ascii=False, allow_nan=False)
            (folder / "annotations" / f"instances_{split}.json").write_text(text, encoding="utf-8")
        report.write(folder)


def document(images: list[Ready], class_of: dict[Category, int]) -> dict[str, Any]:
    """Return ``images`` and ``annotations`` of one split."""
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, ready in zip(image_ids(images), images, strict=True):
        height, width = ready.size_hw
        entries.append({"id": image_id, "file_name": str(ready.path), "width": width, "height": height})
        for thing in ready.things:
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": class_of[thing.category]}
            annotations.append(ids | shape(thing))
    return {"images": entries, "annotations": annotations}


def image_ids(images: list[Ready]) -> list[int]:
    """Return the numbers the files are called after if all differ, else 1 to n."""
    stems = [ready.path.stem for ready in images]
    numbers = [int(stem) for stem in stems if stem.isascii() and stem.isdigit()]
    return numbers if len(numbers) == len(set(numbers)) == len(stems) else list(range(1, len(stems) + 1))


def shape(thing: Thing) -> dict[str, Any]:
    """Return bbox, area, segmentation and iscrowd of one annotation, in px with all digits."""
    if thing.polygon is None:
        left, top, right, bottom = thing.box  # type: ignore[misc]  # one of both is there
        width, height = right - left, bottom - top
        return {"bbox": [left, top, width, height], "area": width * height, "segmentation": [], "iscrowd": 0}
    left, top, right, bottom = extent(thing.polygon)
    x, y = thing.polygon.T
    area = abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
    box = [left, top, right - left, bottom - top]
    return {"bbox": box, "area": area, "segmentation": [thing.polygon.ravel().tolist()], "iscrowd": 0}
