"""What training prints: v6.1's columns, and one line an epoch."""

import datetime
import time
from collections.abc import Callable, Sequence

import torch
from tqdm import tqdm

from utils.hooks.base import BatchReport, EpochReport, Hook
from utils.log import LOGGER, bold, progress
from utils.memory import peak_memory

REFRESH = 0.1  # least seconds between two looks at the losses, which make a GPU finish its work first
MUCH_WAITING = 0.25  # share of an epoch from which on waiting for images is worth a word
SHORT_EPOCH = 5.0  # seconds; shorter epochs are mostly start-up


def used_memory(device: torch.device) -> str:
    """Return the reserved CUDA memory in 1e9 bytes, ``0G`` elsewhere (v6.1)."""
    return f"{torch.cuda.memory_reserved(device) / 1e9:.3g}G" if device.type == "cuda" else "0G"


def loading_advice(workers: int, cores: int, cached: bool) -> str:
    """Return the option that makes batches arrive sooner; see Console for the arguments."""
    if workers < cores:
        return f"--workers {cores} (now {workers})"
    if not cached:
        return "--cache ram, which keeps decoded images in memory"
    return "a smaller --imgsz"


class Console(Hook):
    """Shows a progress bar on a terminal, plain lines elsewhere.

    Args:
        parts: names of the parts of the loss.
        workers: processes that load training images now.
        cores: most such processes that machine and batch size have use for.
        cached: images are kept in memory already.
        clock: seconds that only move forwards.
    """

    def __init__(
        self,
        parts: Sequence[str],
        workers: int = 0,
        cores: int = 0,
        cached: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._columns = ("Epoch", "gpu_mem", *parts, "labels", "img_size")
        self._advice: str | None = loading_advice(workers, cores, cached)  # None once it is given
        self._clock = clock
        self._bar: tqdm[int] | None = None
        self._position = self._line = ""
        self._start: float | None = None  # of the first epoch of this process
        self._epochs_begun = 0
        self._looked = 0.0  # when the losses were last read

    def epoch_start(self, epoch: int, epochs: int, batches: int) -> None:
        """Print the header and start the bar."""
        self._start = self._clock() if self._start is None else self._start
        self._epochs_begun += 1
        self._position = f"{epoch}/{epochs - 1}"
        LOGGER.info("\n" + bold("".join(f"{name:>10}" for name in self._columns)))
        self._bar = progress(range(batches), "", unit="batch")

    def batch_end(self, report: BatchReport) -> None:
        """Move the bar; the line is kept for the end of the epoch."""
        last = report.number == report.batches - 1
        if self._bar is None or not (last or not self._bar.disable):
            return
        now = self._clock()
        if last or now - self._looked >= REFRESH:
            self._looked = now
            losses = "".join(f"{value:10.4g}" for value in report.mean_losses.tolist())
            memory = used_memory(report.mean_losses.device)
            counts = f"{len(report.batch.targets):10.4g}{report.batch.images.shape[-1]:10.4g}"
            self._line = f"{memory:>10}{losses}{counts}"
            self._bar.set_description_str(f"{self._position:>10}{self._line}", refresh=False)
        self._bar.update()
        if last:
            self._bar.close()

    def epoch_end(self, report: EpochReport) -> None:
        """Print the line of the epoch and its validation, and once a way to wait less."""
        seconds = max(report.seconds, 1e-9)
        share = report.waiting / seconds
        pace = [f"{report.seconds:.1f} s", f"{report.images / seconds:.1f} images/s", f"waiting {share * 100:.0f} %"]
        LOGGER.info(f"{self._position:>10}{self._line}  {', '.join(pace + self._time_left(report))}")
        for line in report.evaluation.table()[:2] if report.evaluation else ():  # without the classes
            LOGGER.info(line)
        if self._advice and share > MUCH_WAITING and report.seconds > SHORT_EPOCH:
            LOGGER.info(f"{share * 100:.0f} % of the epoch was spent waiting for images; try {self._advice}")
            self._advice = None

    def training_end(self) -> None:
        """Print how long it all took, and the most memory that the main process had."""
        if self._start is not None:
            passed = datetime.timedelta(seconds=round(self._clock() - self._start))
            peak = peak_memory()
            memory = f", at most {peak / 1e9:.1f} GB of memory" if peak else ""
            epochs = "1 epoch" if self._epochs_begun == 1 else f"{self._epochs_begun} epochs"
            LOGGER.info(f"{epochs} and the final measurement took {passed}{memory}")

    def _time_left(self, report: EpochReport) -> list[str]:
        """Return the time that the epochs to come take if they are like those of this process; none after the last."""
        coming = report.epochs - report.epoch - 1
        if coming <= 0 or self._start is None:
            return []
        mean = (self._clock() - self._start) / self._epochs_begun  # validation and checkpoints included
        return [f"{datetime.timedelta(seconds=round(mean * coming))} left"]
