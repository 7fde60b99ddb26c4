"""Average precision of detections that lie class after class, at one IoU threshold."""

import numpy as np

from utils.eval.metrics import average_precision


def rank(classes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the (n,) order of detections by class and, within a class, by falling score; ties keep their order."""
    return np.lexsort((-scores, classes))


def class_ap(classes: np.ndarray, correct: np.ndarray, label_counts: np.ndarray) -> np.ndarray:
    """Return the (C,) average precision of each class, as `ap_per_class` defines it.

    Without a label, a class is worth 1 if nothing is detected of it, else 0.

    Args:
        classes: (n,) class of each detection in the order of `rank`, 0..C-1.
        correct: (n,) bool, true positive.
        label_counts: (C,) labels of each class.
    """
    ends = np.bincount(classes, minlength=len(label_counts)).cumsum()
    ap = np.zeros(len(label_counts))
    for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        labels = label_counts[index]
        if not labels:
            ap[index] = start == end
        elif start < end:
            hits = correct[start:end].cumsum()
            ap[index] = average_precision(hits / (labels + 1e-16), hits / np.arange(1, end - start + 1))
    return ap
