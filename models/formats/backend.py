"""What every model format offers to detection and evaluation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from utils.brightness import BRIGHTEST, normalise

if TYPE_CHECKING:
    import torch
    from torch import Tensor

OBJECTNESS = 4  # column

FindRows = Callable[[np.ndarray, float], list[np.ndarray]]
"""See ``Backend.find_rows``."""


@dataclass(frozen=True)
class Metadata:
    """What a model says of itself.

    Attributes:
        stride: height and width of its input must be multiples of this, px.
        names: class names by index.
        input_hw: the only height and width it takes, or None when any will do.
        channels: of the images it takes, see ``read_image``.
        operating_point: the scores from which to believe it, measured; see ``Checkpoint.operating_point``.
    """

    stride: int
    names: dict[int, str]
    input_hw: tuple[int, int] | None = None
    channels: int = 3
    operating_point: dict[str, Any] | None = None


class Backend(Protocol):
    """A loaded model, whatever its format. It may be called by several threads at once.

    Attributes:
        meta: see Metadata.
        parallel: calls at the same time by which the work gets done the fastest.
    """

    meta: Metadata
    parallel: int

    def __call__(self, images: "Tensor") -> "Tensor":
        """Predict everything.

        Args:
            images: (B, C, H, W) float in [0, 1]; three channels are RGB.

        Returns:
            (B, N, 5 + classes): centre x, y, width, height in px of the input; objectness and class scores in [0, 1].
        """

    def find_rows(self, pixels: np.ndarray, least: float) -> list[np.ndarray]:
        """Predict what may be worth a look. Exported files do it without torch, which takes long to import.

        Args:
            pixels: (B, H, W, C) uint8; three channels are RGB.
            least: rows of no greater objectness are left out.

        Returns:
            of each image the (n, 5 + classes) float32 rows that are left, as above, on the CPU. Rows whose objectness
            is NaN are among them, for the caller to see.
        """


def find_by_tensors(
    predict: "Callable[[Tensor], Tensor]", device: "str | torch.device", pixels: np.ndarray, least: float
) -> list[np.ndarray]:
    """Do what ``Backend.find_rows`` does by a function that predicts everything; only likely rows leave the device."""
    import torch

    images = normalise(torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2))
    return [rows[~(rows[:, OBJECTNESS] <= least)].cpu().numpy() for rows in predict(images)]


def predict_by_rows(find_rows: FindRows, least: float) -> "Callable[[Tensor], Tensor]":
    """Return what predicts as ``Backend`` does when called, by the way that detect.py goes.

    Rows of no greater objectness than ``least`` are missing, rows of zeros fill up the images that have fewer.
    """
    import torch

    def predict(images: "Tensor") -> "Tensor":
        pixels = (images * BRIGHTEST).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        found = [torch.from_numpy(rows) for rows in find_rows(pixels.numpy(force=True), least)]
        return torch.nn.utils.rnn.pad_sequence(found, batch_first=True).to(images.device)

    return predict


def likely_rows(table: np.ndarray, least: float) -> list[np.ndarray]:
    """Return the rows of each image in a (B, N, 5 + classes) table as ``Backend.find_rows`` does."""
    return [rows[~(rows[:, OBJECTNESS] <= least)] for rows in table]
