"""What becomes of NAM's scales: a line and a column of results.csv an epoch, and nam_scales.png at the end."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.eval.scale_plot import save_scale_plot
from utils.files import atomic_write
from utils.hooks.base import EpochReport, Hook
from utils.log import LOGGER

SMALL = 0.01  # smaller scales count as switched off


class ScaleFigures(Hook):
    """Watches the scales of the averaged weights.

    Args:
        folder: the run folder. ``nam_start.npz`` keeps what the scales were before training, through interruptions.
        scales: by name, see sparse_scales; they change while the run trains.
        first_epoch: 0 for a run that begins.
        draw: draw ``nam_scales.png`` at the end.

    Attributes:
        column: name of ``share_below`` in results.csv.
    """

    column = f"nam/below_{SMALL:g}"

    def __init__(self, folder: Path, scales: Mapping[str, Tensor], first_epoch: int = 0, draw: bool = True) -> None:
        self.folder = folder
        self.draw = draw
        self.scales = scales
        if first_epoch == 0:
            with atomic_write(self._start_file) as temporary:
                np.savez(temporary, **self._values())  # type: ignore[arg-type]

    @property
    def _start_file(self) -> Path:
        return self.folder / "nam_start.npz"

    def _values(self) -> dict[str, np.ndarray]:
        return {name: scale.detach().cpu().numpy().ravel() for name, scale in self.scales.items()}

    def share_below(self) -> float:
        """Return the share of scales that are switched off, 0 to 1."""
        return float((torch.cat([scale.flatten() for scale in self.scales.values()]).abs() < SMALL).float().mean())

    def epoch_end(self, report: EpochReport) -> None:
        """Print the share."""
        count = sum(scale.numel() for scale in self.scales.values())
        LOGGER.info(f"NAM scales below {SMALL:g}: {self.share_below():.1%} of {count}".replace("%", " %"))

    def epochs_done(self) -> None:
        """Draw ``nam_scales.png``."""
        if not self.draw:
            return
        start = dict(np.load(self._start_file)) if self._start_file.is_file() else {}
        save_scale_plot(start, self._values(), self.folder / "results.csv", self.column, self.folder / "nam_scales.png")
