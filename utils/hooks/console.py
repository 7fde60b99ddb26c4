"""What training prints: v6.1's columns, and one line an epoch."""

import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from utils.hooks.base import BatchReport, EpochReport, Hook
from utils.log import LOGGER, bold, progress


def used_memory(device: torch.device) -> str:
    """Return the reserved CUDA memory in 1e9 bytes, ``0G`` elsewhere (v6.1)."""
    return f"{torch.cuda.memory_reserved(device) / 1e9:.3g}G" if device.type == "cuda" else "0G"


class Console(Hook):
    """Shows a progress bar on a terminal, plain lines elsewhere.

    Args:
        parts: names of the parts of the loss.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._columns = ("Epoch", "gpu_mem", *parts, "labels", "img_size")
        self._bar: tqdm[int] | None = None
        self._position = self._line = ""

    def epoch_start(self, epoch: int, epochs: int, batches: int) -> None:
        """Print the header and start the bar."""
        self._position = f"{epoch}/{epochs - 1}"
        LOGGER.info("\n" + bold("".join(f"{name:>10}" for name in self._columns)))
        self._bar = progress(range(batches), "", unit="batch")

    def batch_end(self, report: BatchReport) -> None:
        """Move the bar; the line is kept for the end of the epoch."""
        last = report.number == report.batches - 1
        if self._bar is None or not (last or sys.stderr.isatty()):
            return
        losses = "".join(f"{value:10.4g}" for value in report.mean_losses.tolist())
        memory = used_memory(report.mean_losses.device)
        counts = f"{len(report.batch.targets):10.4g}{report.batch.images.shape[-1]:10.4g}"
        self._line = f"{memory:>10}{losses}{counts}"
        self._bar.set_description_str(f"{self._position:>10}{self._line}", refresh=False)
        self._bar.update()
        if last:
            self._bar.close()

    def epoch_end(self, report: EpochReport) -> None:
        """Print the line of the epoch and its validation."""
        rate = report.images / max(report.seconds, 1e-9)
        LOGGER.info(f"{self._position:>10}{self._line}  {report.seconds:.1f} s, {rate:.1f} images/s")
        for line in report.evaluation.table()[:2]:  # without the classes
            LOGGER.info(line)
