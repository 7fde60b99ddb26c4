import numpy as np
import pytest
import torch

from tests.golden_data import load_golden, meta_of
from utils.boxes import clip_boxes, scale_boxes, xywh_to_xyxy, xyxy_to_xywh
from utils.overlap import element_iou, pairwise_iou

KINDS = ("iou", "giou", "diou", "ciou")


@pytest.fixture(scope="module")
def golden():
    return load_golden("boxes.npz")


@pytest.mark.parametrize("as_input", [torch.from_numpy, np.asarray], ids=["tensor", "array"])
@pytest.mark.parametrize(
    ("convert", "given", "wanted"), [(xywh_to_xyxy, "xywh", "xywh2xyxy"), (xyxy_to_xywh, "xyxy", "xyxy2xywh")]
)
def test_conversions(golden, convert, given, wanted, as_input):
    boxes = as_input(golden[given])
    converted = convert(boxes)
    assert type(converted) is type(boxes)
    assert np.allclose(np.asarray(converted), golden[wanted], rtol=1e-6, atol=1e-6)
    assert np.array_equal(np.asarray(boxes), golden[given]), "the input must stay as it was"


def test_conversions_are_inverse_on_any_leading_shape():
    boxes = torch.rand(2, 3, 4)
    assert torch.allclose(xyxy_to_xywh(xywh_to_xyxy(boxes)), boxes, atol=1e-6)


def test_clip(golden):
    clipped = clip_boxes(golden["clip_in"], (480, 640))
    assert np.allclose(clipped, golden["clip_out_shape480x640"], atol=1e-6)
    assert np.allclose(clip_boxes(torch.from_numpy(golden["clip_in"]), (480, 640)).numpy(), clipped)


@pytest.mark.parametrize("case", range(6))
def test_scale_back_to_the_original_image(golden, case):
    settings = meta_of(golden)["scale_coords"][case]
    ratio, pad_xy = (settings["ratio_pad"][0][0], settings["ratio_pad"][1]) if settings["ratio_pad"] else (None, None)
    scaled = scale_boxes(golden[f"scale{case}_in"], settings["img1_hw"], settings["img0_hw"], ratio, pad_xy)
    assert np.allclose(scaled, golden[f"scale{case}_out"], rtol=1e-6, atol=1e-4)


def _pairs(golden, dtype=torch.float32):
    return [torch.from_numpy(golden[f"iou_box{side}_xywh"]).to(dtype) for side in (1, 2)]


@pytest.mark.parametrize("kind", KINDS)
def test_overlap_of_pairs(golden, kind):
    first, second = _pairs(golden, torch.float64)
    values = element_iou(xywh_to_xyxy(first), xywh_to_xyxy(second), kind)
    assert np.allclose(values.numpy(), golden[f"{kind}_f64_xywh"], atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_overlap(golden, kind):
    first, second = _pairs(golden)
    first.requires_grad_()
    element_iou(xywh_to_xyxy(first), xywh_to_xyxy(second), kind).sum().backward()
    wanted = golden[f"{kind}_grad_box1_xywh"][5:]  # rows 0 to 4 are degenerate
    assert np.allclose(first.grad.numpy()[5:], wanted, rtol=1e-4, atol=1e-6)


def test_overlap_matrix(golden):
    first, second = torch.from_numpy(golden["pair_a_xyxy"]), torch.from_numpy(golden["pair_b_xyxy"])
    assert np.allclose(pairwise_iou(first, second).numpy(), golden["pair_iou"], atol=1e-6)
    assert pairwise_iou(first[:0], second).shape == (0, 23)
