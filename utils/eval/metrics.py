"""Precision, recall and average precision, as current YOLOv5 defines them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from utils.boxes import xywh_to_xyxy
from utils.device import one_thread
from utils.overlap import pairwise_iou

IOU_THRESHOLDS = torch.linspace(0.5, 0.95, 10)
CURVE_POINTS = 1000  # samples of confidence (or recall) in 0..1 behind a curve
RECALL_POINTS = 101  # samples of recall behind one average precision
POOR_F1 = 0.1  # a class that never gets there was hardly found; where its F1 is highest says nothing
SMOOTHING = 0.1  # width of the box filter on the mean F1 curve, as a fraction of the curve


def labels_per_image(targets: Tensor, count: int, size_hw: tuple[int, int]) -> list[Tensor]:
    """Split the targets of a batch by image and turn them into pixels.

    Args:
        targets: (n, 6) image index, class, centre x, y, width, height in 0..1 of the network input.
        count: number of images.
        size_hw: height and width of the network input in px.

    Returns:
        ``count`` tensors (m, 5): class, left, top, right, bottom in px.
    """
    height, width = size_hw
    boxes = xywh_to_xyxy(targets[:, 2:]) * targets.new_tensor([width, height, width, height])
    labels = torch.cat([targets[:, 1:2], boxes], 1)
    return [labels[targets[:, 0] == index] for index in range(count)]


@one_thread()  # see non_max_suppression
def match_detections(detections: Tensor, labels: Tensor, thresholds: Tensor = IOU_THRESHOLDS) -> Tensor:
    """Decide, for each IoU threshold on its own, which detections of one image find a label.

    Each detection goes for the label of its class that it overlaps most. Of the detections that reach a threshold at
    one label, the first, hence most confident, gets it. (v6.1 matched at 0.50 only and reused that pairing.)

    Args:
        detections: (n, 6) left, top, right, bottom, score, class; best score first.
        labels: (m, 5) class, left, top, right, bottom in the same pixels.
        thresholds: (T,) IoU thresholds above 0.

    Returns:
        (n, T) bool, true where the detection is a true positive.
    """
    count, steps = len(detections), len(thresholds)
    if not count or not len(labels):
        return torch.zeros(count, steps, dtype=torch.bool, device=detections.device)
    same_class = detections[:, None, 5] == labels[None, :, 0]  # (n, m)
    overlap = pairwise_iou(detections[:, :4], labels[:, 1:], eps=1e-7) * same_class
    best_overlap, best_label = overlap.max(1)  # (n,)
    reaches = best_overlap[:, None] >= thresholds.to(overlap.device)  # (n, T)
    order = torch.arange(count, device=overlap.device)[:, None].expand(-1, steps)
    label = best_label[:, None].expand(-1, steps)
    winner = order.new_full((len(labels), steps), count)  # position of the detection that gets the label
    winner = winner.scatter_reduce(0, label, order.where(reaches, order.new_tensor(count)), "amin")
    return reaches & (winner.gather(0, label) == order)


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return the area under one precision-recall curve, sampled at 101 points of recall (COCO's sampling).

    Args:
        recall: (n,) rising, 0..1, one value a detection in order of falling confidence.
        precision: (n,) of the same detections, 0..1.
    """
    recall, envelope = _envelope(recall, precision)
    sampled = np.interp(np.linspace(0, 1, RECALL_POINTS), recall, envelope)
    return float((sampled.sum() - (sampled[0] + sampled[-1]) / 2) / (RECALL_POINTS - 1))  # trapezoids


def _envelope(recall: np.ndarray, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Close a curve at recall 0 and 1 and make precision fall monotonically."""
    precision = np.concatenate([[1.0], precision, [0.0]])
    return np.concatenate([[0.0], recall, [1.0]]), np.maximum.accumulate(precision[::-1])[::-1]


def smooth(curve: np.ndarray, fraction: float = SMOOTHING) -> np.ndarray:
    """Average (n,) ``curve`` over a sliding window of ``fraction`` of its length, repeating the end values."""
    taps = round(len(curve) * fraction * 2) // 2 + 1
    padded = np.pad(curve, taps // 2, mode="edge")
    return np.convolve(padded, np.full(taps, 1 / taps), mode="valid")


def fitness(precision: float, recall: float, map50: float, map50_95: float) -> float:
    """Return the number by which the best checkpoint is chosen, as in v6.1; precision and recall have no weight."""
    return 0.1 * map50 + 0.9 * map50_95


@dataclass(frozen=True)
class ClassMetrics:
    """Results of the C classes that have labels; means run over these classes and are 0 when there are none.

    Attributes:
        classes: (C,) class indices, rising.
        label_counts: (C,) labels of each class.
        ap: (C, T) average precision at each IoU threshold.
        precision_curve: (C, 1000) precision at IoU 0.5 over ``confidence_axis``.
        recall_curve: (C, 1000) recall at IoU 0.5 over ``confidence_axis``.
        precision_by_recall: (C, 1000) precision at IoU 0.5 over recall 0..1.
        least_score: below it nothing was looked for, 0..1, and the curves are level.
    """

    classes: np.ndarray
    label_counts: np.ndarray
    ap: np.ndarray
    precision_curve: np.ndarray
    recall_curve: np.ndarray
    precision_by_recall: np.ndarray
    least_score: float

    @property
    def confidence_axis(self) -> np.ndarray:
        """(1000,) confidences of the curves; recall for ``precision_by_recall``."""
        return np.linspace(0, 1, CURVE_POINTS)

    @cached_property
    def f1_curve(self) -> np.ndarray:
        """(C, 1000) harmonic mean of precision and recall over ``confidence_axis``."""
        return _f1(self.precision_curve, self.recall_curve)

    @cached_property
    def operating_point(self) -> int:
        """Index into ``confidence_axis`` at which the smoothed mean F1 is highest."""
        return int(smooth(self.f1_curve.mean(0)).argmax()) if len(self.classes) else 0

    @cached_property
    def best_confidence(self) -> float:
        """Confidence at which the smoothed mean F1 is highest, 0..1; 0 when nothing was found."""
        return self._best_confidence(self.f1_curve.mean(0)) if self.f1_curve.any() else 0.0

    @cached_property
    def class_confidence(self) -> np.ndarray:
        """(C,) confidence at which each class's own smoothed F1 is highest, 0..1.

        A class whose F1 stays below ``POOR_F1`` everywhere has none of its own: ``best_confidence`` stands in.
        """
        poor = self.f1_curve.max(1, initial=0) < POOR_F1
        pairs = zip(self.f1_curve, poor, strict=True)
        return np.array([self.best_confidence if skip else self._best_confidence(curve) for curve, skip in pairs])

    def _best_confidence(self, curve: np.ndarray) -> float:
        """Return where a (1000,) F1 curve is highest: the middle of the place, if it is level there.

        A rare class that was found once, at 0.9, and never where it was not, is as good from the least score on; but on
        other images that would let everything in.
        """
        first = int(np.searchsorted(self.confidence_axis, self.least_score))
        seen = smooth(curve)[first : len(curve)].round(9)  # level but for rounding
        start = int(seen.argmax())
        lower = np.flatnonzero(seen[start:] < seen[start])
        length = int(lower[0]) if len(lower) else len(seen) - start
        return float(self.confidence_axis[first + start + (length - 1) // 2])

    @property
    def precision(self) -> np.ndarray:
        """(C,) precision at the operating point."""
        return self.precision_curve[:, self.operating_point]

    @property
    def recall(self) -> np.ndarray:
        """(C,) recall at the operating point."""
        return self.recall_curve[:, self.operating_point]

    @property
    def f1(self) -> np.ndarray:
        """(C,) F1 at the operating point."""
        return self.f1_curve[:, self.operating_point]

    @property
    def true_positives(self) -> np.ndarray:
        """(C,) detections at the operating point that find a label at IoU 0.5."""
        return (self.recall * self.label_counts).round()

    @property
    def false_positives(self) -> np.ndarray:
        """(C,) detections at the operating point that find none."""
        return (self.true_positives / (self.precision + 1e-16) - self.true_positives).round()

    @property
    def ap50(self) -> np.ndarray:
        """(C,) average precision at IoU 0.50."""
        return self.ap[:, 0]

    @property
    def ap75(self) -> np.ndarray:
        """(C,) average precision at IoU 0.75."""
        return self.ap[:, 5]

    @property
    def ap50_95(self) -> np.ndarray:
        """(C,) average precision averaged over the IoU thresholds."""
        return self.ap.mean(1)

    def mean(self, name: str) -> float:
        """Return the mean over classes of the attribute called ``name``, such as ``"ap50"``."""
        values = getattr(self, name)
        return float(values.mean()) if len(values) else 0.0


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    return 2 * precision * recall / (precision + recall + 1e-16)


def ap_per_class(
    correct: np.ndarray,
    confidence: np.ndarray,
    predicted_class: np.ndarray,
    true_class: np.ndarray,
    least_score: float = 0.0,
) -> ClassMetrics:
    """Measure a whole data set.

    Detections of classes without any label are left out; equal confidences keep the order given.

    Args:
        correct: (n, T) bool from `match_detections`, of all images.
        confidence: (n,) scores 0..1.
        predicted_class: (n,) class of each detection.
        true_class: (m,) class of each label of all images.
        least_score: detections were looked for above this score only, 0..1.
    """
    classes, counts = np.unique(true_class, return_counts=True)
    order, ends = _by_class(classes, predicted_class, confidence)
    ap = np.zeros((len(classes), correct.shape[1]))
    precision_curve, recall_curve, by_recall = np.zeros((3, len(classes), CURVE_POINTS))
    axis = np.linspace(0, 1, CURVE_POINTS)
    for index, own in enumerate(np.split(order, ends[:-1])):
        if not len(own):
            continue
        hits = correct[own].cumsum(0)  # (n of the class, T)
        recall = hits / (counts[index] + 1e-16)
        precision = hits / np.arange(1, len(hits) + 1)[:, None]
        recall_curve[index] = np.interp(-axis, -confidence[own], recall[:, 0], left=0)
        precision_curve[index] = np.interp(-axis, -confidence[own], precision[:, 0], left=1)
        by_recall[index] = np.interp(axis, *_envelope(recall[:, 0], precision[:, 0]))
        ap[index] = [average_precision(*curve) for curve in zip(recall.T, precision.T, strict=True)]
    return ClassMetrics(classes.astype(int), counts, ap, precision_curve, recall_curve, by_recall, least_score)


def _by_class(classes: np.ndarray, predicted: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort detections by class, most confident first.

    Args:
        classes: (C,) rising; detections of other classes are left out.
        predicted: (n,) class of each detection.
        confidence: (n,) scores.

    Returns:
        (k,) positions of the detections, and (C,) where in it the detections of each class end.
    """
    smallest_type = np.min_scalar_type(len(classes))  # numpy sorts whole numbers of 16 bits and less in linear time
    rank = np.searchsorted(classes, predicted).astype(smallest_type)  # (n,) in 0..C
    known = np.append(classes, np.nan)[rank] == predicted
    order = np.argsort(-confidence, kind="stable")
    order = order[known[order]]
    rank = rank[order]
    return order[rank.argsort(kind="stable")], np.bincount(rank, minlength=len(classes)).cumsum()
