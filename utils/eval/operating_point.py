"""From which score to believe a detector: the scores of the best F1, as measured, kept with its weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError

if TYPE_CHECKING:
    from utils.eval.metrics import ClassMetrics

DIGITS = 4  # of a score; the curves behind it have 1000 points
LEAST = 0.001  # no detections with lower scores are measured


@dataclass(frozen=True)
class OperatingPoint:
    """Scores that give the best balance of precision and recall, where (smoothed) F1 is highest.

    Attributes:
        confidence: for all classes together: the highest mean F1.
        classes: for each class by its name; only those of which anything was found.
    """

    confidence: float
    classes: Mapping[str, float]

    @classmethod
    def measured(cls, metrics: "ClassMetrics", names: Mapping[int, str]) -> "OperatingPoint | None":
        """Return the point of a measured model, or None if nothing was found right at any score.

        Args:
            metrics: of an evaluation down to low scores.
            names: class index to name.
        """
        found = metrics.f1_curve.any(1)
        if not found.any():
            return None
        pairs = zip(metrics.classes[found].tolist(), metrics.class_confidence[found], strict=True)
        return cls(_rounded(metrics.best_confidence), {names[index]: _rounded(score) for index, score in pairs})

    @classmethod
    def stored(cls, content: Mapping[str, Any] | None) -> "OperatingPoint | None":
        """Return the point that a checkpoint or another model file carries, None where it has none."""
        return cls(content["confidence"], content["classes"]) if content else None

    def content(self) -> dict[str, Any]:
        """Return the point as plain data, for a checkpoint."""
        return {"confidence": self.confidence, "classes": dict(self.classes)}

    def thresholds(self, names: Mapping[int, str]) -> dict[int, float]:
        """Return each class index with its own score; classes that have none get the common one."""
        return {index: self.classes.get(name, self.confidence) for index, name in names.items()}


def _rounded(score: float) -> float:
    return round(max(float(score), LEAST), DIGITS)


def save_operating_point(weights: Path, point: OperatingPoint, folder: Path) -> Path:
    """Write a copy of a checkpoint that carries ``point`` into ``folder``, under its own name; return the copy.

    Raises:
        UserError: not a checkpoint; or the copy would replace the file itself.
    """
    from utils.checkpoint import read_checkpoint, write_checkpoint  # with torch

    if weights.suffix != ".pt":
        raise UserError(f"--save-point: '{weights}' is no .pt file; save the point with that one, and export it again")
    copy = folder / weights.name
    if copy.exists() and copy.samefile(weights):
        raise UserError(f"--save-point would replace '{weights}' itself; choose another --project or --name")
    write_checkpoint(copy, dataclasses.replace(read_checkpoint(weights), operating_point=point.content()))
    return copy
