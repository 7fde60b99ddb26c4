"""Data sets of other formats made into YOLO data sets, and YOLO data sets into COCO JSON.

A reader (one module a format) yields records, a writer makes the data set of them, and a ``Report`` accounts for every
image and box on the way. From Python: ``run(kind="voc", source="VOCdevkit", destination="voc")``.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError, near_matches
from utils.options import make_options, option

if TYPE_CHECKING:
    from utils.data.convert.records import Reading
    from utils.data.convert.report import Report

TO_YOLO, TO_COCO = "yolo_writer", "coco_writer"


@dataclass(frozen=True)
class Converter:
    """One format: the module of this package that reads it, what it takes, and what is written.

    Attributes:
        reader: module with ``read(source, **options) -> Reading``; loaded when first used.
        about: the format, in a few words.
        options: options of the reader, by their names in ``ConvertOptions``.
        writer: module with ``write(reading, report, boxes_only, link)``.
    """

    reader: str
    about: str
    options: tuple[str, ...] = ()
    writer: str = TO_YOLO

    def read(self, source: Path, **options: Any) -> "Reading":
        """Return what ``source`` holds."""
        reading: Reading = _module(self.reader).read(source, **options)
        return reading

    def write(self, reading: "Reading", report: "Report", boxes_only: bool, link: bool) -> None:
        """Write ``reading`` to ``report.destination``, whole or not at all."""
        write: Callable[..., None] = _module(self.writer).write
        write(reading, report, boxes_only, link)


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")


CONVERTERS = {
    "coco": Converter("coco", "COCO JSON"),
    "voc": Converter("voc", "Pascal VOC XML", ("names", "keep_difficult")),
    "visdrone": Converter("visdrone", "VisDrone-DET text files"),
    "labelme": Converter("labelme", "LabelMe JSON", ("names",)),
    "yolo": Converter("yolo", "a YOLO data set, made into COCO JSON", writer=TO_COCO),
    "argoverse": Converter("argoverse", "Argoverse-HD JSON"),
    "globalwheat2020": Converter("globalwheat2020", "Global Wheat CSV"),
    "objects365": Converter("objects365", "Objects365 JSON with images in patches"),
    "sku110k": Converter("sku110k", "SKU-110K CSV"),
    "xview": Converter("xview", "xView GeoJSON"),
}


@dataclass
class ConvertOptions:
    """Options of ``python -m utils.data.convert``."""

    kind: str = option("", f"format of SOURCE: {', '.join(CONVERTERS)}", positional=True)
    source: str = option("", "folder or file to read; never changed", positional=True)
    destination: str = option("", "new folder for the data set", positional=True)
    boxes_only: bool = option(False, "leave polygons out, write boxes only")
    link: bool = option(False, "images become second names of those in SOURCE: no space, but who edits one edits both")
    names: list[str] | None = option(None, "voc, labelme: classes, in the order of their numbers; others are dropped")
    keep_difficult: bool = option(False, "voc: keep objects marked as difficult")


def convert(
    kind: str, source: Path, destination: Path, boxes_only: bool = False, link: bool = False, **options: Any
) -> "Report":
    """Make the data set at ``destination`` from ``source``.

    Args:
        kind: a key of ``CONVERTERS``.
        source: folder or file of that format.
        destination: a folder that does not exist or is empty; appears only when it is complete.
        boxes_only: write boxes where there are polygons.
        link: images become second names of the same files where the disk can, instead of copies.
        options: of the reader, see ``Converter.options``.

    Raises:
        UserError: the kind is unknown, an option is none of its, ``source`` cannot be read or holds nothing usable, or
            ``destination`` is not empty.
    """
    from utils.data.convert.report import Report

    if kind not in CONVERTERS:
        hint = near_matches(kind, CONVERTERS) or f"; there are {', '.join(CONVERTERS)}"
        raise UserError(f"unknown format '{kind}'{hint}")
    converter = CONVERTERS[kind]
    for name in options:
        if name not in converter.options:
            takers = [other for other, row in CONVERTERS.items() if name in row.options]
            raise UserError(f"--{name.replace('_', '-')} is for {' and '.join(takers) or 'no format'}, not for {kind}")
    if not source.exists():
        raise UserError(f"'{source}' does not exist; expected {converter.about}")
    check_free(destination)
    reading = converter.read(source, **options)
    report = Report(kind, source, destination, reading.categories)
    converter.write(reading, report, boxes_only, link)
    return report


def check_free(destination: Path) -> None:
    """Raise a UserError unless ``destination`` is new or an empty folder."""
    if destination.exists() and not destination.is_dir():
        raise UserError(f"'{destination}' is a file, expected a new folder to write to")
    if destination.is_dir() and any(destination.iterdir()):
        raise UserError(f"'{destination}' is not empty, nothing is written over it; name a new folder, or empty it")


def main(options: ConvertOptions) -> "Report":
    """Convert and print the account."""
    from utils.log import LOGGER, set_up_logging

    set_up_logging()
    given: dict[str, Any] = {"names": options.names, "keep_difficult": options.keep_difficult}
    wanted = {name: value for name, value in given.items() if value}
    source, destination = Path(options.source).expanduser(), Path(options.destination).expanduser()
    report = convert(options.kind, source, destination, options.boxes_only, options.link, **wanted)
    for line in report.lines():
        LOGGER.info(line)
    return report


def run(**options: Any) -> "Report":
    """Convert from Python, with the names of the command-line options."""
    return main(make_options(ConvertOptions, options))
