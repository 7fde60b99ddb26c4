"""Where to look first: the images and single detections that went wrong most."""

from dataclasses import dataclass

import numpy as np

from utils.eval.analysis.errors import RIGHT, Diagnosis, missed_labels
from utils.eval.findings import Findings

MOST = 12  # entries of a list


@dataclass(frozen=True)
class Worst:
    """The worst of an evaluation at its operating confidence; lists may be shorter than `MOST`, or empty.

    Attributes:
        false_positives: (position of the image, number) of the images with most detections that are wrong.
        misses: the same of the images with most labels that were not found.
        mistakes: positions of the wrong detections of highest confidence, whatever the operating confidence.
    """

    false_positives: list[tuple[int, int]]
    misses: list[tuple[int, int]]
    mistakes: list[int]


def find_worst(findings: Findings, diagnosis: Diagnosis, confidence: float) -> Worst:
    """List the worst images and detections, worst first; equally bad ones in the order of evaluation.

    Args:
        findings: detections and labels.
        diagnosis: from `diagnose`.
        confidence: operating confidence; less confident detections do not count for the lists of images.
    """
    shown = findings.scores >= confidence
    wrong = diagnosis.kinds != RIGHT
    lost, _ = missed_labels(len(findings.label_classes), diagnosis, shown)
    mistakes = np.flatnonzero(wrong)
    mistakes = mistakes[np.argsort(-findings.scores[mistakes], kind="stable")][:MOST]
    return Worst(
        _most(findings.detection_image[shown & wrong], len(findings)),
        _most(findings.label_image[lost], len(findings)),
        mistakes.tolist(),
    )


def _most(images: np.ndarray, image_count: int) -> list[tuple[int, int]]:
    """Return which positions are most frequent in ``images``, with their number."""
    counts = np.bincount(images, minlength=image_count)
    order = np.argsort(-counts, kind="stable")[:MOST]
    return [(int(image), int(counts[image])) for image in order if counts[image]]
