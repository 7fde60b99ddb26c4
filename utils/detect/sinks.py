"""Where detections go: annotated images, label files, crops."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from utils.boxes import clip_boxes, xywh_to_xyxy, xyxy_to_xywh
from utils.data.sources import Frame
from utils.detect.detector import Detections
from utils.eval.draw import class_colour, draw_detections
from utils.eval.sinks import format_labels, save_picture
from utils.files import atomic_write, increment_path, safe_name

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
CROP_GAIN, CROP_MARGIN = 1.02, 10  # factor on the sides, then px added to them (v6.1)


class Sink(Protocol):
    """Takes the detections of one frame after the other."""

    def write(self, frame: Frame, detections: Detections) -> None:
        """Take one frame."""


@dataclass
class ImageSink:
    """Writes each image with its boxes, under its own name.

    Attributes:
        folder: where the images go.
        names: class names by index.
        line_width: px.
        hide_labels: draw boxes without text. hide_scores: leave the score out of the text.
    """

    folder: Path
    names: Mapping[int, str]
    line_width: int = 3
    hide_labels: bool = False
    hide_scores: bool = False

    def write(self, frame: Frame, detections: Detections) -> None:
        """Write one image; the best detections are drawn last and lie on top."""
        order = np.arange(len(detections))[::-1]
        labels = [self._label(detections.classes[i], detections.scores[i]) for i in order]
        colours = [class_colour(int(detections.classes[i])) for i in order]
        picture = draw_detections(frame.image, detections.boxes[order], labels, colours, self.line_width)
        save_picture(self.folder / f"{frame.name}{_writable_suffix(frame.path)}", picture)

    def _label(self, class_index: int, score: float) -> str:
        if self.hide_labels:
            return ""
        return self.names[int(class_index)] if self.hide_scores else f"{self.names[int(class_index)]} {score:.2f}"


def _writable_suffix(path: Path) -> str:
    """Return the suffix of ``path``, or ``.jpg`` where OpenCV writes no such files."""
    return path.suffix if path.suffix.lower() in WRITABLE else ".jpg"


@dataclass
class LabelSink:
    """Writes ``<stem>.txt`` with a line an object, worst first, from boxes rounded to whole pixels (v6.1).

    Attributes:
        folder: where the files go.
        with_scores: append the score to each line.
    """

    folder: Path
    with_scores: bool = False

    def write(self, frame: Frame, detections: Detections) -> None:
        """Write the file of one image in which something was found."""
        if not len(detections):
            return
        columns = [detections.boxes.round(), detections.scores[:, None], detections.classes[:, None]]
        rows = torch.from_numpy(np.concatenate(columns, 1)[::-1].astype(np.float32))
        with atomic_write(self.folder / f"{frame.name}.txt") as temporary:
            temporary.write_text(format_labels(rows, frame.image.shape[:2], self.with_scores), encoding="utf-8")


@dataclass
class CropSink:
    """Writes each object as an image of its own, ``<class name>/<stem>[N].jpg``.

    Attributes:
        folder: where the class folders go.
        names: class names by index.
    """

    folder: Path
    names: Mapping[int, str]

    def write(self, frame: Frame, detections: Detections) -> None:
        """Cut out the objects of one image, worst first."""
        for box, class_index in zip(detections.boxes[::-1], detections.classes[::-1], strict=True):
            centred = xyxy_to_xywh(box.round())
            centred[2:] = centred[2:] * CROP_GAIN + CROP_MARGIN
            left, top, right, bottom = clip_boxes(xywh_to_xyxy(centred), frame.image.shape[:2]).astype(int)
            folder = self.folder / safe_name(self.names[int(class_index)])
            path = increment_path(folder / f"{frame.name}.jpg")
            if right > left and bottom > top:
                save_picture(path, frame.image[top:bottom, left:right])
