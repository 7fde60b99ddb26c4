"""Average precision of small, medium and large objects, with COCO's borders and its rule of what is left out."""

from dataclasses import dataclass

import numpy as np

from utils.eval.analysis.partners import Partners
from utils.eval.analysis.ranking import class_ap, rank
from utils.eval.findings import Findings

SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}  # px² of the original image


@dataclass(frozen=True)
class SizeResult:
    """Results of objects of one size.

    Attributes:
        name: "small", "medium" or "large".
        labels: how many there are.
        ap50: mean over the classes that have such labels of AP at IoU 0.5, 0..1; NaN without labels.
        ap50_95: the same of AP averaged over IoU 0.50 to 0.95.
    """

    name: str
    labels: int
    ap50: float
    ap50_95: float


def by_size(findings: Findings, partners: Partners) -> tuple[SizeResult, ...]:
    """Measure each size of `SIZES` on its own.

    Labels of another size are not asked for, and detections that find them count neither as right nor as wrong; nor do
    detections of another size that find nothing. COCO's evaluator does likewise, apart from its matching (which may
    give a detection to its second best label) and its areas of objects with outlines.

    Args:
        findings: detections and labels.
        partners: from `find_partners`.
    """
    order = rank(findings.classes, findings.scores)
    classes, correct = findings.classes[order], findings.correct[order]
    area, label_area = _area(findings.boxes)[order], _area(findings.label_boxes)
    partner = partners.own_label[order]
    results = []
    for name, (least, most) in SIZES.items():
        asked = (label_area >= least) & (label_area <= most)
        counts = np.bincount(findings.label_classes[asked], minlength=int(classes.max(initial=0)) + 1)
        if not asked.any():
            results.append(SizeResult(name, 0, np.nan, np.nan))
            continue
        finds_asked = np.append(asked, False)[partner]  # False where the partner is -1
        in_range = (area >= least) & (area <= most)
        ap = []
        for right in correct.T:
            keep = np.where(right, finds_asked, in_range)
            ap.append(class_ap(classes[keep], right[keep], counts)[counts > 0].mean())
        results.append(SizeResult(name, int(asked.sum()), float(ap[0]), float(np.mean(ap))))
    return tuple(results)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
