"""Why mAP is 0, when that is known."""

from collections.abc import Callable, Sequence

import numpy as np

from utils.hooks.base import EpochReport, Hook
from utils.hooks.csv_file import training_losses
from utils.log import LOGGER
from utils.train.sanity import Progress, explain_zero_map


class ZeroMap(Hook):
    """Explains an mAP of 0, each reason once. Stands after CsvFile, whose lines it reads.

    Args:
        training_counts: (classes,) boxes of each class in the training split.
        warmup_iterations: of the schedule.
        from_scratch: the network began with random weights.
        optimizer_steps: returns how many there were.
        lines: returns those of results.csv.
    """

    def __init__(
        self,
        training_counts: np.ndarray,
        warmup_iterations: int,
        from_scratch: bool,
        optimizer_steps: Callable[[], int],
        lines: Callable[[], Sequence[str]],
    ) -> None:
        self.training_counts = training_counts
        self.warmup_iterations = warmup_iterations
        self.from_scratch = from_scratch
        self.optimizer_steps = optimizer_steps
        self.lines = lines
        self._batches = 1  # of an epoch
        self._told: set[str] = set()

    def epoch_start(self, epoch: int, epochs: int, batches: int) -> None:
        """Note how long an epoch is."""
        self._batches = batches

    def epoch_end(self, report: EpochReport) -> None:
        """Explain, if there is something to explain and an explanation that was not given yet."""
        if report.evaluation is None or report.evaluation.map50 > 0:
            return
        progress = Progress(
            iterations_done=(report.epoch + 1) * self._batches,
            batches=self._batches,
            warmup_iterations=self.warmup_iterations,
            optimizer_steps=self.optimizer_steps(),
            from_scratch=self.from_scratch,
            losses=training_losses(self.lines()),
        )
        reason = explain_zero_map(report.evaluation.label_counts, self.training_counts, progress)
        if reason and reason not in self._told:
            self._told.add(reason)
            LOGGER.info(f"mAP is 0 because {reason}")
