"""results.csv: one row an epoch, with v6.1's columns and, after them, our own."""

from collections.abc import Callable, Mapping
from pathlib import Path

from utils.eval.plots import save_results_plot
from utils.files import atomic_write
from utils.hooks.base import EpochReport, Hook

COLUMNS = (
    *("epoch", "train/box_loss", "train/obj_loss", "train/cls_loss"),
    *("metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95"),
    *("val/box_loss", "val/obj_loss", "val/cls_loss", "x/lr0", "x/lr1", "x/lr2"),
)
LOSSES = 3  # box, objectness and class have v6.1's columns


class CsvFile(Hook):
    """Adds each epoch to ``path``; every write replaces the file as a whole.

    Args:
        path: ``<run>/results.csv``.
        first_epoch: rows of this epoch and later ones, left by an interrupted run, are dropped.
        figures: further columns, by name.
    """

    def __init__(
        self, path: Path, first_epoch: int = 0, figures: Mapping[str, Callable[[EpochReport], float]] | None = None
    ) -> None:
        self.path = path
        self.figures = figures or {}
        self._lines = [",".join(f"{name:>20}" for name in (*COLUMNS, *self.figures))]
        if first_epoch and path.is_file():
            rows = path.read_text().splitlines()[1:]
            self._lines += [row for row in rows if int(row.split(",")[0]) < first_epoch]

    def epoch_end(self, report: EpochReport) -> None:
        """Add a row."""
        values = [report.epoch, *report.losses[:LOSSES], *report.evaluation.results, *report.learning_rates]
        values += [figure(report) for figure in self.figures.values()]
        self._lines.append(",".join(f"{value:20.5g}" for value in values))
        with atomic_write(self.path) as temporary:
            temporary.write_text("\n".join(self._lines) + "\n")

    def training_end(self) -> None:
        """Draw ``results.png``."""
        save_results_plot(self.path)
