"""COCO-style results: what pycocotools and faster-coco-eval say of the same boxes when asked in the plain way."""

import builtins
import contextlib
import dataclasses
import io
import json
import sys

import numpy as np
import pytest
import torch

from tests.eval.made import findings_of, make_findings
from tests.golden_data import load_golden
from utils.eval import coco
from utils.eval.coco import MISSING_HINT, PACKAGES, WHY, coco_metrics, find_evaluator
from utils.eval.findings import Findings
from utils.eval.metrics import ap_per_class

BOTH = pytest.mark.parametrize("package", PACKAGES)


def plain_pycocotools(findings: Findings, folder) -> tuple[np.ndarray, dict[int, tuple[float, float]]]:
    """Return the summary of pycocotools and AP, AP50 by class, from JSON files, all classes at once."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def corner(box) -> list[float]:
        left, top, right, bottom = map(float, box)
        return [left, top, right - left, bottom - top]

    truths = zip(findings.label_image, findings.label_classes, findings.label_boxes, strict=True)
    annotations = [
        {"id": number, "image_id": int(image) + 100, "category_id": int(kind), "bbox": corner(box), "iscrowd": 0}
        for number, (image, kind, box) in enumerate(truths, 1)
    ]
    for one in annotations:
        one["area"] = one["bbox"][2] * one["bbox"][3]
    found = zip(findings.detection_image, findings.classes, findings.boxes, findings.scores, strict=True)
    results = [
        {"image_id": int(image) + 100, "category_id": int(kind), "bbox": corner(box), "score": float(score)}
        for image, kind, box, score in found
    ]
    categories = [{"id": index, "name": name} for index, name in findings.names.items()]
    images = [{"id": index + 100} for index in range(len(findings))]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # (10, 101, classes)
    by_class = {index: (precision[:, :, index].mean(), precision[0, :, index].mean()) for index in findings.names}
    return evaluation.stats, by_class


CASES = {
    "usual": {},
    "one image": {"images": 1, "seed": 1},
    "one class": {"classes": 1, "seed": 2},
    "many classes, some without labels": {"images": 5, "classes": 40, "seed": 3},
    "crowded": {"images": 6, "classes": 2, "labels": 60, "extra": 400, "noise": 0.15, "seed": 4},
    "poor": {"images": 30, "found": 0.2, "right_class": 0.3, "extra": 20, "seed": 5},
    "good": {"images": 30, "found": 1.0, "right_class": 1.0, "extra": 1, "noise": 0.02, "seed": 6},
}


@BOTH
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_random_cases_equal_pycocotools(case, package, tmp_path, capsys):
    findings = make_findings(**case)
    pytest.importorskip("pycocotools")
    if find_evaluator([package]) is None:
        pytest.skip(f"{package} is not installed")
    stats, by_class = plain_pycocotools(findings, tmp_path)
    metrics = coco_metrics(findings, [package])
    assert metrics.package == package and capsys.readouterr().out == ""
    assert np.allclose(np.nan_to_num(metrics.summary, nan=-1), stats, rtol=0, atol=1e-6)
    for index, expected in by_class.items():
        found = np.nan_to_num([metrics.class_ap[index], metrics.class_ap50[index]], nan=-1)
        assert np.allclose(found, expected, rtol=0, atol=1e-6)


def test_many_seeds_agree_between_the_packages():
    pytest.importorskip("pycocotools")
    pytest.importorskip("faster_coco_eval")
    for seed in range(10, 30):
        findings = make_findings(images=4, classes=3, labels=12, extra=20, seed=seed)
        one, other = (coco_metrics(findings, [package]) for package in PACKAGES)
        assert np.allclose(one.precision, other.precision, rtol=0, atol=1e-6, equal_nan=True)
        assert np.allclose(one.recall, other.recall, rtol=0, atol=1e-6, equal_nan=True)


def golden_findings(size: int) -> Findings:
    """Return the detections of yolov5n on COCO128 that the golden summaries were computed from."""
    found, truth = load_golden(f"val_detections_v61_{size}.npz"), load_golden("coco_gt.json.gz")
    ids = np.array(sorted(image["id"] for image in truth["images"]))  # whose order decides between equal scores

    def by_image(image_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        position = np.searchsorted(ids, image_ids)
        return position.argsort(kind="stable"), np.bincount(position, minlength=len(ids))

    def corners(boxes: np.ndarray) -> np.ndarray:
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)

    order, counts = by_image(found["image_id"])
    labels = truth["annotations"]
    label_order, label_counts = by_image(np.array([label["image_id"] for label in labels]))
    label_boxes = corners(np.array([label["bbox"] for label in labels]))
    return Findings(
        names={index: str(index) for index in range(80)},
        paths=[f"{number:012d}.jpg" for number in ids],
        sizes_hw=np.full((len(ids), 2), 640),
        boxes=corners(found["bbox_xywh_topleft"].astype(float).round(3))[order],
        scores=found["score"].astype(float).round(5)[order],
        classes=found["cls"].astype(np.int32)[order],
        correct=np.zeros((len(order), 10), bool),
        detection_counts=counts,
        label_boxes=label_boxes[label_order],
        label_classes=np.array([label["category_id"] for label in labels])[label_order],
        label_counts=label_counts,
    )


@BOTH
@pytest.mark.parametrize(("run", "size"), [(0, 640), (1, 320)])
def test_real_detections_equal_the_recorded_summary_of_pycocotools(package, run, size):
    if find_evaluator([package]) is None:
        pytest.skip(f"{package} is not installed")
    recorded = load_golden("val.json")["v61"]["runs"][run]
    metrics = coco_metrics(golden_findings(size), [package])
    assert np.allclose(metrics.summary, list(recorded["pycocotools"].values()), rtol=0, atol=1e-9)
    for index, (ap, ap50) in recorded["pycocotools_per_class_AP_AP50"].items():
        assert metrics.class_ap[int(index)] == pytest.approx(ap, abs=1e-9)
        assert metrics.class_ap50[int(index)] == pytest.approx(ap50, abs=1e-9)


SQUARES = torch.tensor([[0.0, 10, 10, 20, 20], [0.0, 40, 40, 240, 240]])  # class and box: a small and a large object
FOUND = torch.tensor([[10.0, 10, 20, 20, 0.9, 0], [40.0, 40, 240, 240, 0.8, 0]])
NONE_FOUND, NONE_THERE = torch.zeros(0, 6), torch.zeros(0, 5)


@BOTH
@pytest.mark.parametrize(
    ("detections", "labels", "expected"),
    [
        ([FOUND], [SQUARES], (1, 1, np.nan, 1, 0.5, 1, 1)),
        ([NONE_FOUND], [SQUARES], (0, 0, np.nan, 0, 0, 0, 0)),
        ([FOUND], [NONE_THERE], (np.nan,) * 7),
        ([NONE_FOUND], [NONE_THERE], (np.nan,) * 7),
        ([FOUND, NONE_FOUND], [NONE_THERE, SQUARES], (0, 0, np.nan, 0, 0, 0, 0)),
        ([], [], (np.nan,) * 7),
    ],
    ids=["all found", "no detection", "no label", "nothing", "found elsewhere", "no image"],
)
def test_edge_cases(package, detections, labels, expected):
    metrics = coco_metrics(findings_of(detections, labels, 2), [package])
    if metrics is None:
        pytest.skip(f"{package} is not installed")
    ap_small, ap_medium, ap_large = metrics.ap_by_size
    found = (metrics.ap, ap_small, ap_medium, ap_large, *metrics.ar)
    assert np.allclose(found, expected, equal_nan=True)
    assert metrics.class_ap.shape == (2,) and np.isnan(metrics.class_ap[1])
    assert len(metrics.lines()) == 4


@BOTH
def test_more_than_100_detections_of_a_class_in_an_image_are_cut_to_the_best(package):
    stray = torch.cat([torch.rand(100, 2) * 100, 200 + torch.rand(100, 2) * 100, torch.full((100, 1), 0.9)], 1)
    late = torch.tensor([[10.0, 10, 20, 20, 0.1]])
    rows = torch.cat([torch.cat([stray, late]), torch.zeros(101, 1)], 1)
    for count, expected in ((100, 0.0), (99, 0.01)):
        metrics = coco_metrics(findings_of([rows[-count - 1 :]], [SQUARES[:1]], 1), [package])
        if metrics is None:
            pytest.skip(f"{package} is not installed")
        assert metrics.ap == pytest.approx(expected)


def test_a_label_still_free_is_found_although_another_overlaps_more():
    pytest.importorskip("faster_coco_eval")
    labels = torch.tensor([[0.0, 0, 0, 100, 100], [0.0, 0, 0, 100, 80]])
    detections = torch.tensor([[0.0, 0, 100, 100, 0.9, 0], [0.0, 0, 100, 92, 0.8, 0]])  # both overlap the first most
    findings = findings_of([detections], [labels], 1)
    assert findings.correct[:, 0].tolist() == [True, False] and coco_metrics(findings).ap50 == pytest.approx(1)


def test_the_table_shows_both_styles_and_says_why_they_differ():
    pytest.importorskip("faster_coco_eval")
    findings = make_findings(seed=7)
    metrics = coco_metrics(findings)
    style = ap_per_class(findings.correct, findings.scores, findings.classes, findings.label_classes)
    head, ours, theirs, _, recalls, why = metrics.lines(style)
    assert head.split()[:5] == ["by", "faster-coco-eval", "AP", "AP50", "AP75"]
    assert ours.split() == ["YOLO-style", *(f"{style.mean(name):.3g}" for name in ("ap50_95", "ap50", "ap75"))]
    assert theirs.split() == ["COCO-style", *("-" if np.isnan(x) else f"{x:.3g}" for x in metrics.summary[:6])]
    assert recalls.split() == ["COCO-style", *("-" if np.isnan(x) else f"{x:.3g}" for x in metrics.summary[6:])]
    assert why == WHY and why.count(".") == 1 and why.endswith(".")


def test_three_differences_are_all_there_are():
    """YOLO-style with COCO's area, matching and cut is COCO-style: this is what `WHY` claims."""
    pytest.importorskip("faster_coco_eval")
    findings = make_findings(images=20, labels=20, extra=250, noise=0.15, seed=8)
    assert reckoned(findings) == pytest.approx(coco_metrics(findings).ap, abs=1e-9)


def reckoned(findings: Findings) -> float:
    """Return COCO's AP by loops that show its three rules."""
    thresholds, class_aps = np.linspace(0.5, 0.95, 10), []
    for kind in np.unique(findings.label_classes):
        rows, total = [], 0
        for image in range(len(findings)):
            found, there = findings.detections_of(image), findings.labels_of(image)
            boxes = findings.boxes[found][findings.classes[found] == kind][:100].astype(float)
            scores = findings.scores[found][findings.classes[found] == kind][:100]
            labels = findings.label_boxes[there][findings.label_classes[there] == kind].astype(float)
            total += len(labels)
            free = np.ones((10, len(labels)), bool)
            for box, score in zip(boxes, scores, strict=True):
                overlaps, hits = overlap(box, labels), np.zeros(10, bool)
                for step, threshold in enumerate(thresholds):
                    open_overlaps = np.where(free[step], overlaps, -1)
                    if len(labels) and open_overlaps.max() >= threshold:
                        hits[step], free[step, open_overlaps.argmax()] = True, False
                rows.append((score, hits))
        rows.sort(key=lambda row: -row[0])
        hits = np.array([hits for _, hits in rows]).reshape(-1, 10).cumsum(0)
        for step in range(10):
            recall, precision = hits[:, step] / total, hits[:, step] / np.arange(1, len(hits) + 1)
            best = [precision[recall >= at].max(initial=0) for at in np.linspace(0, 1, 101)]
            class_aps.append(np.mean(best))
    return float(np.mean(class_aps))


def overlap(box: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (m,) IoU of one box and (m, 4) labels."""
    sides = np.minimum(box[2:], labels[:, 2:]) - np.maximum(box[:2], labels[:, :2])
    shared = sides.clip(0).prod(1)
    return shared / ((box[2:] - box[:2]).prod() + (labels[:, 2:] - labels[:, :2]).prod(1) - shared)


@pytest.mark.parametrize(
    ("missing", "left"),
    [
        ((), "faster-coco-eval"),
        (("faster_coco_eval",), "pycocotools"),
        (("pycocotools.coco",), "faster-coco-eval"),
        (("faster_coco_eval", "pycocotools.coco"), None),
    ],
)
def test_the_first_package_installed_is_taken(missing, left, monkeypatch):
    pytest.importorskip("faster_coco_eval")
    pytest.importorskip("pycocotools")
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    metrics = coco_metrics(make_findings(seed=9))
    assert metrics is None if left is None else metrics.package == left
    assert all(package in MISSING_HINT for package in PACKAGES) and "\n" not in MISSING_HINT


def test_a_package_built_for_another_numpy_counts_as_missing(monkeypatch):
    real = builtins.__import__

    def broken(name, *rest):
        if name.split(".")[0] in ("faster_coco_eval", "pycocotools"):
            raise ValueError("numpy.dtype size changed, may indicate binary incompatibility")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", broken)
    assert coco_metrics(make_findings(seed=9)) is None


def test_the_number_of_annotations_alive_is_that_of_a_class(monkeypatch):
    """Memory: the objects of the detections are made for a class at a time."""
    pytest.importorskip("faster_coco_eval")
    findings, made = make_findings(images=10, classes=4, seed=10), []
    of = coco.DetectionsByClass.of
    monkeypatch.setattr(coco.DetectionsByClass, "of", lambda self, index: made.append(of(self, index)) or made[-1])
    coco_metrics(findings)
    counts = np.bincount(findings.classes, minlength=4)
    assert [len(one) for one in made] == [counts[index] for index in np.unique(findings.label_classes)]


def test_the_order_of_images_plays_no_part():
    pytest.importorskip("faster_coco_eval")
    first, second = make_findings(images=6, seed=11), make_findings(images=6, seed=12)
    joined = [coco_metrics(join(*pair)).summary for pair in ((first, second), (second, first))]
    assert np.allclose(*joined, equal_nan=True)


def join(one: Findings, other: Findings) -> Findings:
    arrays = [field.name for field in dataclasses.fields(Findings) if field.name not in ("names", "paths")]
    joined = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in arrays}
    return dataclasses.replace(one, paths=[*one.paths, *other.paths], **joined)
