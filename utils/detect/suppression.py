"""From the rows a network gives for one image to its detections, by OpenCV: torch takes long to import.

For evaluation, whose scores are low and whose candidates are many, there is utils/eval/nms.py; both give the same.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from utils.boxes import xywh_to_xyxy
from utils.errors import UserError

MIN_SIDE, MAX_SIDE = 2.0, 7680.0  # px; v6.1 drops boxes with a side outside this range
LIMITS = (2_000, 8_000, 30_000)  # best-scored candidates that take part; more of them if too few survive


def suppress(
    rows: np.ndarray,
    confidence: float,
    iou: float,
    classes: Sequence[int] | None = None,
    agnostic: bool = False,
    max_detections: int = 300,
) -> np.ndarray:
    """Keep the best-scored boxes and drop those that overlap a better one of the same class.

    Args:
        rows: (n, 5 + classes) as ``Backend.find_rows`` gives them.
        confidence: least score (objectness x class probability), exclusive, 0..1.
        iou: boxes of one class that overlap a better one by more than this are dropped, 0..1.
        classes: class indices to keep; all when None.
        agnostic: let boxes of different classes suppress each other.
        max_detections: most detections.

    Returns:
        (m, 6) float32: left, top, right, bottom in px, score, class; best score first, equal ones in the order given.

    Raises:
        UserError: a threshold is outside 0..1.
    """
    check_thresholds(confidence, iou)
    found = _candidates(rows, confidence, classes)
    for limit in LIMITS:  # survival depends on better ones only
        best = found[:limit]
        kept = _survivors(best, iou, agnostic)
        if len(kept) >= max_detections or len(best) == len(found):
            break
    return best[kept[:max_detections]]


def check_thresholds(confidence: float, iou: float) -> None:
    """Refuse thresholds outside 0..1.

    Raises:
        UserError: one is; it names its option.
    """
    for name, value in (("confidence (--conf-thres)", confidence), ("IoU (--iou-thres)", iou)):
        if not 0 <= value <= 1:
            raise UserError(f"{name} threshold is {value}, expected a number from 0 to 1")


def _candidates(rows: np.ndarray, confidence: float, classes: Sequence[int] | None) -> np.ndarray:
    """Return the rows of usable size, each with its best class, as (n, 6) like detections."""
    sides = rows[:, 2:4]
    rows = rows[((sides >= MIN_SIDE) & (sides <= MAX_SIDE)).all(1)]
    scores = rows[:, 5:] * rows[:, 4:5]  # (n, classes)
    labels = scores.argmax(1)
    best = scores[np.arange(len(rows)), labels]
    wanted = best > confidence
    if classes is not None:
        wanted &= np.isin(labels, classes)
    order = np.flatnonzero(wanted)
    order = order[np.argsort(-best[order], kind="stable")]
    columns = (xywh_to_xyxy(rows[order, :4]), best[order, None], labels[order, None])
    return np.concatenate(columns, 1, dtype=np.float32)


def _survivors(candidates: np.ndarray, iou: float, agnostic: bool) -> np.ndarray:
    """Return which of the (n, 6) candidates, best first, survive: (k,) positions, rising."""
    if not len(candidates):
        return np.zeros(0, int)
    corners = candidates[:, :4].astype(float)
    corners -= corners.min()  # OpenCV moves the classes apart by the largest coordinate, as if none were below 0
    boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), 1)  # left, top, width, height
    ranks = np.arange(len(candidates), 0, -1, dtype=np.float32)  # for scores, which differ by too little to be sorted
    labels = np.zeros(len(candidates), np.int32) if agnostic else candidates[:, 5].astype(np.int32)
    kept = cv2.dnn.NMSBoxesBatched(boxes, ranks, labels, 0, iou)  # type: ignore[arg-type]  # arrays are taken, too
    return np.asarray(kept, int)
