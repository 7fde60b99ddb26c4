"""val.py as a whole, and its figures on COCO128 against those of YOLOv5."""

import numpy as np
import pytest

import val
from tests.golden_data import load_golden, shared_path

PICTURES = {"PR_curve.png", "F1_curve.png", "P_curve.png", "R_curve.png", "confusion_matrix.png", "val_batch0_pred.jpg"}


def test_a_run_leaves_pictures_and_labels(tiny_dataset, tiny_weights, tmp_path):
    result = val.run(
        data=str(tiny_dataset),
        weights=[str(tiny_weights)],
        imgsz=64,
        project=str(tmp_path),
        save_txt=True,
        save_conf=True,
    )
    files = {path.name for path in (tmp_path / "exp").rglob("*")}
    assert PICTURES <= files
    assert result.images == 4
    labels = list((tmp_path / "exp/labels").glob("*.txt"))
    assert labels and all(len(line.split()) == 6 for path in labels for line in path.read_text().splitlines())


@pytest.mark.parametrize(("task", "images"), [("train", 8), ("val", 4)])
def test_the_task_chooses_the_split(tiny_dataset, tiny_weights, tmp_path, task, images):
    result = val.run(
        data=str(tiny_dataset), weights=[str(tiny_weights)], imgsz=64, project=str(tmp_path), task=task, batch_size=3
    )
    assert result.images == images


def test_one_class_for_all(tiny_dataset, tiny_weights, tmp_path):
    result = val.run(
        data=str(tiny_dataset), weights=[str(tiny_weights)], imgsz=64, project=str(tmp_path), single_cls=True
    )
    assert result.names == {0: "item"}
    assert result.label_counts.tolist() == [result.labels]


@pytest.mark.slow
def test_official_yolov5n_on_coco128(tmp_path, monkeypatch):
    weights, data = shared_path("weights/yolov5n.pt"), shared_path("datasets/coco128")
    monkeypatch.setenv("YOLOV5_DATASETS_DIR", str(data.parent))
    result = val.run(data="coco128.yaml", weights=[str(weights)], batch_size=16, project=str(tmp_path))
    expected = next(run for run in load_golden("val.json")["master"]["runs"] if run["name"] == "640")
    assert (result.images, result.labels) == (128, 929)
    assert result.map50 == pytest.approx(expected["mAP50"], abs=0.002)
    assert result.map50_95 == pytest.approx(expected["mAP50_95"], abs=0.002)
    assert result.precision == pytest.approx(expected["P"], abs=0.02)
    assert result.recall == pytest.approx(expected["R"], abs=0.02)
    per_class = expected["per_class"]
    assert result.metrics.classes.tolist() == [int(index) for index in per_class["cls"]]
    difference = np.abs(result.metrics.ap50_95 - np.array(per_class["AP50_95"]))
    assert difference.mean() < 0.005 and np.median(difference) < 0.001
