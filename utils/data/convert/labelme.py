"""LabelMe: one JSON file an image; rectangles, polygons, circles, and masks by their boxes.

JSON files in subfolders named after splits (``train``, ``val``, ...) go there, all others to ``train``. An image that
is not there is taken from the JSON file, if that holds it. Points and lines have no area and are dropped.
"""

import base64
import binascii
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.data.convert.geometry import circle, extent, polygon_of
from utils.data.convert.json_files import list_of, read_json, size_of
from utils.data.convert.records import Reading, Record, Thing, Unusable, by_name
from utils.errors import UserError
from utils.log import progress

SPLITS = ("train", "training", "val", "valid", "validation", "test")
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp"}
MASK = "masks kept as their boxes"


def read(source: Path, names: list[str] | None = None) -> Reading:
    """Return what the JSON files of ``source``, a folder or one of them, describe.

    Args:
        source: folder, searched to any depth, or one file.
        names: the classes in their order; those in the files, sorted, when None.

    Raises:
        UserError: there are no JSON files.
    """
    files = [source] if source.is_file() else sorted(source.rglob("*.json"))
    if not files:
        raise UserError(f"'{source}' holds no JSON files; expected one an image, as LabelMe writes them")
    root = source.parent if source.is_file() else source
    records = [read_file(file, root) for file in progress(files, "Reading JSON", total=len(files), unit="file")]
    return by_name(records, names)


def read_file(file: Path, root: Path) -> Record:
    """Return the record of one JSON file somewhere below ``root``."""
    folders = file.relative_to(root).parts[:-1]
    split = next((folder for folder in folders if folder.lower() in SPLITS), "train")
    record = Record(file, split, file.relative_to(root).as_posix(), None)
    try:
        content = read_json(file)
        shapes = list_of(file, content, "shapes")
        record.image, suffix = _image(file, content)
    except UserError as error:
        record.problem = f"unusable JSON: {error}"
        return record
    except Unusable as error:
        record.problem = str(error)
        return record
    record.name = file.relative_to(root).with_suffix(suffix).as_posix()
    record.size_hw = size_of(content, "imageHeight", "imageWidth")
    for number, shape in enumerate(shapes, 1):
        where = f"shape {number}"
        try:
            thing, changes = read_shape(shape, where)
        except Unusable as error:
            record.losses.append((where, str(error)))
            continue
        record.things.append(thing)
        record.changes += changes
    return record


def _image(file: Path, content: dict[str, Any]) -> tuple[Path | bytes, str]:
    """Return the image of ``content`` and its suffix: the file it names, else what it holds."""
    named = content.get("imagePath")
    name = named.replace("\\", "/") if isinstance(named, str) else ""
    for candidate in (file.parent / name, file.parent / name.rsplit("/", 1)[-1]):
        if name and candidate.is_file():
            return candidate, candidate.suffix
    embedded = content.get("imageData")
    if not embedded:
        raise Unusable(f"the image is missing: '{name or 'no imagePath'}', and the JSON file holds no imageData")
    try:
        data = base64.b64decode(embedded, validate=True)
        with Image.open(BytesIO(data)) as image:
            return data, SUFFIXES[str(image.format)]
    except KeyError as error:
        raise Unusable(f"its imageData is of a kind training does not read: {error}") from error
    except (binascii.Error, TypeError, ValueError, OSError, Image.DecompressionBombError) as error:
        raise Unusable("its imageData holds no image") from error


def read_shape(shape: Any, where: str) -> tuple[Thing, list[str]]:
    """Return the object a shape means, and what had to be changed; raise ``Unusable`` when it is none."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"].strip():
        raise Unusable("it has no label")
    label, kind = shape["label"].strip(), shape.get("shape_type") or "polygon"
    if kind not in ("rectangle", "polygon", "circle", "mask"):
        raise Unusable(f"shape without area: {kind} '{label}'")
    try:
        points = np.array(shape.get("points"), np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1:] != (2,) or len(points) < 2 or not np.isfinite(points).all():
        raise Unusable(f"its points are no pairs of numbers: {str(shape.get('points'))[:60]}")
    if kind == "polygon":
        return Thing(where, label, polygon=polygon_of(points.ravel())), []
    if kind == "circle":
        return Thing(where, label, polygon=circle(points[0], points[1])), []
    return Thing(where, label, box=extent(points)), [MASK] if kind == "mask" else []
