"""Suppression by OpenCV against the one of evaluation, which is measured against v6.1."""

import numpy as np
import pytest
import torch

from utils.detect.suppression import LIMITS, suppress
from utils.errors import UserError
from utils.eval.nms import non_max_suppression

CASES = [(300, 80, 0.25, 0.45, 300), (900, 3, 0.01, 0.9, 5), (9000, 3, 0.01, 0.6, 3000), (0, 3, 0.1, 0.5, 10)]


def random_rows(seed, count, classes):
    rows = np.random.default_rng(seed).random((count, 5 + classes), np.float32)
    rows[:, :4] = rows[:, :4] * [640, 640, 120, 120] + 1
    rows[::7, 2] = 1.5  # too narrow to count
    rows[1::9] = rows[:1]  # equal rows, in their order
    return rows


@pytest.mark.parametrize("classes", [None, [0, 2]])
@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(("count", "kinds", "confidence", "iou", "most"), CASES)
def test_it_gives_what_evaluation_gives(count, kinds, confidence, iou, most, agnostic, classes):
    rows = random_rows(count, count, kinds) if count else np.zeros((0, 5 + kinds), np.float32)
    found = suppress(rows, confidence, iou, classes, agnostic, most)
    whole = torch.from_numpy(rows[None])
    (wanted,) = non_max_suppression(whole, confidence, iou, classes, agnostic, max_detections=most)
    assert found.dtype == np.float32 and found.shape == (len(wanted), 6)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("iou", [0.0, 0.45])
def test_classes_do_not_meet_where_boxes_leave_the_image(iou):
    corners = np.float32([[40, 40, 640, 640], [-560, -560, 40, 40], [-20, -20, 30, 30]])
    boxes = np.concatenate(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), 1)
    rows = np.concatenate((boxes, np.float32([[1, 0.9, 0, 0], [1, 0, 0.8, 0], [1, 0, 0, 0.7]])), 1)
    assert suppress(rows, 0.25, iou)[:, 5].tolist() == [0, 1, 2]


def test_many_candidates_of_which_few_survive_are_all_looked_at():
    """The best ones all lie at one place, and the others only come into play when these do not fill the places."""
    rows = np.tile(np.float32([100, 100, 50, 50, 1, 0.9]), (LIMITS[0] + 3, 1))
    rows[-3:, 0] += [100, 200, 300]
    rows[-3:, 5] = [0.5, 0.7, 0.6]
    found = suppress(rows, 0.25, 0.45)
    np.testing.assert_allclose(found[:, 4], [0.9, 0.7, 0.6, 0.5])


@pytest.mark.parametrize(("thresholds", "name"), [((1.5, 0.45), "--conf-thres"), ((0.25, -1), "--iou-thres")])
def test_thresholds_outside_0_to_1_are_refused(thresholds, name):
    with pytest.raises(UserError, match=f"{name}.* expected a number from 0 to 1"):
        suppress(random_rows(0, 3, 2), *thresholds)
