"""Which classes a detector mixes up."""

import numpy as np
import torch
from torch import Tensor

from utils.device import one_thread
from utils.overlap import pairwise_iou


class ConfusionMatrix:
    """Counts of predicted against true classes, background included.

    ``matrix`` is (classes + 1, classes + 1): row = predicted class, column = true class; the last row counts labels
    that were missed, the last column detections that found nothing.

    Args:
        class_count: number of classes.
        confidence: detections count above this score, 0..1.
        iou: a detection can be paired with a label that it overlaps by more than this, 0..1.
    """

    def __init__(self, class_count: int, confidence: float = 0.25, iou: float = 0.45):
        self.class_count = class_count
        self.confidence = confidence
        self.iou = iou
        self.matrix = np.zeros((class_count + 1, class_count + 1), dtype=np.int64)

    @one_thread()  # see non_max_suppression
    def update(self, detections: Tensor, labels: Tensor) -> None:
        """Count one image.

        Pairs are formed by overlap alone, whatever the classes. As in current YOLOv5 (v6.1 skips them), an image
        without detections counts its labels as missed. As in both, an image without labels is not counted, nor are
        the stray detections of an image in which nothing was found.

        Args:
            detections: (n, 6) left, top, right, bottom, score, class.
            labels: (m, 5) class, left, top, right, bottom in the same pixels.
        """
        if not len(labels):
            return
        detections = detections[detections[:, 4] > self.confidence]
        predicted, true = detections[:, 5].long().cpu().numpy(), labels[:, 0].long().cpu().numpy()
        partner = self._pair(detections[:, :4], labels[:, 1:]).cpu().numpy()  # (m,) detection of each label, or -1
        background = self.class_count
        found = partner >= 0
        rows = np.where(found, predicted[partner] if len(predicted) else background, background)
        np.add.at(self.matrix, (rows, true), 1)
        if found.any():
            stray = np.delete(predicted, partner[found])
            self.matrix[:, background] += np.bincount(stray, minlength=len(self.matrix))

    def add(self, other: "ConfusionMatrix") -> None:
        """Add the counts of other images."""
        self.matrix += other.matrix

    def _pair(self, boxes: Tensor, label_boxes: Tensor) -> Tensor:
        """Give each detection its best label, then each label its best detection: (m,) indices, -1 for none."""
        partner = torch.full((len(label_boxes),), -1, device=boxes.device)
        if not len(boxes):
            return partner
        overlap = pairwise_iou(boxes, label_boxes)  # (n, m)
        best_label = overlap.argmax(1, keepdim=True)
        chosen = torch.zeros_like(overlap).scatter(1, best_label, overlap.gather(1, best_label))
        value, detection = chosen.max(0)  # (m,)
        return torch.where(value > self.iou, detection, partner)

    @property
    def true_positives(self) -> np.ndarray:
        """(classes,) detections that were paired with a label of their class."""
        return self.matrix.diagonal()[:-1]

    @property
    def false_positives(self) -> np.ndarray:
        """(classes,) detections that were paired with another class or with nothing."""
        return self.matrix.sum(1)[:-1] - self.true_positives

    def normalised(self) -> np.ndarray:
        """Return the matrix with each column divided by its sum: fractions of the true class."""
        return self.matrix / (self.matrix.sum(0, keepdims=True) + 1e-9)
