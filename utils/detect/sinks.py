"""Where the detections of an image go: annotated images, label files, crops."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from utils.boxes import clip_boxes, xywh_to_xyxy, xyxy_to_xywh
from utils.data.label_lines import format_corners, format_labels
from utils.data.sources import Frame
from utils.detect.detector import Detections
from utils.eval.draw import class_colour, draw_detections, save_picture
from utils.files import atomic_write, safe_name

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
CROP_GAIN, CROP_MARGIN = 1.02, 10  # factor on the sides, then px added to them (v6.1)


class Sink(Protocol):
    """Takes the detections of one frame after the other.

    Attributes:
        in_order: frames must come in their order; else several may come at the same time, in several threads.
    """

    in_order: bool

    def write(self, frame: Frame, detections: Detections) -> None:
        """Take one frame."""

    def close(self) -> None:
        """Finish what is open; called once, after an interruption, too."""


class SeparateFiles:
    """A sink whose frames have files of their own: they may come in any order, and nothing stays open."""

    in_order = False

    def close(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Painter:
    """Draws boxes and their labels.

    Attributes:
        names: class names by index.
        line_width: px.
        hide_labels: draw boxes without text. hide_scores: leave the score out of the text.
    """

    names: Mapping[int, str]
    line_width: int = 3
    hide_labels: bool = False
    hide_scores: bool = False

    def draw(self, image: np.ndarray, detections: Detections) -> np.ndarray:
        """Return a picture of (H, W, C) ``image``; the best detections are drawn last and lie on top."""
        order = np.arange(len(detections))[::-1]
        labels = [self._label(detections.classes[i], detections.scores[i]) for i in order]
        colours = [class_colour(int(detections.classes[i])) for i in order]
        return draw_detections(image, detections.boxes[order], labels, colours, self.line_width)

    def _label(self, class_index: int, score: float) -> str:
        if self.hide_labels:
            return ""
        return self.names[int(class_index)] if self.hide_scores else f"{self.names[int(class_index)]} {score:.2f}"


@dataclass
class ImageSink(SeparateFiles):
    """Writes each image with its boxes, under its own name. Frames of clips are not for it.

    Attributes:
        folder: where the images go.
        painter: draws them.
    """

    folder: Path
    painter: Painter

    def write(self, frame: Frame, detections: Detections) -> None:
        """Write one image."""
        if frame.clip is None:
            picture = self.painter.draw(frame.image, detections)
            save_picture(self.folder / f"{frame.name}{_writable_suffix(frame.path)}", picture)


def _writable_suffix(path: Path) -> str:
    """Return the suffix of ``path``, or ``.jpg`` where OpenCV writes no such files."""
    return path.suffix if path.suffix.lower() in WRITABLE else ".jpg"


@dataclass
class LabelSink(SeparateFiles):
    """Writes ``<stem>.txt`` with a line an object, worst first, from boxes rounded to whole pixels (v6.1).

    Attributes:
        folder: where the files go.
        with_scores: append the score to each line.
        corners: lines are ``class left top right bottom``, as later versions have it, instead of ``class x y w h``; of
            the image's width and height in either case.
    """

    folder: Path
    with_scores: bool = False
    corners: bool = False

    def write(self, frame: Frame, detections: Detections) -> None:
        """Write the file of one image in which something was found."""
        if not len(detections):
            return
        columns = [detections.boxes.round(), detections.scores[:, None], detections.classes[:, None]]
        rows = np.concatenate(columns, 1)[::-1].astype(np.float32)
        lines = format_corners if self.corners else format_labels
        with atomic_write(self.folder / f"{frame.name}.txt") as temporary:
            temporary.write_text(lines(rows, frame.image.shape[:2], self.with_scores), encoding="utf-8")


def cut_out(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the part of an (H, W, C) image in a (4,) box of left, top, right, bottom px, and a little around it."""
    centred = xyxy_to_xywh(box)
    centred[2:] = centred[2:] * CROP_GAIN + CROP_MARGIN
    left, top, right, bottom = clip_boxes(xywh_to_xyxy(centred), image.shape[:2]).astype(int)
    return image[top:bottom, left:right]


@dataclass
class CropSink(SeparateFiles):
    """Writes each object as an image of its own, ``<class name>/<stem>[N].jpg``.

    Attributes:
        folder: where the class folders go.
        names: class names by index.
    """

    folder: Path
    names: Mapping[int, str]
    _claimed: set[str] = field(default_factory=set, init=False)  # files that other threads are about to write
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def write(self, frame: Frame, detections: Detections) -> None:
        """Cut out the objects of one image, worst first."""
        numbers: dict[Path, int] = {}
        for box, class_index in zip(detections.boxes[::-1], detections.classes[::-1], strict=True):
            crop = cut_out(frame.image, box.round())
            folder = self.folder / safe_name(self.names[int(class_index)])
            if crop.size:
                numbers[folder] = number = self._claim(folder, frame.name, numbers.get(folder, 0) + 1)
                path = _numbered(folder, frame.name, number)
                save_picture(path, crop)
                self._claimed.discard(str(path).lower())

    def _claim(self, folder: Path, stem: str, number: int) -> int:
        """Return the first number from ``number`` on that is free: ``a2.jpg`` may be of image "a" or of "a2"."""
        with self._lock:
            # In this order: a claim ends only when its file is there.
            while str(path := _numbered(folder, stem, number)).lower() in self._claimed or path.exists():
                number += 1
            self._claimed.add(str(path).lower())
        return number


def _numbered(folder: Path, stem: str, number: int) -> Path:
    return folder / f"{stem}{number if number > 1 else ''}.jpg"
