"""What an evaluation leaves in its run folder while it runs: label files and pictures of the first batches."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from utils.data.label_lines import format_labels
from utils.data.loader import Batch
from utils.eval.draw import plot_batch, plot_targets, save_picture


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
                    file.write(format_labels(ordered.numpy(), size_hw, self.with_confidence))
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
