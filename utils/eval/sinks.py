"""What an evaluation leaves in its run folder while it runs: label files and pictures of the first batches."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from utils.boxes import xyxy_to_xywh
from utils.channels import displayable
from utils.data.loader import Batch
from utils.eval.draw import plot_batch, plot_targets
from utils.files import atomic_write


def format_labels(detections: Tensor, size_hw: tuple[int, int], with_confidence: bool = False) -> str:
    """Return detections of one image as YOLO label lines, ``class x y width height [confidence]``.

    Args:
        detections: (n, 6) left, top, right, bottom in px of the image, score, class.
        size_hw: height and width of the image, by which boxes are normalised.
        with_confidence: append the score.
    """
    height, width = size_hw
    boxes = xyxy_to_xywh(detections[:, :4]) / detections.new_tensor([width, height, width, height])
    rows = np.concatenate([detections[:, 5:6].numpy(), boxes.numpy(), detections[:, 4:5].numpy()], 1)
    rows = rows if with_confidence else rows[:, :5]
    return "".join(" ".join(f"{value:g}" for value in row) + "\n" for row in rows.tolist())


class LabelFileSink:
    """Writes ``<stem>.txt`` for each image in which something was found (``--save-txt``).

    Args:
        folder: where the files go; made when missing.
        with_confidence: append the score to each line (``--save-conf``).
        worst_first: order of the lines, as detect.py has it; else best first.
    """

    def __init__(self, folder: Path, with_confidence: bool = False, worst_first: bool = False):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.with_confidence = with_confidence
        self.worst_first = worst_first
        self._written: set[str] = set()

    def write(self, batch: Batch, detections: list[Tensor], native: list[Tensor]) -> None:
        """Write the files of one batch; images of one stem share a file, files of an earlier run are replaced."""
        for path, found, size_hw in zip(batch.paths, native, batch.original_hw, strict=True):
            if len(found):
                name = f"{Path(path).stem}.txt"
                with (self.folder / name).open("a" if name in self._written else "w", encoding="utf-8") as file:
                    ordered = found.flip(0) if self.worst_first else found
                    file.write(format_labels(ordered, size_hw, self.with_confidence))
                self._written.add(name)


class BatchPictureSink:
    """Writes ``val_batch<i>_labels.jpg`` and ``val_batch<i>_pred.jpg`` for the first batches.

    Args:
        folder: where the pictures go.
        names: class index to name.
        batches: how many batches are drawn.
        confidence: least score of a detection that is drawn, exclusive.
    """

    def __init__(self, folder: Path, names: Mapping[int, str], batches: int = 3, confidence: float = 0.25):
        self.folder = folder
        self.names = names
        self.batches = batches
        self.confidence = confidence
        self._seen = 0

    def write(self, batch: Batch, detections: list[Tensor], native: list[Tensor]) -> None:
        """Draw one batch, unless enough were drawn."""
        if self._seen >= self.batches:
            return
        shown = [found[found[:, 4] > self.confidence].flip(0) for found in detections]  # best on top
        stem = self.folder / f"val_batch{self._seen}"
        save_picture(Path(f"{stem}_labels.jpg"), plot_targets(batch.images, batch.targets, self.names, batch.paths))
        save_picture(Path(f"{stem}_pred.jpg"), plot_batch(batch.images, shown, self.names, batch.paths))
        self._seen += 1


def save_picture(path: Path, image: np.ndarray) -> None:
    """Write an image, atomically and to any path (OpenCV's own writer balks at some on Windows).

    Args:
        path: ``.jpg`` or ``.png`` file.
        image: (H, W, C) uint8; three channels are BGR, of others ``displayable`` ones are written.
    """
    encoded = cv2.imencode(path.suffix, displayable(image))[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
