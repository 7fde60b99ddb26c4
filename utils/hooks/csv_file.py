"""results.csv: one row an epoch, with v6.1's columns."""

from pathlib import Path

from utils.files import atomic_write
from utils.hooks.base import EpochReport, Hook

COLUMNS = (
    *("epoch", "train/box_loss", "train/obj_loss", "train/cls_loss"),
    *("metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95"),
    *("val/box_loss", "val/obj_loss", "val/cls_loss", "x/lr0", "x/lr1", "x/lr2"),
)


class CsvFile(Hook):
    """Adds each epoch to ``path``; every write replaces the file as a whole.

    Args:
        path: ``<run>/results.csv``.
        first_epoch: rows of this epoch and later ones, left by an interrupted run, are dropped.
    """

    def __init__(self, path: Path, first_epoch: int = 0) -> None:
        self.path = path
        self._lines = [",".join(f"{name:>20}" for name in COLUMNS)]
        if first_epoch and path.is_file():
            rows = path.read_text().splitlines()[1:]
            self._lines += [row for row in rows if int(row.split(",")[0]) < first_epoch]

    def epoch_end(self, report: EpochReport) -> None:
        """Add a row."""
        values = [report.epoch, *report.losses, *report.evaluation.results, *report.learning_rates]
        self._lines.append(",".join(f"{value:20.5g}" for value in values))
        with atomic_write(self.path) as temporary:
            temporary.write_text("\n".join(self._lines) + "\n")
