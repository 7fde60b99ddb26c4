import contextlib
import io

import numpy as np
import pytest
import torch

from tests.eval.made import findings_of, make_findings
from utils.eval.analysis.partners import find_partners
from utils.eval.analysis.sizes import by_size

PERFECT = 0.995  # the average precision of YOLOv5 ends just below 1
SMALL, MEDIUM, LARGE = (0.0, 0.0, 20.0, 20.0), (100.0, 100.0, 160.0, 160.0), (200.0, 200.0, 400.0, 400.0)


def _by_size(found, truth):
    rows = torch.tensor([[*box, score, 0] for box, score in found]).reshape(-1, 6)
    findings = findings_of([rows], [torch.tensor([[0, *box] for box in truth]).reshape(-1, 5)], 1)
    return by_size(findings, find_partners(findings))


def test_every_size_has_its_own_labels():
    small, medium, large = _by_size([(LARGE, 0.9), (SMALL, 0.8)], [SMALL, MEDIUM, LARGE, LARGE])
    assert [size.name for size in (small, medium, large)] == ["small", "medium", "large"]
    assert [size.labels for size in (small, medium, large)] == [1, 1, 2]
    assert small.ap50 == pytest.approx(small.ap50_95) == pytest.approx(PERFECT)
    assert medium.ap50 == 0
    assert 0.4 < large.ap50 < 0.8


def test_finds_and_strays_of_other_sizes_count_neither_way():
    stray_large = (450.0, 450.0, 640.0, 640.0)
    small, _, large = _by_size([(stray_large, 0.95), (LARGE, 0.9), (SMALL, 0.8)], [SMALL, LARGE])
    assert small.ap50 == pytest.approx(PERFECT)
    assert large.ap50 < 0.8


def test_a_find_of_another_size_than_its_label_counts_with_the_label():
    label, found = (0.0, 0.0, 32.0, 30.0), (0.0, 0.0, 32.0, 36.0)  # 960 and 1152 px²
    small, medium, _ = _by_size([(found, 0.9)], [label])
    assert small.ap50 == pytest.approx(PERFECT)
    assert np.isnan(medium.ap50)


def test_without_labels_there_is_no_number():
    assert all(np.isnan(size.ap50) and np.isnan(size.ap50_95) and not size.labels for size in _by_size([], []))
    assert all(np.isnan(size.ap50) and not size.labels for size in _by_size([(SMALL, 0.9)], []))


@pytest.mark.parametrize("seed", [0, 1])
def test_equal_to_pycocotools_but_for_the_sampling_of_recall(monkeypatch, seed):
    monkeypatch.setattr("utils.eval.analysis.ranking.average_precision", _coco_average_precision)
    coco = pytest.importorskip("pycocotools.coco")
    evaluator = pytest.importorskip("pycocotools.cocoeval")
    findings = make_findings(images=120, classes=2, seed=seed, noise=0.05)
    annotations = [
        {"id": index + 1, "image_id": int(image), "category_id": int(kind), "bbox": box, "iscrowd": 0}
        | {"area": box[2] * box[3]}
        for index, (image, kind, box) in enumerate(
            zip(findings.label_image, findings.label_classes, _xywh(findings.label_boxes), strict=True)
        )
    ]
    rows = zip(findings.detection_image, findings.classes, _xywh(findings.boxes), findings.scores, strict=True)
    results = [
        {"image_id": int(image), "category_id": int(kind), "bbox": box, "score": float(score)}
        for image, kind, box, score in rows
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {"images": [{"id": index} for index in range(len(findings))], "annotations": annotations}
        truth.dataset["categories"] = [{"id": 0}, {"id": 1}]
        truth.createIndex()
        measured = evaluator.COCOeval(truth, truth.loadRes(results), "bbox")
        measured.evaluate()
        measured.accumulate()
    precision = measured.eval["precision"][..., 1:, -1]  # (IoU, recall, class, size)
    for index, size in enumerate(by_size(findings, find_partners(findings))):
        assert size.ap50 == pytest.approx(precision[0, ..., index].mean(), abs=1e-9)
        assert size.ap50_95 == pytest.approx(precision[..., index].mean(), abs=1e-9)


def _xywh(boxes):
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).tolist()


def _coco_average_precision(recall, precision):
    """COCO takes the precision at the next higher recall, and 0 above the highest."""
    falling = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return falling[np.searchsorted(recall, np.linspace(0, 1, 101))].mean()
