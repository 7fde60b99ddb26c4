"""Which checkpoints a run leaves: ``last.pt`` after every epoch, ``best.pt`` when fitness rises, others on request."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from utils.checkpoint import Checkpoint, strip_checkpoint, write_checkpoint
from utils.eval.evaluate import Evaluation
from utils.eval.operating_point import OperatingPoint
from utils.files import atomic_write
from utils.hooks.base import EpochReport
from utils.train.state import TrainState


@dataclasses.dataclass
class CheckpointWriter:
    """Writes a run's checkpoints.

    Attributes:
        folder: ``<run>/weights``.
        header: what does not change during the run; its ``state`` is empty.
        period: keep ``epochN.pt``, too, when the epoch is a multiple of this; none below 1.
        only_last: write nothing before the last epoch.
    """

    folder: Path
    header: Checkpoint
    period: int = -1
    only_last: bool = False

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.folder / "best.pt"

    def start(self, state: TrainState, resumed: Checkpoint | None = None) -> None:
        """Write ``last.pt`` before the first epoch, so that a run can be resumed whenever it is interrupted.

        Args:
            state: what the run begins with.
            resumed: the checkpoint it comes from; none for a new run.
        """
        if not resumed:
            self.best.unlink(missing_ok=True)  # of an earlier run in the same folder
        if resumed or not self.only_last:
            measured = {"metrics": resumed.metrics, "operating_point": resumed.operating_point} if resumed else {}
            self._write(self.last, state, measured)

    def __call__(self, state: TrainState, report: EpochReport, is_best: bool, is_last: bool) -> None:
        """Write after an epoch: ``last.pt`` at the end, so that a kill before has the epoch and its files made anew."""
        if self.only_last and not is_last:
            return
        is_kept = self.period > 0 and report.epoch > 0 and report.epoch % self.period == 0
        kept = self.folder / f"epoch{report.epoch}.pt"
        first, *others = [*[self.best] * is_best, *[kept] * is_kept, self.last]
        self._write(first, state, _measured(report.evaluation) if report.evaluation else {})
        for path in others:
            with atomic_write(path) as temporary:
                shutil.copyfile(first, temporary)

    def finish(self) -> None:
        """Reduce the checkpoints of a finished run to what inference needs."""
        for path in (self.best, self.last):  # while last.pt is whole, an interrupted finish can be resumed
            if path.exists():
                strip_checkpoint(path)

    def _write(self, path: Path, state: TrainState, measured: dict[str, Any]) -> None:
        average = state.average.model.state_dict()
        checkpoint = dataclasses.replace(
            self.header, state=average, epoch=state.epoch - 1, training=state.capture(), **measured
        )
        write_checkpoint(path, checkpoint)


def _measured(evaluation: Evaluation) -> dict[str, Any]:
    """Return what a checkpoint says of its weights; the losses are in results.csv."""
    names = ("precision", "recall", "mAP_0.5", "mAP_0.5:0.95")
    point = OperatingPoint.measured(evaluation.metrics, evaluation.names)
    return {
        "metrics": dict(zip(names, map(float, evaluation.results), strict=False)),
        "operating_point": point and point.content(),
    }
