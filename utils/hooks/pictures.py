"""train_batch0.jpg to train_batch2.jpg: what the network really sees."""

from pathlib import Path

from utils.eval.draw import plot_targets, save_picture
from utils.hooks.base import BatchReport, Hook

PICTURES = 3


class TrainingPictures(Hook):
    """Draws the first batches of a run with their boxes.

    Args:
        folder: the run folder.
        names: class names by index.
    """

    def __init__(self, folder: Path, names: dict[int, str]) -> None:
        self.folder = folder
        self.names = names

    def batch_end(self, report: BatchReport) -> None:
        """Draw one of the first batches of the first epoch."""
        if report.epoch == 0 and report.number < PICTURES:
            batch = report.batch
            picture = plot_targets(batch.images.cpu(), batch.targets.cpu(), self.names, batch.paths)
            save_picture(self.folder / f"train_batch{report.number}.jpg", picture)
