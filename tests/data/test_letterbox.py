import numpy as np
import pytest

from tests.data.pictures import assert_same_picture
from tests.golden_data import load_golden, meta_of
from utils.data.letterbox import fit_letterbox, letterbox


@pytest.fixture(scope="module")
def golden():
    return load_golden("augment.npz")


@pytest.mark.parametrize("size_hw", [(1080, 1), (1, 1080), (1, 1)])
def test_letterbox_takes_pictures_one_pixel_wide(size_hw):
    image = np.full((*size_hw, 3), 7, np.uint8)
    padded = letterbox(image, fit_letterbox(size_hw, (64, 64)))
    assert padded.shape == (64, 64, 3) and (padded == 7).any()


def test_letterbox_geometry_equals_v61():
    cases = [case for case in load_golden("letterbox.json")["letterbox"] if not case["scaleFill"]]
    assert len(cases) > 30
    for case in cases:
        shape = case["new_shape"]
        frame_hw = (shape, shape) if isinstance(shape, int) else tuple(shape)
        stride = case["stride"] if case["auto"] else None
        fit = fit_letterbox((case["h"], case["w"]), frame_hw, scale_up=case["scaleup"], stride=stride)
        resized_wh = case["resized_wh"] or (case["w"], case["h"])  # null where nothing was resized
        assert fit.resized_hw == tuple(resized_wh[::-1]), case
        assert fit.ratio == pytest.approx(case["ratio_w"]), case
        assert fit.half_pad_xy == pytest.approx((case["dw"], case["dh"])), case
        assert (fit.resized_hw[0] + fit.top + fit.bottom, fit.resized_hw[1] + fit.left + fit.right) == (
            case["out_h"],
            case["out_w"],
        ), case
        for side in ("top", "bottom", "left", "right"):
            assert getattr(fit, side) == case[side], case


def test_letterbox_pixels_equal_v61(golden):
    for name in ("lb0", "lb1", "lb2"):
        options = meta_of(golden)[name]
        image = golden[f"{name}_im"]
        fit = fit_letterbox(
            image.shape[:2],
            tuple(options["new_shape"]),
            scale_up=options.get("scaleup", True),
            stride=32 if options["auto"] else None,
        )
        assert_same_picture(letterbox(image, fit), golden[f"{name}_out"])
