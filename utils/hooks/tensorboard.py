"""TensorBoard event files in the run folder: ``tensorboard --logdir runs/train``."""

import contextlib
import copy
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import nn

from utils.hooks.base import BatchReport, EpochReport, Hook
from utils.hooks.facts import RunFacts
from utils.log import LOGGER

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Hook):
    """Records the columns of results.csv once an epoch, the network's graph, and the run's pictures.

    Nothing is recorded for single iterations, which would make a GPU wait.

    Args:
        facts: the run.
    """

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self._writer: SummaryWriter | None = None
        self._image_shape: tuple[int, ...] | None = None  # (C, H, W)

    @property
    def writer(self) -> "SummaryWriter":
        """The event file, begun when first needed; a resumed run hides what an interrupted epoch left behind."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.facts.folder), purge_step=self.facts.first_epoch or None)
        return self._writer

    def batch_end(self, report: BatchReport) -> None:
        """Note the shape of an image of the first batch of a run, for the graph."""
        if report.epoch == 0 and report.number == 0:
            self._image_shape = tuple(report.batch.images.shape[1:])

    def _add_graph(self, model: nn.Module, image_shape: tuple[int, ...]) -> None:
        """Trace a copy on the CPU: a run must not notice, neither by its statistics nor by its random numbers."""
        model = copy.deepcopy(model).cpu().float().eval()
        image = torch.zeros(1, *image_shape)  # (1, C, H, W)
        silence = contextlib.redirect_stdout(io.StringIO())  # torch prints failures
        with torch.random.fork_rng(devices=()), warnings.catch_warnings(), silence:
            warnings.simplefilter("ignore")
            self.writer.add_graph(model, image, use_strict_trace=False)

    def epoch_end(self, report: EpochReport) -> None:
        """Record an epoch; after the first one also pictures of its batches, and the graph if it can be traced.

        The graph has to wait until then, so that the time it takes does not count as training.
        """
        for name, value in self.facts.scalars(report).items():
            self.writer.add_scalar(name, value, report.epoch)
        if report.epoch == 0:
            self._add_pictures([file for file in self.facts.pictures() if file.stem.startswith("train_batch")], 0)
        if self._image_shape and self.facts.model is not None:
            try:
                self._add_graph(self.facts.model, self._image_shape)
            except Exception as error:
                LOGGER.debug(f"no graph for TensorBoard: {error}")
            self._image_shape = None
        self.writer.flush()

    def training_end(self) -> None:
        """Record the other pictures and close the file."""
        others = [file for file in self.facts.pictures() if not file.stem.startswith("train_batch")]
        self._add_pictures(others, 0)
        self.writer.close()

    def _add_pictures(self, files: list[Path], step: int) -> None:
        for file in files:
            image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
            if image is not None:
                self.writer.add_image(file.stem, image[..., ::-1].copy(), step, dataformats="HWC")
