"""The file of results that COCO's evaluator reads, and that evaluation."""

import contextlib
import dataclasses
import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tests.eval.made import make_findings
from utils.data.config import DatasetConfig
from utils.errors import UserError
from utils.eval import coco_json
from utils.eval.coco_json import COCO_IDS, image_id, is_coco, official_coco_metrics, save_predictions, write_coco_json
from utils.eval.findings import Findings

CROWD = 7  # every so-manieth object is one


def coco_findings(seed: int = 0, images: int = 6) -> Findings:
    """Return an evaluation with COCO's 80 classes, of which four occur, and its names of files."""
    made = make_findings(images=images, classes=4, labels=12, extra=12, seed=seed)
    scattered = np.array([0, 11, 45, 79], dtype=np.int32)
    return dataclasses.replace(
        made,
        names={index: f"class {index}" for index in range(80)},
        paths=[f"/data/coco/images/val2017/{900 - index:012d}.jpg" for index in range(images)],
        classes=scattered[made.classes],
        label_classes=scattered[made.label_classes],
    )


def annotations_of(findings: Findings, **more) -> dict:
    """Return what COCO's instances file would say of the labels, in its order, with crowds and another image."""
    truths = zip(findings.label_image, findings.label_classes, findings.label_boxes.astype(float), strict=True)
    listed = []
    for number, (image, kind, (left, top, right, bottom)) in enumerate(truths, 1):
        one = {"id": 1000 + number, "image_id": image_id(findings.paths[image]), "category_id": COCO_IDS[kind]}
        one |= {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top) * 0.6}
        listed.append(one | {"iscrowd": int(number % CROWD == 0), "segmentation": [[0, 0, 1, 1, 2, 2]]})
    other = {"id": 5, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0}
    images = [{"id": number} for number in [1, *map(image_id, findings.paths)]]
    return {"images": images, "annotations": [other, *listed], "categories": [{"id": id} for id in COCO_IDS]} | more


def config_of(folder: Path, val: str = "coco/val2017.txt", count: int = 80) -> DatasetConfig:
    names = {index: f"class {index}" for index in range(count)}
    return DatasetConfig(folder / "coco.yaml", folder / "coco", names, {"val": [folder / val]})


def test_coco_ids_are_those_of_the_specification():
    ranges = [(1, 11), (13, 25), (27, 28), (31, 44), (46, 65), (67, 67), (70, 70), (72, 82), (84, 90)]
    assert COCO_IDS == tuple(number for first, last in ranges for number in range(first, last + 1))
    assert len(COCO_IDS) == 80


@pytest.mark.parametrize(
    ("val", "expected"),
    [
        (["/data/coco/val2017.txt"], True),
        (["/data/mycoco/val2017.txt"], True),  # v6.1 compares the end only
        (["/data/coco/images/val2017"], False),
        (["/data/coco/train2017.txt"], False),
        (["/data/coco128/images/train2017"], False),
        (["/data/coco/val2017.txt", "/data/more.txt"], False),
    ],
)
def test_coco_is_known_by_its_list_of_images(val, expected):
    config = DatasetConfig(Path("x.yaml"), Path(), {0: "a"}, {"val": [Path(one) for one in val]})
    assert is_coco(config) is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/000000000139.jpg", 139), ("7.png", 7), ("cat_1.jpg", "cat_1"), ("a.1.jpg", "a.1"), ("²³.jpg", "²³")],
)
def test_images_are_numbers_where_their_name_is_one(path, expected):
    assert image_id(path) == expected


@pytest.mark.parametrize("coco_ids", [True, False])
@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_every_detection_is_written_once(coco_ids, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(coco_json, "ROWS_AT_ONCE", at_once)
    findings, file = coco_findings(), tmp_path / "predictions.json"
    write_coco_json(findings, file, coco_ids)
    rows = json.loads(file.read_text())
    assert len(rows) == len(findings.scores) > 20
    for row, image, kind, box, score in zip(
        rows, findings.detection_image, findings.classes, findings.boxes, findings.scores, strict=True
    ):
        left, top, right, bottom = box.astype(float)
        assert row["image_id"] == 900 - image
        assert row["category_id"] == (COCO_IDS[kind] if coco_ids else kind)
        assert row["bbox"] == [round(value, 3) for value in (left, top, right - left, bottom - top)]
        assert row["score"] == round(float(score), 5)
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.json"]


def test_names_that_are_no_numbers_and_classes_of_any_data_set(tmp_path):
    findings = make_findings(images=2, classes=3, seed=3)
    findings = dataclasses.replace(findings, paths=['a "b".jpg', "ä.png"])
    write_coco_json(findings, tmp_path / "x.json", coco_ids=False)
    rows = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert {row["image_id"] for row in rows} == {'a "b"', "ä"} and {row["category_id"] for row in rows} <= {0, 1, 2}


def test_nothing_found_is_an_empty_list(tmp_path):
    findings = make_findings(images=3, extra=0, found=0.0)
    write_coco_json(findings, tmp_path / "x.json", coco_ids=False)
    assert json.loads((tmp_path / "x.json").read_text()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("old")
    findings = dataclasses.replace(coco_findings(), names={0: "only"})  # the others have no number
    with pytest.raises(IndexError):
        write_coco_json(findings, file, coco_ids=False)
    assert file.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("seed", range(4))
def test_the_official_evaluation_is_that_of_pycocotools_on_the_two_files(seed, tmp_path):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    findings, truth_file, file = coco_findings(seed), tmp_path / "instances.json", tmp_path / "predictions.json"
    truth_file.write_text(json.dumps(annotations_of(findings)))
    write_coco_json(findings, file, coco_ids=True)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        evaluation = COCOeval(truth, truth.loadRes(str(file)), "bbox")
        evaluation.params.imgIds = [image_id(path) for path in findings.paths]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    found = official_coco_metrics(findings, truth_file)
    assert np.allclose(np.nan_to_num(found.summary, nan=-1), evaluation.stats, rtol=0, atol=1e-6)
    assert 0 < found.ap < 1


BAD_FILES = {
    "no JSON": ("{", "cannot read"),
    "no annotations": ("{}", "does not hold COCO's images and annotations"),
    "a list": ("[]", "does not hold COCO's images and annotations"),
    "another category": ({"annotations": [{"id": 1, "image_id": 900, "category_id": 12}]}, "does not hold COCO's"),
    "no box": ({"annotations": [{"id": 1, "image_id": 900, "category_id": 1}]}, "does not hold COCO's"),
    "other images": ({"images": [{"id": 900}, {"id": 899}]}, "lacks 4 of the 6 images, such as 898"),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=list(BAD_FILES))
def test_annotations_that_do_not_fit_are_one_line_and_the_file_is_written(content, message, tmp_path, caplog):
    pytest.importorskip("pycocotools")
    findings, config = coco_findings(), config_of(tmp_path)
    truth_file = config.root / "annotations/instances_val2017.json"
    truth_file.parent.mkdir(parents=True)
    truth_file.write_text(content if isinstance(content, str) else json.dumps(annotations_of(findings, **content)))
    with pytest.raises(UserError, match=message):
        official_coco_metrics(findings, truth_file)
    with caplog.at_level(logging.INFO, coco_json.LOGGER.name):
        assert save_predictions(findings, tmp_path / "x.json", config, "val") is None
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert message in warning and "\n" not in warning
    assert len(json.loads((tmp_path / "x.json").read_text())) == len(findings.scores)


@pytest.mark.parametrize(
    ("val", "classes", "split", "has_file", "evaluated", "coco_ids"),
    [
        ("coco/val2017.txt", 80, "val", True, True, True),
        ("coco/val2017.txt", 80, "test", True, False, True),
        ("coco/val2017.txt", 80, "val", False, False, True),
        ("coco/val2017.txt", 4, "val", True, False, False),
        ("coco128/images/train2017", 80, "val", True, False, False),
    ],
    ids=["COCO", "test images", "without annotations", "other classes", "another data set"],
)
def test_coco_alone_is_evaluated_officially(val, classes, split, has_file, evaluated, coco_ids, tmp_path, caplog):
    pytest.importorskip("pycocotools")
    findings, config = coco_findings(), config_of(tmp_path, val, classes)
    if classes < 80:
        findings = dataclasses.replace(findings, names=config.names, classes=findings.classes % classes)
    if has_file:
        truth_file = config.root / "annotations/instances_val2017.json"
        truth_file.parent.mkdir(parents=True)
        truth_file.write_text(json.dumps(annotations_of(findings)))
    with caplog.at_level(logging.INFO, coco_json.LOGGER.name):
        metrics = save_predictions(findings, tmp_path / "x.json", config, split)
    rows = json.loads((tmp_path / "x.json").read_text())
    expected = [COCO_IDS[kind] if coco_ids else kind for kind in findings.classes]
    assert [row["category_id"] for row in rows] == expected
    assert (metrics is not None) == evaluated == ("instances_val2017.json" in caplog.text)
    assert not evaluated or metrics.lines()[1] in caplog.text


def test_without_a_package_the_file_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_json, "find_evaluator", lambda: None)
    findings, config = coco_findings(), config_of(tmp_path)
    truth_file = config.root / "annotations/instances_val2017.json"
    truth_file.parent.mkdir(parents=True)
    truth_file.write_text(json.dumps(annotations_of(findings)))
    assert save_predictions(findings, tmp_path / "x.json", config, "val") is None
    assert (tmp_path / "x.json").is_file()
