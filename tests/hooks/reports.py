"""Reports as training sends them, without training."""

import numpy as np
import torch

from utils.data.loader import Batch
from utils.eval.confusion import ConfusionMatrix
from utils.eval.evaluate import Evaluation
from utils.eval.metrics import ap_per_class
from utils.hooks.base import BatchReport, EpochReport

NAMES = {0: "cat", 1: "dog"}


def evaluation(found: int = 0, labels: tuple[int, ...] = (0, 0, 1)) -> Evaluation:
    """Return an evaluation of ``labels``, the first ``found`` of them detected."""
    correct = np.ones((found, 10), bool)
    classes = np.array(labels, int)
    metrics = ap_per_class(correct, np.linspace(0.9, 0.8, found), classes[:found], classes)
    counts = np.bincount(classes, minlength=len(NAMES))
    return Evaluation(metrics, NAMES, 3, counts, (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), ConfusionMatrix(len(NAMES)))


def epoch_report(epoch: int = 0, epochs: int = 3, **changes) -> EpochReport:
    """Return the report of an epoch of 20 s and 40 images."""
    values = {"losses": [0.1, 0.02, 0.003], "evaluation": evaluation(), "learning_rates": [0.01, 0.02, 0.03]}
    values |= {"seconds": 20.0, "images": 40, "waiting": 0.0}
    return EpochReport(epoch, epochs, **(values | changes))


def batch(boxes: list[tuple[float, ...]] = (), images: int = 2, side: int = 64) -> Batch:
    """Return blank images and ``boxes``: image, class, x, y, width, height."""
    targets = torch.tensor(list(boxes), dtype=torch.float32).reshape(-1, 6)
    pixels = torch.zeros(images, 3, side, side, dtype=torch.uint8)
    return Batch(pixels, targets, ["a.jpg"] * images, [(side, side)] * images, [1.0] * images, [(0.0, 0.0)] * images)


def batch_report(epoch: int = 0, number: int = 0, batches: int = 2, losses: torch.Tensor | None = None, **content):
    """Return the report of a batch."""
    losses = torch.tensor([0.1, 0.02, 0.003]) if losses is None else losses
    return BatchReport(epoch, number, batches, batch(**content), losses)
