"""The account of a conversion: what came in, what went out, and where the difference is."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from utils.data.convert.records import Category, Loss, Reading, Record, Thing

REPORT_FILE = "conversion.txt"
MOST_SHOWN = 10  # losses on the console; the file has them all


@dataclass
class Report:
    """Counts of one conversion. Always: in = out + lost, for images and for boxes.

    Attributes:
        kind: the format converted, a key of ``CONVERTERS``.
        source: what was read.
        destination: the folder written.
        categories: category -> class name, in the order of the classes.
        images_in: images the source names.
        boxes_in: category -> objects of the source; None counts those of no known category.
        images_out: split -> images written.
        boxes_out: category -> objects written.
        lost_images: images not written; ``lost_boxes`` the objects, those of lost images included.
        changes: what was changed -> how often.
        notes: what the user should know about the whole.
    """

    kind: str
    source: Path
    destination: Path
    categories: dict[Category, str]
    images_in: int = 0
    boxes_in: "Counter[Category]" = field(default_factory=Counter)
    images_out: "Counter[str]" = field(default_factory=Counter)
    boxes_out: "Counter[Category]" = field(default_factory=Counter)
    lost_images: list[Loss] = field(default_factory=list)
    lost_boxes: list[Loss] = field(default_factory=list)
    changes: "Counter[str]" = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def enter(self, record: Record) -> None:
        """Count what ``record`` brings, and what its reader has dropped and changed."""
        self.images_in += 1
        self.boxes_in.update(thing.category for thing in record.things)
        self.boxes_in[None] += len(record.losses)
        file = str(record.annotation)
        self.lost_boxes += [Loss(file, f"{record.name}, {where}", reason) for where, reason in record.losses]
        self.changes.update(record.changes)

    def lose_image(self, record: Record, reason: str) -> None:
        """Note that the image of ``record`` is not written, nor are its objects."""
        file = str(record.annotation)
        self.lost_images.append(Loss(file, record.name, reason))
        for thing in record.things:
            self.lost_boxes.append(Loss(file, f"{record.name}, {thing.where}", f"its image is left out: {reason}"))

    def lose_box(self, record: Record, thing: Thing, reason: str) -> None:
        """Note that an object is not written."""
        self.lost_boxes.append(Loss(str(record.annotation), f"{record.name}, {thing.where}", reason))

    def leave(self, split: str, things: list[Thing]) -> None:
        """Count one image as written, with its objects."""
        self.images_out[split] += 1
        self.boxes_out.update(thing.category for thing in things)

    def close(self, reading: Reading) -> None:
        """Add what the reader kept apart; to be called when all records are through."""
        self.images_in += len(reading.lost_images)
        self.boxes_in[None] += len(reading.lost_boxes)
        self.lost_images += reading.lost_images
        self.lost_boxes += reading.lost_boxes
        self.notes += reading.notes

    def lines(self, most_shown: int = MOST_SHOWN) -> list[str]:
        """Return the account for people: counts, and up to ``most_shown`` losses of each sort."""
        used = sum(1 for category in self.categories if self.boxes_out[category])
        splits = ", ".join(f"{split} {count}" for split, count in self.images_out.items())
        return [
            f"in:  {self.images_in} images, {self.boxes_in.total()} boxes, {len(self.categories)} classes"
            f" from '{self.source}'",
            f"out: {self.images_out.total()} images ({splits}), {self.boxes_out.total()} boxes,"
            f" {len(self.categories)} classes ({used} with boxes) in '{self.destination}'",
            *_loss_lines("images", self.lost_images, most_shown),
            *_loss_lines("boxes", self.lost_boxes, most_shown),
            *(f"changed: {what}: {count}" for what, count in self.changes.items()),
            *(f"note: {note}" for note in self.notes),
        ]

    def write(self, folder: Path) -> None:
        """Write the whole account, with a table of the classes, into ``folder``."""
        unknown = self.boxes_in[None]
        table = [
            f"{index:5d} {self.boxes_in[category]:9d} {self.boxes_out[category]:9d}  {' '.join(name.split())}"
            for index, (category, name) in enumerate(self.categories.items())
        ]
        table += [f"    - {unknown:9d} {0:9d}  (dropped when read, class not counted)"] if unknown else []
        everything = len(self.lost_images) + len(self.lost_boxes)
        lines = [*self.lines(everything), "", "class  boxes in boxes out  name", *table]
        (folder / REPORT_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")


def _loss_lines(things: str, losses: list[Loss], most_shown: int) -> Iterable[str]:
    if not losses:
        yield f"{things} dropped: 0"
        return
    reasons = Counter(" ".join(loss.reason.split(":")[0].split()) for loss in losses)
    yield f"{things} dropped: {len(losses)} ({', '.join(f'{reason}: {count}' for reason, count in reasons.items())})"
    for loss in losses[:most_shown]:
        yield f"  {loss.line()}"
    if len(losses) > most_shown:
        yield f"  and {len(losses) - most_shown} more, all listed in {REPORT_FILE}"
