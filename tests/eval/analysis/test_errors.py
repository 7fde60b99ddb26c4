import numpy as np
import pytest
import torch

from tests.eval.made import findings_of, make_findings
from utils.eval.analysis.errors import (
    BACKGROUND,
    BOTH,
    CLASSIFICATION,
    DUPLICATE,
    KINDS,
    LOCALISATION,
    RIGHT,
    SIDES,
    break_down,
)
from utils.eval.analysis.partners import find_partners
from utils.eval.metrics import ap_per_class

PERFECT = 0.995  # the average precision of YOLOv5 ends just below 1
LABEL = (0.0, 100.0, 100.0, 200.0, 200.0)  # class, left, top, right, bottom
RIGHT_BOX = (100.0, 100.0, 200.0, 200.0)
OFF_BOX = (160.0, 100.0, 260.0, 200.0)  # IoU 0.25 with the label
FAR_BOX = (400.0, 400.0, 450.0, 450.0)


def _found(*rows):
    """Return (n, 6) from (box, score, class)."""
    return torch.tensor([[*box, score, kind] for box, score, kind in rows]).reshape(-1, 6)


def _break_down(detections, labels, classes=2, confidence=0.5):
    findings = findings_of([detections], [torch.tensor(labels).reshape(-1, 5)], classes)
    return break_down(findings, find_partners(findings), confidence)


@pytest.mark.parametrize(
    "box, kind, expected",
    [
        (RIGHT_BOX, 0, RIGHT),
        (RIGHT_BOX, 1, CLASSIFICATION),
        (OFF_BOX, 0, LOCALISATION),
        (OFF_BOX, 1, BOTH),
        (FAR_BOX, 0, BACKGROUND),
        ((195.0, 100.0, 295.0, 200.0), 0, BACKGROUND),  # IoU 0.03
    ],
)
def test_kinds_of_single_detections(box, kind, expected):
    errors = _break_down(_found((box, 0.9, kind)), [LABEL])
    assert errors.diagnosis.kinds.tolist() == [expected]
    missed = expected in (BOTH, BACKGROUND)
    assert errors.counts["missed"] == missed
    assert errors.counts["false negatives"] == (expected != RIGHT)
    assert errors.counts["false positives"] == (expected != RIGHT)


def test_a_second_detection_of_a_label_is_a_duplicate():
    errors = _break_down(_found((RIGHT_BOX, 0.9, 0), (RIGHT_BOX, 0.8, 0)), [LABEL])
    assert errors.diagnosis.kinds.tolist() == [RIGHT, DUPLICATE]
    assert errors.diagnosis.labels.tolist() == [0, -1]


@pytest.mark.parametrize(
    "boxes, expected",
    [
        ((OFF_BOX, RIGHT_BOX), LOCALISATION),  # its own class 0.25, the other class 1.0
        ((FAR_BOX, RIGHT_BOX), CLASSIFICATION),
        ((FAR_BOX, OFF_BOX), BOTH),
    ],
)
def test_which_kind_counts_between_two_labels(boxes, expected):
    own, other = boxes
    errors = _break_down(_found((RIGHT_BOX, 0.9, 0)), [(0.0, *own), (1.0, *other)])
    assert errors.diagnosis.kinds.tolist() == [expected]


@pytest.mark.parametrize(
    "detections, mended",
    [
        (_found((RIGHT_BOX, 0.9, 1)), "classification"),
        (_found((OFF_BOX, 0.9, 0)), "localisation"),
        (_found((FAR_BOX, 0.95, 0), (RIGHT_BOX, 0.9, 0)), "background"),
        (_found((OFF_BOX, 0.9, 1), (RIGHT_BOX, 0.9, 0)), "both"),
        (_found(), "missed"),
    ],
)
def test_the_oracle_of_the_only_error_makes_all_right(detections, mended):
    labels = [LABEL] if mended != "both" else [LABEL, (1.0, 500.0, 500.0, 600.0, 600.0)]
    errors = _break_down(detections, labels)
    if mended == "both":  # nothing finds the label of class 1, so that removing a detection of it gains nothing
        assert errors.costs["both"] == 0
        assert errors.costs["missed"] == pytest.approx(0, abs=1e-12)
        return
    assert errors.map50 + errors.costs[mended] == pytest.approx(PERFECT, abs=0.0051)
    assert errors.costs[mended] > 0
    assert all(errors.costs[name] == pytest.approx(0) for name in KINDS if name != mended)


def test_duplicates_cost_what_they_take():
    second = (1.0, 1.0, 50.0, 50.0)
    detections = _found((RIGHT_BOX, 0.9, 0), (RIGHT_BOX, 0.8, 0), (second, 0.7, 0))
    errors = _break_down(detections, [LABEL, (0.0, *second)])
    assert errors.map50 + errors.costs["duplicate"] == pytest.approx(PERFECT, abs=0.0051)


@pytest.mark.parametrize("wrong_score, gains", [(0.95, True), (0.5, False)])
def test_mending_keeps_the_best_detection_of_a_label(wrong_score, gains):
    """A box of the wrong class on a label that is found: mended, the better of the two stays."""
    rows = [(RIGHT_BOX, 0.8, 0), (RIGHT_BOX, wrong_score, 1), (FAR_BOX, 0.9, 0)]
    errors = _break_down(_found(*sorted(rows, key=lambda row: -row[1])), [LABEL])
    assert errors.counts["classification"] == 1
    assert errors.costs["classification"] == pytest.approx(PERFECT / 2 if gains else 0, abs=0.01)


def test_counts_at_the_operating_confidence():
    errors = _break_down(_found((OFF_BOX, 0.4, 0), (FAR_BOX, 0.3, 0)), [LABEL], confidence=0.35)
    assert (errors.counts["localisation"], errors.counts["background"], errors.counts["missed"]) == (1, 1, 0)
    assert (errors.counts_used["localisation"], errors.counts_used["background"]) == (1, 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [1, 4])
def test_what_must_hold_of_any_evaluation(seed, classes):
    findings = make_findings(images=12, classes=classes, seed=seed)
    errors = break_down(findings, find_partners(findings), 0.3)
    metrics = ap_per_class(findings.correct, findings.scores, findings.classes, findings.label_classes)
    assert errors.map50 == pytest.approx(metrics.mean("ap50"), abs=1e-12)
    assert all(-1e-12 <= cost <= 1 - errors.map50 + 1e-12 for cost in errors.costs.values())
    assert errors.costs["false positives"] >= max(errors.costs[name] for name in ("both", "duplicate", "background"))
    assert errors.costs["false negatives"] >= errors.costs["missed"] - 1e-12
    right = int(findings.correct[:, 0].sum())
    for counts in (errors.counts, errors.counts_used):
        assert sum(counts[name] for name in KINDS[:5]) == counts["false positives"]
        assert counts["missed"] <= counts["false negatives"]
    assert errors.counts["false positives"] == len(findings.scores) - right
    assert errors.counts["false negatives"] == len(findings.label_classes) - right
    if classes == 1:
        assert errors.counts["classification"] == errors.counts["both"] == 0


@pytest.mark.parametrize("labels", [0, 3])
def test_nothing_found_or_nothing_there(labels):
    truth = torch.tensor([LABEL]).expand(labels, -1)
    found = torch.zeros(0, 6) if labels else _found((FAR_BOX, 0.9, 1))
    findings = findings_of([found], [truth], 2)
    errors = break_down(findings, find_partners(findings), 0.3)
    assert errors.map50 == 0
    assert set(errors.costs) == {*KINDS, *SIDES}
    assert errors.costs["missed"] == (1 if labels else 0)
    assert errors.counts["background"] == (0 if labels else 1)
    assert np.isfinite(list(errors.costs.values())).all()


def test_detections_of_classes_without_labels():
    errors = _break_down(_found((RIGHT_BOX, 0.9, 3), (FAR_BOX, 0.5, 3)), [LABEL], classes=4)
    assert errors.counts["classification"] == errors.counts["background"] == 1
    assert errors.costs["classification"] == pytest.approx(PERFECT, abs=0.0051)
    assert errors.costs["background"] == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND])
def test_costs_are_those_of_detections_that_are_mended_and_measured_again(kind, seed):
    findings = make_findings(images=12, classes=3, seed=seed, noise=0.2)
    errors = break_down(findings, find_partners(findings), 0.3)
    found, truth = [], []
    for image in range(len(findings)):
        columns = findings.labels_of(image)
        truth.append(np.column_stack([findings.label_classes[columns], findings.label_boxes[columns]]))
        found.append(_mended(findings, errors.diagnosis, kind, image))
    mended = findings_of([torch.from_numpy(one).float() for one in found], [torch.from_numpy(one) for one in truth], 3)
    again = ap_per_class(mended.correct, mended.scores, mended.classes, mended.label_classes)
    assert errors.map50 + errors.costs[KINDS[kind - 1]] == pytest.approx(again.mean("ap50"), abs=1e-12)


def _mended(findings, diagnosis, kind, image):
    """Return the (n, 6) detections of an image after an oracle for ``kind`` was there, written as plainly as can be."""
    rows, shown = [], set()
    places = findings.detections_of(image)
    for index in range(places.start, places.stop):  # best score first
        own, label = diagnosis.kinds[index], diagnosis.labels[index]
        box, shows = findings.boxes[index], findings.classes[index]
        if own == kind and kind in (BOTH, DUPLICATE, BACKGROUND):
            continue
        if own in (RIGHT, kind):
            if label in shown:
                continue
            shown.add(label)
            box = findings.label_boxes[label] if own == LOCALISATION else box
            shows = findings.label_classes[label]
        rows.append([*box, findings.scores[index], shows])
    return np.array(rows).reshape(-1, 6)
