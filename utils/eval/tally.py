"""What the figures need of each batch, collected while a network runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from utils.boxes import scale_boxes
from utils.data.loader import Batch
from utils.eval.confusion import ConfusionMatrix
from utils.eval.findings import Findings
from utils.eval.metrics import labels_per_image, match_detections


@dataclass(frozen=True)
class _Record:
    """What is kept of one batch."""

    scores: np.ndarray  # (n,)
    classes: np.ndarray  # (n,)
    correct: np.ndarray  # (n, 10) bool
    label_classes: np.ndarray  # (m,)
    losses: Tensor | None  # (3,)
    whereabouts: "_Whereabouts | None"


@dataclass(frozen=True)
class _Whereabouts:
    """What pictures and further figures need besides."""

    paths: list[str]
    sizes_hw: np.ndarray  # (B, 2)
    boxes: np.ndarray  # (n, 4)
    detection_counts: np.ndarray  # (B,)
    label_boxes: np.ndarray  # (m, 4)
    label_counts: np.ndarray  # (B,)


class Tally:
    """Collects, batch by batch, what the metrics need, and forgets the rest.

    Args:
        class_count: number of classes.
        keeps_boxes: keep all that `Findings` holds: 34 bytes a detection instead of 18.

    Attributes:
        images: number of images so far.
        confusion: which classes were mixed up so far.
    """

    def __init__(self, class_count: int, keeps_boxes: bool = False):
        self.confusion = ConfusionMatrix(class_count)
        self.images = 0
        self.keeps_boxes = keeps_boxes
        self._records: list[_Record] = []

    def add(self, batch: Batch, native: list[Tensor], losses: Tensor | None) -> None:
        """Match the detections of a batch with its labels: B tensors (n, 6), boxes in px of the original images."""
        labels = native_labels(batch, len(native))
        if self.confusion.class_count == 1:
            for label in labels:
                label[:, 0] = 0
        correct = [match_detections(*pair) for pair in zip(native, labels, strict=True)]
        for pair in zip(native, labels, strict=True):
            self.confusion.update(*pair)
        self.images += len(native)
        found, truth = torch.cat(native).numpy(), torch.cat(labels).numpy()
        whereabouts = None
        if self.keeps_boxes:
            whereabouts = _Whereabouts(
                list(map(str, batch.paths)),
                np.array(batch.original_hw, dtype=np.int32).reshape(-1, 2),
                found[:, :4].copy(),
                np.array([len(one) for one in native]),
                truth[:, 1:].copy(),
                np.array([len(one) for one in labels]),
            )
        classes, label_classes = found[:, 5].astype(np.int32), truth[:, 0].astype(np.int32)
        hits = torch.cat(correct).numpy()
        self._records.append(_Record(found[:, 4].copy(), classes, hits, label_classes, losses, whereabouts))

    @property
    def scores(self) -> np.ndarray:
        """(n,) scores of all detections."""
        return np.concatenate([record.scores for record in self._records])

    @property
    def classes(self) -> np.ndarray:
        """(n,) their classes."""
        return np.concatenate([record.classes for record in self._records])

    @property
    def correct(self) -> np.ndarray:
        """(n, 10) at which IoU thresholds they are true positives."""
        return np.concatenate([record.correct for record in self._records])

    @property
    def label_classes(self) -> np.ndarray:
        """(m,) classes of all labels."""
        return np.concatenate([record.label_classes for record in self._records])

    def mean_losses(self) -> tuple[float, ...]:
        """Return the box, objectness and class loss, as means over the batches; zeros when there were none."""
        losses = [record.losses for record in self._records if record.losses is not None]
        return tuple(torch.stack(losses).mean(0).tolist()) if losses else (0.0, 0.0, 0.0)

    def findings(self, names: Mapping[int, str]) -> Findings | None:
        """Return every detection and label, if boxes were kept."""
        kept = [record.whereabouts for record in self._records if record.whereabouts]
        if not kept:
            return None
        return Findings(
            names=names,
            paths=[path for one in kept for path in one.paths],
            sizes_hw=np.concatenate([one.sizes_hw for one in kept]),
            boxes=np.concatenate([one.boxes for one in kept]),
            scores=self.scores,
            classes=self.classes,
            correct=self.correct,
            detection_counts=np.concatenate([one.detection_counts for one in kept]),
            label_boxes=np.concatenate([one.label_boxes for one in kept]),
            label_classes=self.label_classes,
            label_counts=np.concatenate([one.label_counts for one in kept]),
        )


def native_labels(batch: Batch, count: int) -> list[Tensor]:
    """Return the labels of the ``count`` images of a batch: tensors (m, 5) class and box in px of the original."""
    input_hw = (batch.images.shape[2], batch.images.shape[3])
    labels = labels_per_image(batch.targets.cpu().float(), count, input_hw)
    return [
        torch.cat([label[:, :1], scale_boxes(label[:, 1:], input_hw, *geometry)], 1)
        for label, geometry in zip(labels, _geometry(batch), strict=True)
    ]


def native_detections(batch: Batch, detections: list[Tensor]) -> list[Tensor]:
    """Return B tensors (n, 6) of detections with their boxes in px of the original images instead of the input."""
    input_hw = (batch.images.shape[2], batch.images.shape[3])
    return [
        torch.cat([scale_boxes(found[:, :4], input_hw, *geometry), found[:, 4:]], 1)
        for found, geometry in zip(detections, _geometry(batch), strict=True)
    ]


def _geometry(batch: Batch) -> list[tuple[tuple[int, int], float, tuple[float, float]]]:
    return list(zip(batch.original_hw, batch.ratios, batch.pads_xy, strict=True))


def merged(tallies: list[Tally]) -> Tally:
    """Return one tally of all, with the batches in the order in which they were dealt to the processes in turn."""
    whole = Tally(tallies[0].confusion.class_count, tallies[0].keeps_boxes)
    rounds = zip_longest(*(tally._records for tally in tallies))
    whole._records = [record for records in rounds for record in records if record is not None]
    whole.images = sum(tally.images for tally in tallies)
    for tally in tallies:
        whole.confusion.add(tally.confusion)
    return whole
