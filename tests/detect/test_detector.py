"""Detection on images against v6.1, and the files it leaves."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.formats import load_backend
from models.formats.exported import ExportedBackend, Runtime
from tests.golden_data import load_golden, shared_path
from utils.data.pixels import read_image
from utils.data.sources import Frame
from utils.detect.detector import Detections, DetectionSettings, Detector, describe
from utils.detect.sinks import CropSink, ImageSink, LabelSink, Painter
from utils.errors import UserError

CPU = torch.device("cpu")
NAMES = {0: "person", 1: "traffic light"}


def test_outputs_that_are_no_numbers_are_an_error():
    backend = ExportedBackend(Runtime(lambda images: np.full((1, 3, 7), np.nan), classes=2), Path("a.onnx"))
    detector = Detector(backend.find_rows, 32, DetectionSettings((64, 64)))
    with pytest.raises(UserError, match=r"NaN or infinite values for 'a\.jpg'"):
        detector(np.zeros((64, 64, 3), np.uint8), "a.jpg")


def golden_cases() -> list:
    try:
        return load_golden("detections.json")["v61"]
    except pytest.skip.Exception:
        return []


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: f"{case['imgsz']}-{case['option']}")
def test_bus_equals_v61(case):
    image = read_image(shared_path(f"images/{case['image']}"))
    backend = load_backend([shared_path("weights/yolov5n.pt")], CPU, augment=case["option"] == "augment")
    settings = settings_of(case)
    detected = Detector(backend.find_rows, backend.meta.stride, settings)(image)
    detections, input_hw = detected.detections, detected.input_hw
    assert list(input_hw) == case["net_hw"]
    assert detections.classes.tolist() == case["cls"]
    np.testing.assert_allclose(detections.boxes.reshape(-1, 4), np.reshape(case["xyxy"], (-1, 4)), atol=0.5)
    np.testing.assert_allclose(detections.scores, case["conf"], atol=1e-3)


def settings_of(case: dict) -> DetectionSettings:
    names = {"conf_thres": "confidence", "iou_thres": "iou", "max_det": "max_detections", "agnostic_nms": "agnostic"}
    given = {names.get(key, key): value for key, value in case["args"].items() if key != "augment"}
    return DetectionSettings(size_hw=tuple(case["imgsz"]), **given)


def one_box_at(row: list[float], classes: int = 2):
    """Return a ``find_rows`` that finds one box, given as centre x, y, width, height of a 64 px input."""

    def find_rows(pixels: np.ndarray, least: float) -> list[np.ndarray]:
        assert pixels.shape[1:3] == (64, 64) and pixels.dtype == np.uint8
        return [np.array([[*row, 0.9, 1.0, *[0.0] * (classes - 1)]], np.float32)]

    return find_rows


def test_boxes_return_to_the_pixels_of_the_image():
    image = np.zeros((100, 200, 3), np.uint8)  # 32 x 64 in the network, 16 px of padding above and below
    detector = Detector(one_box_at([32, 32, 16, 8]), 32, DetectionSettings((64, 64), exact_shape=True))
    detected = detector(image)
    np.testing.assert_allclose(detected.detections.boxes, [[75, 37.5, 125, 62.5]], atol=1e-4)
    assert all(seconds > 0 for seconds in detected.seconds)


def detections_of(*rows: tuple) -> Detections:
    table = np.array(rows, float).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].astype(int))


def frame(path: str = "a.jpg") -> Frame:
    image = np.random.default_rng(0).integers(0, 255, (80, 120, 3), np.uint8)
    return Frame(Path(path), Path(path).stem, image, 0, 1)


TWO = detections_of((10, 20, 50.4, 60, 0.9, 0), (30, 10, 110, 70, 0.4, 1))
NONE = detections_of()


@pytest.mark.parametrize(
    ("found", "text"),
    [(NONE, ""), (TWO, "1 person, 1 traffic light, "), (detections_of(*[(0, 0, 9, 9, 0.5, 0)] * 3), "3 persons, ")],
)
def test_description(found, text):
    assert describe(found, NAMES) == text


def test_label_files(tmp_path):
    LabelSink(tmp_path).write(frame(), TWO)
    LabelSink(tmp_path, with_scores=True).write(frame("b.jpg"), TWO)
    LabelSink(tmp_path).write(frame("empty.jpg"), NONE)
    assert (tmp_path / "a.txt").read_text().splitlines() == ["1 0.583333 0.5 0.666667 0.75", "0 0.25 0.5 0.333333 0.5"]
    assert [line.split()[-1] for line in (tmp_path / "b.txt").read_text().splitlines()] == ["0.4", "0.9"]
    assert not (tmp_path / "empty.txt").exists()


def test_crops_have_a_margin_and_numbers(tmp_path):
    sink = CropSink(tmp_path, NAMES)
    sink.write(frame(), TWO)
    sink.write(frame(), TWO)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpg")) == [
        *("person/a.jpg", "person/a2.jpg", "traffic light/a.jpg", "traffic light/a2.jpg")
    ]
    height, width = cv2.imread(str(tmp_path / "person/a.jpg")).shape[:2]
    assert (height, width) == (51, 51)  # 40 x 1.02 + 10 px around (30, 40), whole pixels


@pytest.mark.parametrize(("hide_labels", "hide_scores"), [(False, False), (True, False), (False, True)])
def test_annotated_images_differ_by_what_is_hidden(tmp_path, hide_labels, hide_scores):
    digests = set()
    for hide in ((False, False), (hide_labels, hide_scores)):
        ImageSink(tmp_path, Painter(NAMES, 2, *hide)).write(frame("c.png"), TWO)
        digests.add(hashlib.sha256((tmp_path / "c.png").read_bytes()).hexdigest())
    assert len(digests) == (2 if hide_labels or hide_scores else 1)
    picture = cv2.imread(str(tmp_path / "c.png"))
    assert (picture != frame().image).any() and picture.shape == frame().image.shape


def test_nothing_found_leaves_the_image_as_it_is(tmp_path):
    ImageSink(tmp_path, Painter(NAMES)).write(frame("d.png"), NONE)
    assert (cv2.imread(str(tmp_path / "d.png")) == frame().image).all()
