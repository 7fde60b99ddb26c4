"""One line about the first batch of a run, and warnings about what it shows."""

from collections.abc import Sequence

from torch import Tensor

from utils.hooks.base import BatchReport, Hook
from utils.log import LOGGER
from utils.train.sanity import check_batch


class FirstBatch(Hook):
    """Says how many labels of the first batch reach the loss.

    Args:
        anchors: (levels, anchors, 2) in grid units.
        strides: (levels,) px a cell.
        ratio_limit: hyperparameter anchor_t.
    """

    def __init__(self, anchors: Tensor, strides: Sequence[float], ratio_limit: float) -> None:
        self.anchors = anchors
        self.strides = strides
        self.ratio_limit = ratio_limit

    def batch_end(self, report: BatchReport) -> None:
        """Look at the first batch of the first epoch."""
        if report.epoch == 0 and report.number == 0:
            batch = report.batch
            check = check_batch(batch.targets, batch.images.shape, self.anchors, self.strides, self.ratio_limit)
            LOGGER.info(check.line())
            for warning in check.warnings():
                LOGGER.warning(f"WARNING: {warning}")
