"""What kinds of errors cost how much average precision, in the manner of TIDE (Bolya et al. 2020, arXiv 2008.08115).

Every detection that is no true positive has one kind of error. It follows from its overlap (IoU) with the labels; where
several fit, the first of this list counts:

- localisation: 0.1 to 0.5 with a label of its class;
- classification: 0.5 or more with a label of another class;
- duplicate: 0.5 or more with a label of its class, which a more confident detection has found;
- background: less than 0.1 with every label;
- both: what is left, 0.1 to 0.5 with a label of another class.

A label that nothing found, and that is not the one that an error of classification or localisation means, is missed.

The cost of a kind is by how much mAP50 rises when an oracle mends this kind only. It gives a detection the class or the
box of the label it means; of several that then show the same label the best is kept. Duplicates, background and both
are removed, missed labels are no longer asked for. These costs do not add up to what is missing to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from utils.eval.analysis.partners import Partners
from utils.eval.analysis.ranking import class_ap, rank
from utils.eval.findings import Findings

FOREGROUND_IOU = 0.5
BACKGROUND_IOU = 0.1
RIGHT, CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND = range(6)  # kinds of detections
KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
SIDES = ("false positives", "false negatives")


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with each detection and label.

    Attributes:
        kinds: (n,) int8, RIGHT or the kind of error of each detection.
        labels: (n,) the label that a detection found, or means if it has the wrong class or box; else -1.
    """

    kinds: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class ErrorBreakdown:
    """Errors by kind.

    Attributes:
        map50: mean average precision at IoU 0.5 as it is, 0..1.
        costs: for each of KINDS and SIDES, by how much mAP50 rises without it.
        counts: for each of KINDS and SIDES, how many there are among all detections.
        counts_used: the same among detections from the operating confidence on.
        diagnosis: the kind of each detection.
    """

    map50: float
    costs: Mapping[str, float]
    counts: Mapping[str, int]
    counts_used: Mapping[str, int]
    diagnosis: Diagnosis


def break_down(findings: Findings, partners: Partners, confidence: float) -> ErrorBreakdown:
    """Return the errors of an evaluation by kind; without labels every cost is 0.

    Args:
        findings: detections and labels.
        partners: from `find_partners`.
        confidence: operating confidence, 0..1.
    """
    diagnosis = diagnose(findings, partners)
    map50, costs = _costs(findings, diagnosis)
    every = np.ones(len(findings.scores), bool)
    counts, used = (_counts(findings, diagnosis, shown) for shown in (every, findings.scores >= confidence))
    return ErrorBreakdown(map50, costs, counts, used, diagnosis)


def diagnose(findings: Findings, partners: Partners) -> Diagnosis:
    """Give each detection its kind."""
    own, other = partners.own_iou, partners.other_iou
    cases = [
        (findings.correct[:, 0], RIGHT),
        ((own >= BACKGROUND_IOU) & (own < FOREGROUND_IOU), LOCALISATION),
        (other >= FOREGROUND_IOU, CLASSIFICATION),
        (own >= FOREGROUND_IOU, DUPLICATE),
        (other < BACKGROUND_IOU, BACKGROUND),
    ]
    conditions, kinds = zip(*cases, strict=True)
    kind = np.select(conditions, kinds, BOTH).astype(np.int8)
    means_own = (kind == RIGHT) | (kind == LOCALISATION)
    means_other = kind == CLASSIFICATION
    return Diagnosis(kind, np.where(means_own, partners.own_label, np.where(means_other, partners.other_label, -1)))


def missed_labels(label_count: int, diagnosis: Diagnosis, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which labels are not found, and which of these no error of class or box accounts for.

    Args:
        label_count: m, labels in all.
        diagnosis: of n detections.
        shown: (n,) bool, the detections that count.

    Returns:
        two (m,) bool.
    """
    lost, missed = np.ones((2, label_count), bool)
    lost[diagnosis.labels[shown & (diagnosis.kinds == RIGHT)]] = False
    missed[diagnosis.labels[shown & (diagnosis.labels >= 0)]] = False
    return lost, missed


def _counts(findings: Findings, diagnosis: Diagnosis, shown: np.ndarray) -> dict[str, int]:
    by_kind = np.bincount(diagnosis.kinds[shown], minlength=6).tolist()
    lost, missed = missed_labels(len(findings.label_classes), diagnosis, shown)
    numbers = [*by_kind[1:], int(missed.sum()), sum(by_kind[1:]), int(lost.sum())]
    return dict(zip((*KINDS, *SIDES), numbers, strict=True))


def _costs(findings: Findings, diagnosis: Diagnosis) -> tuple[float, dict[str, float]]:
    """Return mAP50, and what each of KINDS and SIDES takes from it."""
    order = rank(findings.classes, findings.scores)
    classes, kinds = findings.classes[order], diagnosis.kinds[order]
    correct = kinds == RIGHT
    lost, missed = missed_labels(len(findings.label_classes), diagnosis, np.ones(len(order), bool))
    class_count = max(len(findings.names), int(max(classes.max(initial=0), findings.label_classes.max(initial=0))) + 1)

    def labels_per_class(asked: np.ndarray) -> np.ndarray:
        return np.bincount(findings.label_classes[asked], minlength=class_count)

    counts = labels_per_class(np.ones(len(lost), bool))
    if not counts.any():
        return 0.0, dict.fromkeys((*KINDS, *SIDES), 0.0)

    def mean_ap(keep: np.ndarray, asked: np.ndarray = counts) -> float:
        return float(class_ap(classes[keep], correct[keep], asked)[counts > 0].mean())

    every = np.ones(len(order), bool)
    mended = {
        "both": mean_ap(kinds != BOTH),
        "duplicate": mean_ap(kinds != DUPLICATE),
        "background": mean_ap(kinds != BACKGROUND),
        "missed": mean_ap(every, labels_per_class(~missed)),
        "false positives": mean_ap(correct),
        "false negatives": mean_ap(every, labels_per_class(~lost)),
    }
    for name, kind in (("classification", CLASSIFICATION), ("localisation", LOCALISATION)):
        mended_classes, mended_correct = _mend(findings, diagnosis, kind)
        mended[name] = float(class_ap(mended_classes, mended_correct, counts)[counts > 0].mean())
    map50 = mean_ap(every)
    return map50, {name: mended[name] - map50 for name in (*KINDS, *SIDES)}


def _mend(findings: Findings, diagnosis: Diagnosis, kind: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn detections of ``kind`` into true positives of the labels they mean, the best of each label only.

    Returns:
        (k,) classes and (k,) bool true positives of the detections that remain, in the order of `rank`.
    """
    shows = np.flatnonzero((diagnosis.kinds == RIGHT) | (diagnosis.kinds == kind))
    shows = shows[np.argsort(-findings.scores[shows], kind="stable")]
    best = shows[np.unique(diagnosis.labels[shows], return_index=True)[1]]  # the first, hence best, of each label
    correct = np.zeros(len(findings.scores), bool)
    correct[best] = True
    classes = findings.classes.copy()
    classes[best] = findings.label_classes[diagnosis.labels[best]]
    keep = correct.copy()
    keep[(diagnosis.kinds != RIGHT) & (diagnosis.kinds != kind)] = True
    classes, correct, scores = classes[keep], correct[keep], findings.scores[keep]
    order = rank(classes, scores)
    return classes[order], correct[order]
