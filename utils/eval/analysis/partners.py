"""Which label each detection lies on: of its own class, and of any other."""

from dataclasses import dataclass

import numpy as np
import torch

from utils.eval.findings import Findings
from utils.overlap import pairwise_iou


@dataclass(frozen=True)
class Partners:
    """The labels that the n detections overlap most.

    Attributes:
        own_iou: (n,) float32 overlap with the best label of the detection's class, 0..1.
        own_label: (n,) its position among all labels, -1 where none is overlapped.
        other_iou: (n,) float32 overlap with the best label of another class.
        other_label: (n,) its position.
    """

    own_iou: np.ndarray
    own_label: np.ndarray
    other_iou: np.ndarray
    other_label: np.ndarray


def find_partners(findings: Findings) -> Partners:
    """Return the partners of all detections; one image after the other, so that memory stays small."""
    count = len(findings.scores)
    iou = np.zeros((2, count), np.float32)  # own class, another class
    label = np.full((2, count), -1)
    for image in np.flatnonzero((findings.detection_counts > 0) & (findings.label_counts > 0)).tolist():
        rows, columns = findings.detections_of(image), findings.labels_of(image)
        boxes, label_boxes = torch.from_numpy(findings.boxes[rows]), torch.from_numpy(findings.label_boxes[columns])
        overlap = pairwise_iou(boxes, label_boxes, eps=1e-7).numpy()  # (n, m), to the bit as match_detections has it
        is_own = findings.classes[rows, None] == findings.label_classes[None, columns]
        for kind, counts in enumerate((is_own, ~is_own)):
            counted = overlap * counts
            best = counted.argmax(1)
            value = counted[np.arange(len(best)), best]
            iou[kind, rows] = value
            label[kind, rows] = np.where(value > 0, columns.start + best, -1)
    return Partners(iou[0], label[0], iou[1], label[1])
