"""What loggers are told about a run, and what all of them record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from utils.hooks.base import EpochReport
from utils.hooks.csv_file import Figures, epoch_values

PICTURES = (".jpg", ".png")


@dataclass(frozen=True)
class RunFacts:
    """A run as loggers see it.

    Attributes:
        folder: the run folder; its pictures are recorded, and ids of the run elsewhere are kept in it.
        project: folder that holds runs.
        options: command-line options, by name.
        hyperparameters: by name.
        first_epoch: 0 for a run that begins.
        figures: columns that results.csv has beside v6.1's.
        model: the averaged network, whose graph is recorded.
    """

    folder: Path
    project: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    first_epoch: int = 0
    figures: Figures = field(default_factory=dict)
    model: nn.Module | None = None

    @property
    def best(self) -> Path:
        """The best checkpoint."""
        return self.folder / "weights" / "best.pt"

    def scalars(self, report: EpochReport) -> dict[str, float]:
        """Return the figures of an epoch under their names in results.csv, but for its number and for gaps."""
        values = epoch_values(report, self.figures)
        return {name: value for name, value in values.items() if name != "epoch" and not math.isnan(value)}

    def pictures(self) -> list[Path]:
        """Return the pictures that are in the run folder by now."""
        return sorted(file for file in self.folder.glob("[!.]*") if file.suffix in PICTURES)

    def saved_id(self, file_name: str) -> str | None:
        """Return what ``save_id`` kept, unless the run begins anew."""
        file = self.folder / file_name
        return file.read_text(encoding="utf-8").strip() if self.first_epoch and file.is_file() else None

    def save_id(self, file_name: str, identity: str) -> None:
        """Keep the id of the run in a logger's store, for the time it is resumed."""
        (self.folder / file_name).write_text(identity + "\n", encoding="utf-8")
