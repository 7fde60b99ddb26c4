"""detect.py as a command."""

import io
import json
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pytest
import torch

import detect
from models.yolo import Model
from tests.data.sources.media import FPS, serve_streams, write_video
from tests.golden_data import load_golden, shared_path
from utils.checkpoint import Checkpoint, write_checkpoint
from utils.data.sources.stream import Patience
from utils.errors import UserError
from utils.eval.operating_point import OperatingPoint, save_operating_point


@pytest.fixture(scope="module")
def eager_weights(tiny_config, tmp_path_factory) -> Path:
    """A network that finds something everywhere: high objectness and class scores by its biases alone."""
    torch.manual_seed(0)
    model = Model(tiny_config, nc=2)
    for level, convolution in enumerate(model.detect.m):
        torch.nn.init.zeros_(convolution.weight)
        bias = convolution.bias.data.view(3, -1)
        bias[:, 4:] = -9.0
        if level == 2:
            bias[0, 4], bias[0, 5] = 3.0, 2.0  # class 0
            bias[1, 4], bias[1, 6] = 2.0, 2.0  # class 1
    path = tmp_path_factory.mktemp("eager") / "eager.pt"
    write_checkpoint(
        path, Checkpoint(model.state_dict(), model.yaml, {0: "cat", 1: "traffic light"}, [8.0, 16.0, 32.0])
    )
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Two images of one name in two folders, and one of another kind."""
    folder = tmp_path_factory.mktemp("pictures")
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a/x.jpg", "b/x.jpg", "a/y.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), image)
    return folder


def run(weights: Path, source: object, project: Path, **options) -> Path | None:
    return detect.run(weights=str(weights), source=str(source), imgsz=64, project=str(project), device="cpu", **options)


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_line_an_image_and_the_speeds(eager_weights, pictures, tmp_path, capsys):
    folder = run(eager_weights, pictures / "a", tmp_path)
    lines = capsys.readouterr().out.splitlines()
    pattern = r"image {}/2 .*{}: 64x64 (\\d+ cats?, )(\\d+ traffic lights?, )Done\\. \\(\\d+\\.\\d{{3}}s\\)"
    for number, name in enumerate(("x.jpg", "y.png"), 1):
        assert any(re.fullmatch(pattern.format(number, re.escape(name)).replace("\\\\", "\\"), line) for line in lines)
    speed = r"Speed: [\d.]+ms pre-process, [\d.]+ms inference, [\d.]+ms NMS per image at shape \(1, 3, 64, 64\)"
    assert any(re.fullmatch(speed, line) for line in lines)
    assert files_of(folder) == ["x.jpg", "y.png"]


def test_images_of_one_name_do_not_overwrite_each_other(eager_weights, pictures, tmp_path):
    folder = run(eager_weights, f"{pictures}/**/*.*", tmp_path, save_txt=True)
    assert files_of(folder) == ["labels/x.txt", "labels/x2.txt", "labels/y.txt", "x.jpg", "x2.jpg", "y.png"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"nosave": True}, None),
        ({"nosave": True, "save_txt": True}, {"labels/y.txt"}),
        ({"save_crop": True}, {"y.png", "crops/cat/y.jpg", "crops/traffic light/y.jpg"}),
        ({"save_crop": True, "classes": [1]}, {"y.png", "crops/traffic light/y.jpg"}),
        ({"save_crop": True, "conf_thres": 0.99}, {"y.png"}),
    ],
)
def test_what_is_written(eager_weights, pictures, tmp_path, options, expected):
    folder = run(eager_weights, pictures / "a/y.png", tmp_path, **options)
    if expected is None:
        assert folder is None and not list(tmp_path.iterdir())
    else:
        assert {re.sub(r"y\d+\.jpg", "y.jpg", name) for name in files_of(folder)} == expected


def label_rows(folder: Path) -> list[list[float]]:
    return [[float(word) for word in line.split()] for line in (folder / "labels/y.txt").read_text().splitlines()]


def test_thresholds_and_suppression(eager_weights, pictures, tmp_path):
    def rows(name: str, **options) -> list[list[float]]:
        return label_rows(
            run(eager_weights, pictures / "a/y.png", tmp_path, name=name, save_txt=True, save_conf=True, **options)
        )

    everything = rows("all", iou_thres=1.0)
    assert {row[0] for row in everything} == {0, 1}
    assert [row[5] for row in everything] == sorted(row[5] for row in everything)
    assert len(rows("few", iou_thres=1.0, max_det=1)) == 1
    assert all(row[5] > 0.8 for row in rows("sure", conf_thres=0.8))
    assert {row[0] for row in rows("one", classes=[1])} == {1}
    assert len(rows("agnostic", agnostic_nms=True, iou_thres=0.1)) < len(rows("by class", iou_thres=0.1))


def test_measured_scores(eager_weights, pictures, tmp_path, capsys):
    measured = save_operating_point(eager_weights, OperatingPoint(0.79, {"cat": 0.83, "traffic light": 0.5}), tmp_path)

    def counts(wanted: object) -> list[int]:
        folder = run(measured, pictures / "a/y.png", tmp_path / "runs", save_txt=True, conf_thres=wanted, iou_thres=1.0)
        classes = [row[0] for row in label_rows(folder)] if (folder / "labels/y.txt").exists() else []
        return [classes.count(0), classes.count(1)]

    assert counts("auto") == counts(0.79)
    assert counts("per-class") == [counts(0.83)[0], counts(0.5)[1]]
    assert counts("per-class") != counts("auto") != counts(0.5)
    said = capsys.readouterr().out
    assert "--conf-thres auto: 0.79, where F1 was highest\n" in said
    assert "--conf-thres per-class: cat 0.83, traffic light 0.5, where F1 was highest\n" in said


def test_augmented_detection_finds_more(eager_weights, pictures, tmp_path):
    once, often = (
        run(eager_weights, pictures / "a/y.png", tmp_path, save_txt=True, iou_thres=1.0, augment=augment)
        for augment in (False, True)
    )
    assert len(label_rows(often)) > len(label_rows(once))
    with pytest.raises(UserError, match="--augment takes three; leave one of them out"):
        run(eager_weights, pictures / "a/y.png", tmp_path, augment=True, visualize=True)


def test_runs_get_numbers_unless_told_otherwise(eager_weights, pictures, tmp_path):
    folders = [
        run(eager_weights, pictures / "a/y.png", tmp_path, exist_ok=exist_ok) for exist_ok in (False, False, True)
    ]
    assert [folder.name for folder in folders] == ["exp", "exp2", "exp"]


def test_what_is_hidden_changes_the_picture(eager_weights, pictures, tmp_path):
    kinds = [{}, {"hide_labels": True}, {"hide_conf": True}, {"line_thickness": 1}]
    seen = {
        cv2.imread(str(run(eager_weights, pictures / "a/y.png", tmp_path, **kind) / "y.png")).tobytes()
        for kind in kinds
    }
    assert len(seen) == 4


def test_the_speed_counts_only_readable_images(eager_weights, pictures, tmp_path, capsys):
    folder = tmp_path / "mixed"
    shutil.copytree(pictures / "a", folder)
    (folder / "broken.jpg").write_bytes(b"no image")
    run(eager_weights, folder, tmp_path / "runs")
    output = capsys.readouterr().out
    assert "'" + str(folder / "broken.jpg") + "' skipped" in output and "\n2 images, 1 skipped, " in output


def test_images_and_videos_together(eager_weights, pictures, tmp_path):
    """One of each; every frame has its labels, every file its annotated copy, and tables name them all."""
    shutil.copytree(pictures / "a", tmp_path / "mixed")
    write_video(tmp_path / "mixed/x.avi")
    options = {"save_txt": True, "save_csv": True, "save_json": True, "vid_stride": 4, "conf_thres": 0.6}
    folder = run(eager_weights, tmp_path / "mixed", tmp_path / "runs", **options)
    frames = ["x2_1", "x2_5", "x2_9"]
    expected = [f"labels/{name}.txt" for name in ["x", *frames, "y"]]
    assert files_of(folder) == [*expected, "predictions.csv", "predictions.json", "x.jpg", "x2.mp4", "y.png"]
    names = [row["image_id"] for row in json.loads((folder / "predictions.json").read_text())]
    assert list(dict.fromkeys(names)) == ["x", "y", *frames], "in the order of the frames"
    capture = cv2.VideoCapture(str(folder / "x2.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(FPS / 4) and capture.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert [capture.get(side) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)] == [64, 48]


def rows_of_json(folder: Path) -> list[tuple]:
    rows = json.loads((folder / "predictions.json").read_text())
    return [(row["image_id"], row["category_id"], *row["bbox"], row["score"]) for row in rows]


def test_batches_find_the_same(tmp_path):
    for picture in sorted(shared_path("datasets/coco128/images/train2017").glob("*.jpg"))[:13]:
        shutil.copy(picture, tmp_path)
    weights = shared_path("weights/yolov5n.pt")
    common = {"save_json": True, "nosave": True, "imgsz": 160, "device": "cpu", "project": str(tmp_path / "runs")}
    single, batched = (
        rows_of_json(detect.run(weights=str(weights), source=str(tmp_path), batch_size=size, **common))
        for size in (1, 4)
    )
    assert [row[:2] for row in single] == [row[:2] for row in batched] and len(single) > 20
    np.testing.assert_allclose([row[2:] for row in batched], [row[2:] for row in single], atol=2e-3)


def test_bus_equals_v61(tmp_path):
    golden = load_golden("detections.json")["v61"]
    case = next(
        one for one in golden if (one["imgsz"] == [640, 640] and one["args"] == {}) or one["option"] == "default"
    )
    options = {"nosave": True, "save_json": True, "device": "cpu", "project": str(tmp_path), **case["args"]}
    image, weights = shared_path(f"images/{case['image']}"), shared_path("weights/yolov5n.pt")
    folder = detect.run(weights=str(weights), source=str(image), imgsz=case["imgsz"], **options)
    rows = rows_of_json(folder)
    corners = [[left, top, left + width, top + height] for _, _, left, top, width, height, _ in rows]
    assert [row[1] for row in rows] == case["cls"]
    np.testing.assert_allclose(corners, case["xyxy"], atol=0.5)
    np.testing.assert_allclose([row[6] for row in rows], case["conf"], atol=1e-3)


def test_images_on_standard_input(eager_weights, pictures, tmp_path, monkeypatch):
    content = (pictures / "a/x.jpg").read_bytes() + (pictures / "a/y.png").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(content))))
    assert files_of(run(eager_weights, "-", tmp_path)) == ["stdin1.jpg", "stdin2.png"]


def test_stream_and_end_to_end_delay(eager_weights, tmp_path, capsys):
    with serve_streams() as streams:
        (tmp_path / "all.streams").write_text(f"{streams.url}/few?a\n{streams.url}/few?b\n")
        streams.most = 2
        with patch.object(Patience, "pause_after", lambda *_: 0.01):
            folder = run(eager_weights, tmp_path / "all.streams", tmp_path / "runs", batch_size=2)
    output = capsys.readouterr().out
    assert len(list(folder.glob("http_127.0.0.1_*_few*.mp4"))) == 2
    assert re.search(r"\n0: 64x64 .*Done\. \(\d\.\d{3}s, \d+ ms after it was taken\)\n", output)
    assert re.search(r"\nDelay from taking a frame to having its results: \d+ ms, longest \d+ ms\n", output)
