import numpy as np
import pytest

from tests.data.pictures import assert_same_picture, scene_of
from tests.golden_data import load_golden, meta_of
from utils.data.strength import Augmentation
from utils.data.warp import AffineDraw, affine_matrix, draw_affine, keep_boxes, warp, warp_boxes


@pytest.fixture(scope="module")
def golden():
    return load_golden("augment.npz")


@pytest.mark.parametrize("number", range(9))
def test_affine_equals_v61(golden, number):
    name, case = f"persp{number}", meta_of(golden)["persp"][number]
    image, targets = golden[f"{name}_im"], golden[f"{name}_targets"]
    output_hw = tuple(case["out_hw"])
    draw = AffineDraw(*golden[f"{name}_draws"])
    matrix = affine_matrix(draw, image.shape[:2], output_hw)
    np.testing.assert_allclose(matrix, golden[f"{name}_M"], atol=1e-7)

    segments = [golden[f"{name}_seg{index}"] for index in range(case["n_segments"])]
    if len(targets) and not segments:
        boxes = warp_boxes(targets[:, 1:], matrix, output_hw)
        np.testing.assert_allclose(boxes, golden[f"{name}_boxes_before_filter"], atol=1e-4)
        kept = keep_boxes(targets[:, 1:] * draw.scale, boxes)
        np.testing.assert_array_equal(kept, golden[f"{name}_keep"])
    warped = warp(scene_of(image, targets, segments), matrix, output_hw, draw.scale)
    np.testing.assert_allclose(warped.labels, golden[f"{name}_targets_out"], atol=1e-3)
    assert warped.labels.dtype == np.float32
    assert_same_picture(warped.image, golden[f"{name}_out"])


@pytest.mark.parametrize("number", range(9))
def test_affine_draws_stay_in_v61_ranges(golden, number):
    case = meta_of(golden)["persp"][number]
    strength, generator = Augmentation(**case["hyp"]), np.random.default_rng(0)
    draws = np.array([draw_affine(strength, generator) for _ in range(300)])
    low, high = np.array(case["draw_ranges"]).T
    assert (draws >= low - 1e-12).all() and (draws <= high + 1e-12).all()
    assert (np.ptp(draws, 0) >= 0.9 * (high - low)).all()


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("cand_default", {}),
        ("cand_area0.01", {"min_area_left": 0.01}),
        ("cand_wh5_ar3_area0.5", {"min_side": 5, "max_aspect": 3, "min_area_left": 0.5}),
    ],
)
def test_box_filter_equals_v61(golden, name, limits):
    kept = keep_boxes(golden["cand_box1"], golden["cand_box2"], **limits)
    np.testing.assert_array_equal(kept, golden[name])
