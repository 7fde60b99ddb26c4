"""Options to settings: which score counts."""

import dataclasses

import numpy as np
import pytest

from models.formats import Metadata
from utils.detect.detector import DetectionSettings, Detector
from utils.detect.options import DetectOptions
from utils.detect.settings import detection_settings
from utils.errors import UserError

META = Metadata(32, {0: "cat", 1: "dog", 2: "cow"})
MEASURED = Metadata(32, META.names, operating_point={"confidence": 0.3, "classes": {"cat": 0.4, "dog": 0.2}})


@pytest.mark.parametrize(
    ("given", "meta", "confidence", "by_class"),
    [
        ({}, META, 0.25, None),
        ({"conf_thres": 0.5}, MEASURED, 0.5, None),
        ({"conf_thres": "auto"}, MEASURED, 0.3, None),
        ({"conf_thres": "per-class"}, MEASURED, 0.2, {0: 0.4, 1: 0.2, 2: 0.3}),
        ({"conf_thres": "per-class", "classes": [2, 0]}, MEASURED, 0.3, {0: 0.4, 2: 0.3}),
    ],
)
def test_the_score_is_given_or_measured(given, meta, confidence, by_class):
    settings = detection_settings(DetectOptions(**given), meta)
    assert settings.confidence == confidence and settings.class_confidence == by_class


@pytest.mark.parametrize(
    ("given", "input_hw", "found"),
    [
        ([640], None, (640, 640)),
        ([100, 64], None, (128, 64)),
        ([640], (64, 96), (64, 96)),
        ([64, 96], (64, 96), (64, 96)),
    ],
)
def test_the_size_is_given_or_the_only_one_there_is(given, input_hw, found):
    meta = dataclasses.replace(META, input_hw=input_hw)
    assert detection_settings(DetectOptions(imgsz=given), meta).size_hw == found


def test_a_size_that_a_file_does_not_take_is_refused_with_the_right_one():
    meta = dataclasses.replace(META, input_hw=(64, 96))
    with pytest.raises(UserError, match=r"--imgsz 320: 'a\.onnx' takes images of 64x96 px only; leave --imgsz out"):
        detection_settings(DetectOptions(weights=["a.onnx"], imgsz=[320]), meta)


@pytest.mark.parametrize("wanted", ["auto", "per-class"])
@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (["a.pt"], "'a.pt' holds no measured scores; give a number, or measure it: python val.py --weights a.pt"),
        (["a.pt", "b.pt"], "is measured for one model, got 2 files; give a number"),
    ],
)
def test_without_a_measurement_the_mend_is_named(wanted, weights, said):
    with pytest.raises(UserError) as error:
        detection_settings(DetectOptions(weights=weights, conf_thres=wanted), META)
    assert f"--conf-thres {wanted}" in str(error.value) and said in str(error.value)


def test_each_class_is_kept_from_its_own_score_on():
    rows = [[16, 16, 8, 8, 1, *scores] for scores in ([0.35, 0, 0], [0, 0.25, 0], [0, 0, 0.35], [0.45, 0, 0])]
    for index, row in enumerate(rows):
        row[0] += 10 * index  # no overlap
    settings = DetectionSettings((64, 64), 0.2, class_confidence={0: 0.4, 1: 0.2, 2: 0.3}, exact_shape=True)
    detector = Detector(lambda images, least: [np.array(rows, np.float32)], 32, settings)
    found = detector(np.zeros((64, 64, 3), np.uint8)).detections
    assert found.classes.tolist() == [0, 2, 1]
    np.testing.assert_allclose(found.scores, [0.45, 0.35, 0.25])


@pytest.mark.parametrize(
    ("classes", "said"),
    [(3, "cat 0.4, dog 0.2, cow 0.3"), (20, "from dog 0.2 to cat 0.4")],
)
def test_what_is_used_is_said(classes, said, caplog):
    names = META.names | {index: f"other {index}" for index in range(3, classes)}
    meta = Metadata(32, names, operating_point=MEASURED.operating_point)
    with caplog.at_level("INFO"):
        detection_settings(DetectOptions(conf_thres="per-class"), meta)
    assert caplog.messages == [f"--conf-thres per-class: {said}, where F1 was highest"]
