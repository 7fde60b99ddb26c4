"""results.csv: one row an epoch, with v6.1's columns and, after them, our own."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from utils.eval.evaluate import Evaluation
from utils.eval.plots import save_results_plot
from utils.files import atomic_write
from utils.hooks.base import EpochReport, Hook

LOSS_COLUMNS = ("train/box_loss", "train/obj_loss", "train/cls_loss")
RESULT_COLUMNS = (
    *("metrics/precision", "metrics/recall", "metrics/mAP_0.5", "metrics/mAP_0.5:0.95"),
    *("val/box_loss", "val/obj_loss", "val/cls_loss"),
)
COLUMNS = ("epoch", *LOSS_COLUMNS, *RESULT_COLUMNS, "x/lr0", "x/lr1", "x/lr2")

Figure = Callable[[EpochReport], float]
Figures = Mapping[str, Figure]


def epoch_values(report: EpochReport, figures: Figures | None = None) -> dict[str, float]:
    """Return the figures of an epoch by their column in results.csv; those of validation are NaN if it was left out.

    Args:
        report: the epoch.
        figures: further columns, by name.
    """
    unknown = (math.nan,) * len(RESULT_COLUMNS)
    results = report.evaluation.results if report.evaluation else unknown
    losses = report.losses[: len(LOSS_COLUMNS)]  # further parts have columns of their own
    values = dict(zip(COLUMNS, (report.epoch, *losses, *results, *report.learning_rates), strict=True))
    return values | {name: figure(report) for name, figure in (figures or {}).items()}


def training_losses(lines: Sequence[str]) -> list[float]:
    """Return the sum of box, objectness and class loss of each epoch, from the lines of a results.csv."""
    return [sum(map(float, row.split(",")[1 : 1 + len(LOSS_COLUMNS)])) for row in lines[1:]]


class CsvFile(Hook):
    """Adds each epoch to ``path``; every write replaces the file as a whole.

    Args:
        path: ``<run>/results.csv``.
        first_epoch: rows of this epoch and later ones, left by an interrupted run, are dropped.
        figures: further columns, by name.
        rows: ``lines`` from a checkpoint, with or without the header; taken instead of what the file says.
        draw: draw ``results.png`` at the end.
    """

    def __init__(
        self,
        path: Path,
        first_epoch: int = 0,
        figures: Figures | None = None,
        rows: Sequence[str] = (),
        draw: bool = True,
    ) -> None:
        self.path = path
        self.draw = draw
        self.figures = figures or {}
        self._lines = [",".join(f"{name:>20}" for name in (*COLUMNS, *self.figures))]
        if first_epoch and not rows and path.is_file():
            rows = path.read_text(encoding="utf-8").splitlines()
        for row in rows:
            epoch = row.split(",")[0].strip()
            if epoch.isdecimal() and int(epoch) < first_epoch:
                self._lines.append(row)

    @property
    def lines(self) -> list[str]:
        """Header and rows as written; all that is needed to go on without the file."""
        return list(self._lines)

    def epoch_end(self, report: EpochReport) -> None:
        """Add a row."""
        self._lines.append(",".join(f"{value:20.5g}" for value in epoch_values(report, self.figures).values()))
        self._write()

    def add_final(self, evaluation: Evaluation) -> None:
        """Add what the best weights achieved: the row of the last epoch with other results, and no validation loss."""
        if len(self._lines) == 1:
            return
        cells = self._lines[-1].split(",")
        results = (evaluation.precision, evaluation.recall, evaluation.map50, evaluation.map50_95, *[math.nan] * 3)
        start = COLUMNS.index(RESULT_COLUMNS[0])
        cells[start : start + len(results)] = [f"{value:20.5g}" for value in results]
        self._lines.append(",".join(cells))
        self._write()

    def epochs_done(self) -> None:
        """Write the file once more, which a run resumed after its last epoch may lack, and draw ``results.png``."""
        if len(self._lines) > 1:
            self._write()
            if self.draw:
                save_results_plot(self.path)

    def _write(self) -> None:
        with atomic_write(self.path) as temporary:
            temporary.write_text("\n".join(self._lines) + "\n", encoding="utf-8")
