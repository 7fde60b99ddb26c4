"""A YOLO data set, by its data YAML or the folder that holds it: boxes and polygons, read by the rules of training."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from utils.data.config import DatasetConfig, load_dataset_config
from utils.data.convert.geometry import extent, numbers, polygon_of
from utils.data.convert.images import read_size
from utils.data.convert.records import Category, Reading, Record, Thing, Unusable
from utils.data.listing import label_path, list_images
from utils.errors import UserError

BOX_VALUES = 5  # class x y width height
POLYGON_VALUES = 9  # one row this long makes every row of the file a polygon, as in training


def read(source: Path) -> Reading:
    """Return what the data YAML at ``source``, or the only one in it, describes.

    Raises:
        UserError: there is not exactly one YAML, or it is not usable.
    """
    config = load_dataset_config(str(_yaml_in(source)))
    categories: dict[Category, str] = {index: name for index, name in config.names.items()}
    reading = Reading(categories, (), 0)
    images = [pair for split in _distinct_splits(config, reading.notes) for pair in _images(config, split)]
    reading.records = (_record(image, name, split, reading) for split, image, name in images)
    reading.total = len(images)
    return reading


def _yaml_in(source: Path) -> Path:
    if source.is_file():
        return source
    files = sorted([*source.glob("*.yaml"), *source.glob("*.yml")])
    if len(files) != 1:
        found = f"{len(files)} YAML files ({', '.join(file.name for file in files)})" if files else "no YAML file"
        raise UserError(f"'{source}' holds {found}; name the data YAML itself")
    return files[0]


def _distinct_splits(config: DatasetConfig, notes: list[str]) -> Iterator[str]:
    """Yield the splits, those left out that are the same images as an earlier one."""
    seen: dict[tuple[Path, ...], str] = {}
    for split, entries in config.splits.items():
        earlier = seen.setdefault(tuple(entries), split)
        if earlier == split:
            yield split
        else:
            notes.append(f"{split} names the same images as {earlier}; they were written once, as {earlier}")


def _images(config: DatasetConfig, split: str) -> Iterator[tuple[str, Path, str]]:
    """Yield (split, image, wanted name) of one split; a missing test split has none."""
    for entry in config.splits[split]:
        if split == "test" and not entry.exists():
            continue
        base = entry if entry.is_dir() else config.root
        for image in list_images([entry]):
            inside = image.is_relative_to(base)
            yield split, image, image.relative_to(base).as_posix() if inside else image.name


def _record(image: Path, name: str, split: str, reading: Reading) -> Record:
    file = label_path(image)
    record = Record(file, split, str(PurePosixPath(name)), image)
    try:
        size_hw = record.size_hw = read_size(image)
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return record
    except Unusable as error:
        record.problem = str(error)
        return record
    except UnicodeDecodeError as error:
        record.problem = f"its label file is no text: {error.reason}"
        return record
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    as_polygons = any(len(words) >= POLYGON_VALUES for _, words in rows)
    for number, words in rows:
        where = f"line {number}"
        try:
            record.things.append(read_row(words, where, as_polygons, size_hw, reading.categories))
        except Unusable as error:
            record.losses.append((where, str(error)))
    return record


def read_row(
    words: list[str], where: str, as_polygon: bool, size_hw: tuple[int, int], categories: dict[Category, str]
) -> Thing:
    """Return the object of one row, in px.

    Args:
        words: class and x y width height, or class and x1 y1 x2 y2 ...; in 0..1.
        where: the place of the row.
        as_polygon: read a polygon.
        size_hw: height and width of the image in px.
        categories: the classes.

    Raises:
        Unusable: training would not take the row either, or it has fewer than 3 points among polygons.
    """
    if len(words) != BOX_VALUES and not as_polygon:
        raise Unusable(f"{len(words)} values, expected class x y width height")
    category, *values = numbers(words, len(words))
    if category not in categories:
        raise Unusable(f"class outside names: {category:g}")
    polygon = polygon_of(values) if as_polygon else None
    if polygon is not None:
        left, top, right, bottom = extent(polygon)
        values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]  # by which training judges it
    judged = np.array(values, np.float32)  # as in training: 1.00000001 is 1
    if judged.min() < 0 or judged.max() > 1:
        raise Unusable(f"coordinates beyond 0 to 1: {' '.join(words)[:60]}")
    height, width = size_hw
    if polygon is not None:
        return Thing(where, int(category), polygon=polygon * np.array([width, height]))
    x, y, half_width, half_height = values[0], values[1], values[2] / 2, values[3] / 2
    box = ((x - half_width) * width, (y - half_height) * height, (x + half_width) * width, (y + half_height) * height)
    return Thing(where, int(category), box)
