"""How average precision would come out on other images of the same kind: the bootstrap (Efron, 1979) over images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from utils.eval.findings import Findings
from utils.eval.metrics import RECALL_POINTS

CELLS = 8_000_000  # detections x resamples held at a time


@dataclass(frozen=True)
class ResampledAp:
    """Average precision of the C classes that have labels, on R resamples.

    Attributes:
        classes: (C,) class indices, rising.
        ap50: (R, C) at IoU 0.50; NaN where a resample has no label of the class.
        ap50_95: (R, C) averaged over the IoU thresholds.
    """

    classes: np.ndarray
    ap50: np.ndarray
    ap50_95: np.ndarray


def mean_over_classes(ap: np.ndarray) -> np.ndarray:
    """Return (R,) means of (R, C) ``ap`` over the classes with labels in each resample; 0 where there are none."""
    known = ~np.isnan(ap)
    return np.where(known, ap, 0).sum(1) / np.maximum(known.sum(1), 1)


def resample_counts(images: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Draw as many images as there are, with replacement, again and again.

    Returns:
        (resamples, images) uint8: how often each image was drawn. (That one of more than 255 images is drawn more than
        255 times has a probability below 1e-500.)
    """
    counts = np.empty((resamples, images), np.uint8)
    for row in counts:
        row[:] = np.bincount(generator.integers(images, size=images), minlength=images)
    return counts


def bootstrap_ap(findings: Findings, counts: np.ndarray) -> ResampledAp:
    """Measure each resample as `ap_per_class` would measure the data set with every image repeated as often as drawn.

    Copies of a detection follow each other, as they do after `ap_per_class` has sorted explicit copies of images, if no
    two detections of a class have the same score; those that do keep the order of ``findings``.

    Each resample takes the time of one pass over the detections and of ten over the true positives; memory is that of a
    few arrays of ``CELLS``, however many images there are.

    Args:
        findings: of I images.
        counts: (R, I) whole numbers, such as from `resample_counts`; a row of ones gives the measured values.
    """
    classes = np.unique(findings.label_classes)
    ap50, ap50_95 = np.full((2, len(counts), len(classes)), np.nan)
    order = np.lexsort((-findings.scores, findings.classes))  # stable: by class, then best first
    sorted_classes = findings.classes[order]
    for column, label in enumerate(classes):
        own = order[slice(*np.searchsorted(sorted_classes, [label, label + 1]))]
        correct, images = findings.correct[own], findings.detection_image[own]
        label_images = findings.label_image[findings.label_classes == label]
        for block in _blocks(len(images) + len(label_images), len(counts)):
            labels = counts[block].take(label_images, 1).sum(1, dtype=np.int32)  # (r,)
            ap = _class_ap(correct, counts[block].take(images, 1), labels)  # (T, r)
            ap[:, labels == 0] = np.nan
            ap50[block, column], ap50_95[block, column] = ap[0], ap.mean(0)
    return ResampledAp(classes, ap50, ap50_95)


def _blocks(cells: int, resamples: int) -> Iterator[slice]:
    size = max(CELLS // max(cells, 1), 1)
    return (slice(start, start + size) for start in range(0, resamples, size))


def _class_ap(correct: np.ndarray, copies: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (T, r) average precision of one class.

    Precision never falls from a false positive, or from one copy, to the true positive that comes next. So its envelope
    is a staircase over recall that only the last copies of true positives shape; behind the last of them it falls
    in a straight line, from the precision of all detections to 0 at recall 1.

    Args:
        correct: (n, T) bool, the detections of the class, best first.
        copies: (r, n) how often each is in each of r resamples.
        labels: (r,) labels of the class.
    """
    ap = np.zeros((correct.shape[1], len(copies)))
    ever = np.flatnonzero(correct.any(1))  # (u,) true at one threshold or another
    if not len(ever):
        return ap
    behind = ever[-1] + 1
    starts = [0, *(ever[:-1] + 1)]  # of runs of detections that end with a true positive
    seen = np.add.reduceat(copies[:, :behind], starts, axis=1, dtype=np.int32).cumsum(1, dtype=np.int32)  # (r, u)
    total = np.maximum(seen[:, -1] + copies[:, behind:].sum(1, dtype=np.int32), 1)
    seen = np.maximum(seen, 1)
    copies = copies.take(ever, 1)  # (r, u)
    below = _samples_below(labels)  # (r, most labels + 1)
    for step, true in enumerate(correct[ever].T):
        own = np.flatnonzero(true)  # (p,)
        if len(own):
            hits = copies.take(own, 1).cumsum(1, dtype=np.int32)  # (r, p)
            reached = np.take_along_axis(below, hits, 1)
            ap[step] = _area(
                hits / seen.take(own, 1), reached, hits[:, -1] / total, hits[:, -1] / np.maximum(labels, 1)
            )
    return ap


def _samples_below(labels: np.ndarray) -> np.ndarray:
    """Return, for 0, 1, 2, ... hits out of (r,) ``labels``, how many samples of recall lie below their recall."""
    hits = np.arange(labels.max() + 1)  # (most + 1,)
    recall = np.minimum(hits / np.maximum(labels, 1)[:, None], 1)  # (r, most + 1)
    return np.searchsorted(np.linspace(0, 1, RECALL_POINTS), recall).astype(np.int16)


def _area(precision: np.ndarray, reached: np.ndarray, last: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return (r,) trapezoid sums over the samples of recall.

    Args:
        precision: (r, p) at each true positive.
        reached: (r, p) samples of recall below that at each true positive.
        last: (r,) precision of all detections.
        recall: (r,) of all detections.
    """
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # (r, p)
    stairs = (envelope * np.diff(reached, axis=1, prepend=0)).sum(1) - envelope[:, 0] / 2  # the first counts half
    rest = RECALL_POINTS - 1.0 - reached[:, -1]  # samples from the last true positive on, that at 1 left out
    slope = last / np.where(recall < 1, 1 - recall, 1)
    return (stairs + slope * rest * (rest + 1) / 2 / (RECALL_POINTS - 1)) / (RECALL_POINTS - 1)
