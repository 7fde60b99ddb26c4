import numpy as np
import pytest
import torch

from tests.eval.made import findings_of
from utils.eval.analysis.calibration import calibrate

BOX = (10.0, 10.0, 50.0, 50.0)
ELSEWHERE = (300.0, 300.0, 350.0, 350.0)


def _findings(*rows):
    """Return one image a row: a score, and whether the detection is right."""
    found = [torch.tensor([[*(BOX if right else ELSEWHERE), score, 0]]) for score, right in rows]
    return findings_of(found, [torch.tensor([[0, *BOX]])] * len(rows), 1)


def test_precision_of_each_bin_against_its_mean_confidence():
    result = calibrate(_findings((0.82, True), (0.88, False), (0.31, True), (0.05, False)))
    assert result.counts.tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 2, 0]
    assert result.confidence[[0, 3, 8]] == pytest.approx([0.05, 0.31, 0.85])
    assert result.precision[[0, 3, 8]].tolist() == [0, 1, 0.5]
    assert np.isnan(result.precision[[1, 9]]).all()
    assert result.expected_error() == pytest.approx((0.05 + 0.69 + 2 * 0.35) / 4)
    assert result.expected_error(first_bin=1) == pytest.approx((0.69 + 2 * 0.35) / 3)


def test_scores_at_both_ends():
    result = calibrate(_findings((1.0, True), (0.0, False)), bins=4)
    assert result.counts.tolist() == [1, 0, 0, 1]
    assert result.expected_error() == 0


def test_without_detections():
    findings = findings_of([torch.zeros(0, 6)], [torch.zeros(0, 5)], 1)
    result = calibrate(findings)
    assert not result.counts.any()
    assert result.expected_error() == 0
