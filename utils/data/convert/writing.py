"""What both writers share: the records made ready one by one, and a folder that appears whole or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from utils.data.convert.geometry import fit, unfitted
from utils.data.convert.images import RENAMED, Places, agreed_size
from utils.data.convert.records import Reading, Record, Thing, Unusable
from utils.data.convert.report import Report
from utils.data.listing import IMAGE_SUFFIXES, has_suffix
from utils.errors import UserError
from utils.log import progress


@dataclass(frozen=True, eq=False)
class Ready:
    """An image that can be written.

    Attributes:
        split: its folder.
        path: where it goes below ``images/<split>``.
        image: the file, or its encoded content.
        size_hw: height and width in px that the coordinates of ``things`` count in.
        things: its objects; of those with a polygon, that counts.
    """

    split: str
    path: PurePosixPath
    image: Path | bytes
    size_hw: tuple[int, int]
    things: list[Thing]


def ready_images(reading: Reading, report: Report, boxes_only: bool, clipped: bool) -> Iterator[Ready]:
    """Yield the images of ``reading`` that can be written; the report gets all the rest.

    Args:
        reading: its records are used up.
        report: gets every count.
        boxes_only: leave polygons out.
        clipped: limit objects to their images and drop those without area; else they stay as they are.

    Raises:
        UserError: no image could be written; comes at the end.
    """
    places = Places()
    for record in progress(reading.records, f"Converting {report.kind}", total=reading.total, unit="img"):
        report.enter(record)
        try:
            size_hw, changes = agreed_size(record)
            name = _image_name(record)
        except Unusable as error:
            report.lose_image(record, str(error))
            continue
        things = []
        for thing in record.things:
            try:
                fitted, changed = fit(thing, size_hw, boxes_only) if clipped else unfitted(thing, boxes_only)
            except Unusable as error:
                report.lose_box(record, thing, str(error))
                continue
            things.append(fitted)
            changes += changed
        path = places.claim(record.split, name)
        changes += [RENAMED] if path.stem != PurePosixPath(name).stem else []
        report.changes.update(changes)
        report.leave(record.split, things)
        assert record.image is not None  # or it has no size
        yield Ready(record.split, path, record.image, size_hw, things)
    report.close(reading)
    if not report.images_out:
        losses = report.lost_images
        first = f"; the first: {losses[0].line()}" if losses else ""
        raise UserError(f"'{report.source}': none of {report.images_in} images can be converted{first}")


def _image_name(record: Record) -> str:
    """Return the wanted name with the suffix of the image; raise ``Unusable`` when training reads no such file."""
    name = record.name.replace("\\", "/")
    if isinstance(record.image, bytes) or record.image is None:
        return name
    suffix = record.image.suffix
    if not has_suffix(record.image, IMAGE_SUFFIXES):
        raise Unusable(f"training reads no '{suffix}' images: make it one of {' '.join(IMAGE_SUFFIXES)}")
    wanted = PurePosixPath(name)
    if wanted.suffix == suffix:
        return name
    return str(wanted.with_suffix(suffix)) if has_suffix(name, IMAGE_SUFFIXES) else f"{name}{suffix}"


@contextmanager
def growing(destination: Path) -> Iterator[Path]:
    """Yield a hidden folder beside ``destination`` that takes its place when the block succeeds, and goes if not."""
    destination = destination.resolve()
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{destination.name}-", dir=destination.parent) as temporary:
        folder = Path(temporary) / destination.name
        folder.mkdir()
        yield folder
        if destination.exists():
            destination.rmdir()  # empty, or this fails; Windows renames onto nothing, not even an empty folder
        folder.rename(destination)
