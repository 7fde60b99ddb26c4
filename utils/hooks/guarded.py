"""Loggers are guests: a run goes on without one that fails."""

from utils.hooks.base import BatchReport, EpochReport, Hook
from utils.log import LOGGER


class Guarded(Hook):
    """Passes everything on to a hook until that raises an exception; from then on it hears nothing more.

    Args:
        hook: a logger.
        name: what the warning calls it.
    """

    def __init__(self, hook: Hook, name: str) -> None:
        self.name = name
        self._hook: Hook | None = hook

    def _tell(self, method: str, *arguments: object) -> None:
        if self._hook is None:
            return
        try:
            getattr(self._hook, method)(*arguments)
        except Exception as error:
            self._hook = None  # no second try, which could wait for a dead server after every epoch
            reason = " ".join(str(error).split()) or type(error).__name__
            LOGGER.warning(f"WARNING: {self.name} failed and is left out from here on: {reason}")

    def epoch_start(self, epoch: int, epochs: int, batches: int) -> None:
        """Pass it on."""
        self._tell("epoch_start", epoch, epochs, batches)

    def batch_end(self, report: BatchReport) -> None:
        """Pass it on."""
        self._tell("batch_end", report)

    def epoch_end(self, report: EpochReport) -> None:
        """Pass it on."""
        self._tell("epoch_end", report)

    def training_failed(self) -> None:
        """Pass it on."""
        self._tell("training_failed")

    def epochs_done(self) -> None:
        """Pass it on."""
        self._tell("epochs_done")

    def training_end(self) -> None:
        """Pass it on."""
        self._tell("training_end")
