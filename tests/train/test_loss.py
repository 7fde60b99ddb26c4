"""Assignment, loss values and gradients against v6.1."""

import numpy as np
import pytest
import torch

from tests.golden_data import load_golden, meta_of
from utils.train.assign import assign_targets
from utils.train.loss import DetectionLoss

GOLDEN = load_golden("targets_loss.npz")
CASES = meta_of(GOLDEN)["cases"]
ASSIGNED = [
    i for i in range(len(CASES)) if any(name.startswith(f"c{i}_l") for name in GOLDEN.files)
]  # one a target set


def make_loss(case: dict) -> DetectionLoss:
    hyp = case["hyp"]
    return DetectionLoss(
        anchors=torch.tensor(case["anchors_grid_units"]),
        classes=case["nc"],
        strides=case["strides"],
        box_gain=hyp["box"],
        objectness_gain=hyp["obj"],
        class_gain=hyp["cls"],
        objectness_positive_weight=hyp["obj_pw"],
        class_positive_weight=hyp["cls_pw"],
        ratio_limit=hyp["anchor_t"],
        focal_gamma=hyp["fl_gamma"],
        label_smoothing=hyp["label_smoothing"],
        autobalance=case["autobalance"],
    )


def outputs_of(case: dict, call: int) -> list[torch.Tensor]:
    random = np.random.RandomState(case["p_seed"] + 1000 * call)
    arrays = [(random.standard_normal(shape) * case["p_scale"]).astype(np.float32) for shape in case["p_shapes"]]
    return [torch.from_numpy(array).requires_grad_() for array in arrays]


@pytest.mark.parametrize("number", ASSIGNED, ids=[CASES[i]["name"] for i in ASSIGNED])
def test_assignment_equals_v61(number):
    case = CASES[number]
    grids = [(shape[2], shape[3]) for shape in case["p_shapes"]]
    targets, anchors = torch.from_numpy(GOLDEN[f"c{number}_targets"]), torch.tensor(case["anchors_grid_units"])
    for level, found in enumerate(assign_targets(targets, grids, anchors, case["hyp"]["anchor_t"])):
        index = torch.stack((found.image, found.anchor, found.row, found.column), 1)
        assert len(index) == case["n_matched_per_level"][level]
        if len(index):
            np.testing.assert_array_equal(index, GOLDEN[f"c{number}_l{level}_bagjgi"])
            np.testing.assert_array_equal(found.classes, GOLDEN[f"c{number}_l{level}_tcls"])
            np.testing.assert_allclose(found.box, GOLDEN[f"c{number}_l{level}_tbox"], atol=1e-5)
            np.testing.assert_allclose(found.anchor_wh, GOLDEN[f"c{number}_l{level}_anch"], rtol=1e-6)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case["name"] for case in CASES])
def test_loss_and_gradients_equal_v61(number):
    case = CASES[number]
    criterion = make_loss(case)
    assert criterion.balance == pytest.approx(case["balance_before"][: case["nl"]])
    targets = torch.from_numpy(GOLDEN[f"c{number}_targets"])
    for call, expected in enumerate(case["calls"]):
        outputs = outputs_of(case, call)
        loss, parts = criterion(outputs, targets)
        assert loss.item() == pytest.approx(expected["loss"], rel=1e-5)
        assert parts.tolist() == pytest.approx([expected["lbox"], expected["lobj"], expected["lcls"]], rel=1e-5)
        assert criterion.balance == pytest.approx(expected["balance_after"][: case["nl"]], rel=1e-6)
        if call == 0:
            loss.backward()
            for level, output in enumerate(outputs):
                check_gradient(output.grad.numpy(), number, level)


def check_gradient(gradient: np.ndarray, number: int, level: int) -> None:
    full, sample = f"c{number}_grad{level}", f"c{number}_gradsample{level}"
    if full in GOLDEN.files:
        expected, actual = GOLDEN[full], gradient
    else:
        expected = GOLDEN[sample]
        actual = gradient.reshape(-1)[np.random.RandomState(9).randint(0, gradient.size, 64)]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(gradient).max())


def test_a_perfect_prediction_costs_less_than_a_shifted_one():
    case = CASES[0]
    criterion = make_loss(case)
    targets = torch.from_numpy(GOLDEN["c0_targets"])
    outputs = [torch.full(shape, -8.0) for shape in case["p_shapes"]]
    grids = [(shape[2], shape[3]) for shape in case["p_shapes"]]
    for output, found in zip(outputs, assign_targets(targets, grids, criterion.anchors, 4.0), strict=True):
        index = (found.image, found.anchor, found.row, found.column)
        scores = torch.cat(((found.box[:, :2] + 0.5) / 2, (found.box[:, 2:] / found.anchor_wh).sqrt() / 2), 1)
        output[(*index, slice(0, 4))] = torch.logit(scores, eps=1e-6)
    perfect = criterion(outputs, targets)[1][0]
    shifted = criterion([output + 0.5 for output in outputs], targets)[1][0]
    assert perfect < 0.01
    assert shifted > perfect * 5
