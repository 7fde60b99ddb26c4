import dataclasses

import cv2
import numpy as np
import pytest
import torch

from tests.eval.made import SIZE, findings_of, make_findings
from utils.eval.analysis import analyse, save_analysis
from utils.eval.analysis.gallery import confident_mistakes, worst_misses
from utils.eval.metrics import ap_per_class

CHARTS = {"errors.png", "calibration.png", "size_ap.png"}
GALLERIES = {"worst_false_positives.jpg", "worst_misses.jpg", "confident_mistakes.jpg"}
WIDE = (8 + 4 * 448, 8 + 448)  # px, of four columns and of one


def _analyse(findings):
    classes = findings.classes.astype(float)
    return analyse(findings, ap_per_class(findings.correct, findings.scores, classes, findings.label_classes))


def _with_files(findings, folder, side=SIZE):
    """Let the findings be about grey image files of ``side`` px, which stand for the 640 px of the boxes."""
    folder.mkdir(exist_ok=True)
    paths = [str(folder / f"bild {index} Ä.png") for index in range(len(findings))]
    for path in paths:
        encoded = cv2.imencode(".png", np.full((side, side), 90, np.uint8))[1]
        with open(path, "wb") as file:
            file.write(encoded.tobytes())
    return dataclasses.replace(findings, paths=paths)


@pytest.mark.parametrize("classes", [1, 5])
def test_every_picture_is_written(tmp_path, classes):
    findings = _with_files(make_findings(images=6, classes=classes), tmp_path / "images")
    folder = tmp_path / "run"
    folder.mkdir()
    save_analysis(_analyse(findings), findings, folder)
    assert {path.name for path in folder.iterdir()} == CHARTS | GALLERIES
    assert all(cv2.imread(str(path)).std() > 5 for path in folder.iterdir())


@pytest.mark.parametrize(
    "boxes, labels, expected", [(0, 0, set()), (0, 1, {"errors.png", "size_ap.png"}), (1, 0, set())]
)
def test_of_nothing_there_is_no_picture(tmp_path, boxes, labels, expected):
    """The image files do not exist, so that no gallery can be drawn either."""
    found = torch.tensor([[10.0, 10.0, 60.0, 60.0, 0.9, 0.0]])[:boxes]
    findings = findings_of([found], [torch.tensor([[0.0, 10.0, 10.0, 60.0, 60.0]])[:labels]], 1)
    save_analysis(_analyse(findings), findings, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_where_nothing_is_right_the_confidence_of_detect_py_counts(tmp_path):
    found = torch.tensor([[10.0, 10.0, 60.0, 60.0, 0.9, 0.0], [10.0, 10.0, 60.0, 60.0, 0.1, 0.0]])
    findings = _with_files(findings_of([found], [torch.zeros(0, 5)], 1), tmp_path)
    analysis = _analyse(findings)
    assert analysis.confidence == 0.25
    assert analysis.worst.false_positives == [(0, 1)]
    assert confident_mistakes(analysis, findings).shape[1] == 8 + 2 * 448
    assert worst_misses(analysis, findings) is None


def test_unreadable_images_are_left_out(tmp_path):
    findings = _with_files(make_findings(images=10, seed=3, found=0.5), tmp_path)
    analysis = _analyse(findings)
    assert len(analysis.worst.misses) > 4
    assert worst_misses(analysis, findings).shape[1] == WIDE[0]
    (first, _), *others = analysis.worst.misses
    for index, _ in others:
        (tmp_path / findings.paths[index]).unlink()
    assert worst_misses(analysis, findings).shape[1] == WIDE[1]
    (tmp_path / findings.paths[first]).write_bytes(b"no image")
    assert worst_misses(analysis, findings) is None


def test_boxes_are_drawn_where_they_are(tmp_path):
    """A missed label becomes a yellow frame; the image file is smaller than the boxes' pixels say, as when shrunk."""
    label = torch.tensor([[0.0, 160.0, 320.0, 480.0, 480.0]])
    findings = _with_files(findings_of([torch.zeros(0, 6)], [label], 1), tmp_path, side=320)
    picture = worst_misses(_analyse(findings), findings)
    image = picture[-440 - 40 :]  # without the title
    yellow = (image[..., 2] > 200) & (image[..., 1] > 200) & (image[..., 0] < 100)
    columns = np.flatnonzero(yellow.sum(0) > 80) - 8
    assert columns.min() == pytest.approx(440 / 4, abs=3)
    assert columns.max() == pytest.approx(440 * 3 / 4, abs=3)
