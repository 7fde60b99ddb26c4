"""val.py as a whole, and its figures on COCO128 against those of YOLOv5."""

import shutil

import numpy as np
import pytest
import yaml

import export
import val
from tests.golden_data import load_golden, shared_path
from utils.checkpoint import read_checkpoint, write_checkpoint
from utils.data.synthetic import CLASS_NAMES
from utils.errors import UserError

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


def test_hybrid_files_hold_the_labels_and_leave_the_figures_alone(tiny_dataset, tiny_weights, tmp_path):
    common = {"data": str(tiny_dataset), "weights": [str(tiny_weights)], "imgsz": 64, "project": str(tmp_path)}
    common |= {"noplots": True}
    plain = val.run(**common, name="plain")
    hybrid = val.run(**common, name="hybrid", save_hybrid=True, save_conf=True)
    assert hybrid.results == plain.results
    sure = [line for file in (tmp_path / "hybrid/labels").iterdir() for line in file.read_text().splitlines()]
    assert len([line for line in sure if line.endswith(" 1")]) >= 0.9 * hybrid.labels  # equal labels may overlap


def test_speed_takes_v61_thresholds_and_leaves_no_pictures(tiny_dataset, tiny_weights, tmp_path, capfd):
    result = val.run(data=str(tiny_dataset), weights=[str(tiny_weights)], imgsz=64, project=str(tmp_path), task="speed")
    assert "per image at shape (32, 3, 64, 64)" in capfd.readouterr().out
    assert not list(tmp_path.rglob("*.png")) and not list(tmp_path.rglob("*.jpg"))
    assert not len(result.findings.scores) or result.findings.scores.min() > 0.25


@pytest.fixture
def small_set(tiny_dataset, tmp_path):
    """Return a maker of data sets: names, and the text of each image's label file (None for no file)."""

    def make(names, *labels):
        folder = tmp_path / "small"
        (folder / "images").mkdir(parents=True)
        (folder / "labels").mkdir()
        for index, text in enumerate(labels):
            shutil.copy(tiny_dataset.parent / f"images/val/00000{index}.jpg", folder / f"images/{index}.jpg")
            if text is not None:
                (folder / f"labels/{index}.txt").write_text(text)
        file = folder / "small.yaml"
        file.write_text(yaml.safe_dump({"path": str(folder), "train": "images", "val": "images", "names": names}))
        return file

    return make


@pytest.mark.parametrize(
    ("labels", "counted"),
    [(("0 0.5 0.5 0.4 0.4",), 1), (("",), 0), ((None, None), 0), (("0 0.5 0.5 0.4 0.4", None), 1)],
    ids=["one image", "no label", "no label files", "a background image"],
)
def test_small_sets(small_set, tiny_weights, tmp_path, labels, counted):
    data = small_set(list(CLASS_NAMES), *labels)
    result = val.run(data=str(data), weights=[str(tiny_weights)], imgsz=64, project=str(tmp_path), save_json=True)
    assert (result.images, result.labels) == (len(labels), counted)
    assert 0 <= result.map50 <= 1
    assert (tmp_path / "exp/report.html").is_file()


def test_zero_predictions(small_set, tiny_weights, tmp_path):
    data = small_set(list(CLASS_NAMES), "0 0.5 0.5 0.4 0.4")
    result = val.run(
        data=str(data), weights=[str(tiny_weights)], imgsz=64, project=str(tmp_path), conf_thres=1.0, save_json=True
    )
    assert result.results == (0,) * 7 and len(result.findings.scores) == 0


def test_classes_by_name(small_set, tiny_weights, tmp_path):
    names = [CLASS_NAMES[3], "unheard of"]
    data = small_set(names, "0 0.5 0.5 0.4 0.4", "1 0.5 0.5 0.4 0.4")
    common = {"data": str(data), "weights": [str(tiny_weights)], "imgsz": 64, "project": str(tmp_path), "noplots": True}
    with pytest.raises(UserError, match="the model has no 'unheard of'; --map-classes measures the 1 of 2"):
        val.run(**common)
    result = val.run(**common, map_classes=True)
    assert result.names == dict(enumerate(names))
    assert set(result.findings.classes) == {0}


def test_compare(tiny_dataset, tiny_weights, tiny_nam_weights, tmp_path, capfd):
    weights = [str(tiny_weights), str(tiny_nam_weights), str(tiny_weights)]
    results = val.run(
        data=str(tiny_dataset), weights=weights, imgsz=64, project=str(tmp_path), compare=True, noplots=True
    )
    assert len(results) == 3 and results[0].results == results[2].results
    output = capfd.readouterr().out
    assert "have the same mAP50-95 on these 4 images" in output
    folder = tmp_path / "exp"
    assert {path.name for path in folder.glob("compare_*")} == {
        f"compare_{n}.{kind}" for n in (2, 3) for kind in ("csv", "png")
    }


def test_a_model_of_one_size_and_its_source_are_shown_the_same(tiny_dataset, tiny_weights, tmp_path, capfd):
    weights = shutil.copy(tiny_weights, tmp_path / "model.pt")
    export.run(weights=[str(weights)], imgsz=[64], include=["torchscript"])
    first, second = val.run(
        data=str(tiny_dataset),
        weights=[str(weights), str(tmp_path / "model.torchscript")],
        imgsz=64,
        project=str(tmp_path),
        compare=True,
        noplots=True,
    )
    assert "All models are shown squares" in capfd.readouterr().out
    assert np.allclose(first.findings.boxes, second.findings.boxes, atol=0.01)


def test_of_several_models_the_wrong_one_is_named(small_set, tiny_weights, tmp_path):
    data = small_set(["a", "b"], "0 0.5 0.5 0.4 0.4")
    weights = [str(tiny_weights), str(tiny_weights)]
    with pytest.raises(UserError, match=f"{tiny_weights}: the model knows 10 classes"):
        val.run(data=str(data), weights=weights, imgsz=64, project=str(tmp_path), compare=True)


def test_a_measurement_that_fails_leaves_no_folder(tiny_dataset, tiny_weights, tmp_path):
    checkpoint = read_checkpoint(tiny_weights)
    for tensor in checkpoint.state.values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    write_checkpoint(tmp_path / "nan.pt", checkpoint)
    with pytest.raises(UserError, match="NaN or infinite values"):
        val.run(data=str(tiny_dataset), weights=[str(tmp_path / "nan.pt")], imgsz=64, project=str(tmp_path / "runs"))
    assert not list((tmp_path / "runs").iterdir())


def test_study(tiny_dataset, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr("utils.eval.job.STUDY_SIZES", (64, 96))
    results = val.run(
        data=str(tiny_dataset), weights=[str(tiny_weights)], imgsz=64, project=str(tmp_path), task="study"
    )
    rows = np.loadtxt(tmp_path / "exp/study_tiny_tiny.txt")
    assert rows.shape == (2, 10)
    assert rows[:, :4] == pytest.approx(np.array([result.results[:4] for result in results]), rel=1e-3)
    assert {path.name for path in (tmp_path / "exp").iterdir()} == {"study_tiny_tiny.txt", "study.zip", "study.png"}


def test_no_confidence_is_best_where_nothing_is_right(tiny_dataset, tiny_weights, tmp_path):
    options = {"data": str(tiny_dataset), "weights": [str(tiny_weights)], "imgsz": 64, "project": str(tmp_path)}
    with pytest.raises(UserError, match="nothing was found right"):
        val.run(**options, save_point=True, noplots=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compare": True}, "--compare needs two or more --weights, got 1"),
        ({"compare": True, "weights": ["a.pt", "b.pt"], "task": "study"}, "not for --task study"),
        ({"save_point": True, "weights": ["a.pt", "b.pt"]}, "--save-point takes one file"),
        ({"save_point": True, "task": "speed"}, "not for --task speed; drop one of them"),
        ({"save_point": True, "conf_thres": 0.25}, "has to see all scores; drop --conf-thres 0.25"),
        ({"save_point": True, "map_classes": True}, "the model's own classes; drop --map-classes"),
        ({"single_cls": True, "map_classes": True}, "--map-classes goes by class names"),
        (
            {"task": "study", "save_txt": True},
            "--save-txt is for measuring on a split, not for --task study",
        ),
        ({"task": "speed", "save_json": True}, "--save-json is for .*not for --task speed"),
    ],
)
def test_options_that_do_not_go_together(options, said):
    with pytest.raises(UserError, match=said):
        val.run(**({"weights": ["a.pt"]} | options))


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
    result = val.run(data="coco128.yaml", weights=[str(weights)], batch_size=16, project=str(tmp_path), save_point=True)
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
    point = read_checkpoint(tmp_path / "exp/yolov5n.pt").operating_point
    assert point["confidence"] == pytest.approx(result.best_confidence, abs=0.002)
    assert len(point["classes"]) > 50
