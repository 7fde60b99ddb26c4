"""What training tells its listeners."""

from dataclasses import dataclass

from torch import Tensor

from utils.data.loader import Batch
from utils.eval.evaluate import Evaluation


@dataclass(frozen=True)
class BatchReport:
    """After each iteration."""

    epoch: int
    number: int  # in the epoch, from 0
    batches: int  # of the epoch
    batch: Batch
    mean_losses: Tensor  # (3,) box, objectness, class, or more; running mean of the epoch


@dataclass(frozen=True)
class EpochReport:
    """After each epoch."""

    epoch: int  # from 0
    epochs: int
    losses: list[float]  # box, objectness, class, or more; mean of the epoch
    evaluation: Evaluation | None  # of the averaged weights; None when the epoch was not validated
    learning_rates: list[float]  # of the groups norm, weight, bias, at the end of the epoch
    seconds: float  # of training, without validation
    images: int
    waiting: float = 0.0  # seconds of these spent waiting for batches


class Hook:
    """A listener; overrides what it wants to hear."""

    def epoch_start(self, epoch: int, epochs: int, batches: int) -> None:
        """Hear that an epoch begins."""

    def batch_end(self, report: BatchReport) -> None:
        """Hear of an iteration."""

    def epoch_end(self, report: EpochReport) -> None:
        """Hear of an epoch, after its validation and before its checkpoint is written."""

    def training_failed(self) -> None:
        """Hear that the run stops early: it was interrupted, or an error ends it."""

    def epochs_done(self) -> None:
        """Hear that no epoch is left; what is drawn now will be on the page of the final measurement, which follows."""

    def training_end(self) -> None:
        """Hear that the run is finished."""
