"""The scores of the best F1: found, kept with the weights, and read again."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.hooks.reports import epoch_report, evaluation
from utils.checkpoint import Checkpoint, read_checkpoint, strip_checkpoint, write_checkpoint
from utils.errors import UserError
from utils.eval.metrics import ClassMetrics, ap_per_class
from utils.eval.operating_point import OperatingPoint, save_operating_point
from utils.train.saving import CheckpointWriter

NAMES = {0: "cat", 1: "dog", 2: "cow", 3: "bee"}


def measure(*detections: tuple[int, float, bool], labels: list[int]) -> ClassMetrics:
    """Return the metrics of (class, score, right?) detections."""
    classes, scores, right = (np.array(column) for column in zip(*detections, strict=True))
    return ap_per_class(np.tile(right.astype(bool)[:, None], 10), scores, classes, np.array(labels))


def two_classes() -> ClassMetrics:
    """Cats are right above 0.65, dogs above 0.25; cows are never found, of bees there are none."""
    cats = [(0, score, score > 0.65) for score in np.linspace(0.9, 0.1, 81)]
    dogs = [(1, score, score > 0.25) for score in np.linspace(0.9, 0.1, 81)]
    labels = [0] * sum(right for *_, right in cats) + [1] * sum(right for *_, right in dogs) + [2]
    return measure(*cats, *dogs, labels=labels)


def test_each_class_has_the_score_of_its_best_f1():
    point = OperatingPoint.measured(two_classes(), NAMES)
    assert point.classes.keys() == {"cat", "dog"}
    assert point.classes["cat"] == pytest.approx(0.65, abs=0.03)
    assert point.classes["dog"] == pytest.approx(0.25, abs=0.03)
    assert 0.2 < point.confidence < 0.7
    assert point.thresholds(NAMES) == {
        **{0: point.classes["cat"], 1: point.classes["dog"]},
        **{2: point.confidence, 3: point.confidence},
    }


def test_it_is_the_point_of_the_printed_figures_where_f1_has_one_peak():
    metrics = two_classes()
    point = OperatingPoint.measured(metrics, NAMES)
    assert point.confidence == pytest.approx(metrics.best_confidence, abs=0.002)


def test_a_class_found_once_and_for_sure_does_not_let_everything_in():
    point = OperatingPoint.measured(measure((0, 0.9, True), labels=[0]), NAMES)
    assert point.classes["cat"] == pytest.approx(0.45, abs=0.05)


@pytest.mark.parametrize("metrics", [measure((0, 0.5, False), labels=[0]), measure((0, 0.5, True), labels=[])])
def test_without_a_hit_there_is_no_point(metrics):
    assert OperatingPoint.measured(metrics, NAMES) is None


def test_no_score_is_below_what_is_measured():
    point = OperatingPoint.measured(measure((0, 0.9, True), (0, 0.002, True), labels=[0, 0]), NAMES)
    assert point.confidence >= 0.001 and point.classes["cat"] >= 0.001


POINT = OperatingPoint(0.3, {"cat": 0.4, "dog": 0.2})


def test_it_is_plain_data():
    assert OperatingPoint.stored(POINT.content()) == POINT
    assert OperatingPoint.stored(None) is None


def checkpoint() -> Checkpoint:
    state = {"model.0.weight": torch.ones(2), "model.1.anchors": torch.ones(1)}
    return Checkpoint(state, {"nc": 2}, {0: "cat", 1: "dog"}, [8.0])


def test_a_copy_carries_it_and_the_file_stays(tmp_path):
    weights = tmp_path / "a.pt"
    write_checkpoint(weights, checkpoint())
    before = weights.read_bytes()
    copy = save_operating_point(weights, POINT, tmp_path / "run")
    assert copy == tmp_path / "run/a.pt" and weights.read_bytes() == before
    assert read_checkpoint(weights).operating_point is None
    assert OperatingPoint.stored(read_checkpoint(copy).operating_point) == POINT
    assert torch.load(copy, weights_only=True)["operating_point"] == POINT.content()
    strip_checkpoint(copy)
    assert OperatingPoint.stored(read_checkpoint(copy).operating_point) == POINT
    assert save_operating_point(weights, POINT, tmp_path / "run") == copy  # replaces an earlier copy


def test_the_file_itself_is_never_replaced(tmp_path):
    weights = tmp_path / "a.pt"
    write_checkpoint(weights, checkpoint())
    with pytest.raises(UserError, match=r"would replace '.*a\.pt' itself; choose another --project or --name"):
        save_operating_point(weights, POINT, weights.parent)
    with pytest.raises(UserError, match=r"is no \.pt file; save the point with that one, and export it again"):
        save_operating_point(Path("a.torchscript"), POINT, tmp_path)


def test_a_checkpoint_of_before_has_none(tmp_path):
    write_checkpoint(tmp_path / "a.pt", checkpoint())
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    del content["operating_point"]
    torch.save(content, tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt").operating_point is None


@pytest.mark.parametrize(
    ("report", "stored"),
    [
        (epoch_report(evaluation=evaluation(found=2)), {"cat"}),
        (epoch_report(evaluation=evaluation()), None),  # nothing found
        (epoch_report(evaluation=None), None),  # not validated
    ],
)
def test_training_keeps_that_of_the_epoch(tmp_path, report, stored):
    model = torch.nn.Linear(1, 1)
    state = SimpleNamespace(
        average=SimpleNamespace(model=model), epoch=1, capture=lambda: {"epoch": 1, "model": model.state_dict()}
    )
    write = CheckpointWriter(tmp_path, checkpoint())
    write(state, report, is_best=True, is_last=True)
    write.finish()
    for path in (write.best, write.last):
        point = OperatingPoint.stored(read_checkpoint(path).operating_point)
        assert (point and set(point.classes)) == stored
