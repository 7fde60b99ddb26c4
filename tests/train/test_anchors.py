"""Anchor fit against v6.1's figures, and the search for better anchors."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.yolo import Detect
from tests.data.label_files import scan_images
from tests.golden_data import load_golden, shared_path
from utils.data.listing import list_images
from utils.data.samples import Sample
from utils.train.anchors import box_sizes, find_anchors, fit_anchors, measure_anchors, place_anchors

GOLDEN = load_golden("anchors.json")
RANDOM_CASES = [case for case in GOLDEN["cases"] if "image_wh" in case]
COCO_CASES = [case for case in GOLDEN["cases"] if "image_wh" not in case]
COCO_ANCHORS = RANDOM_CASES[0]["anchors_px"]


def case_id(case: dict) -> str:
    return f"{case['name']} at {case['imgsz']}"


def make_sample(size_wh: tuple[int, int], boxes_wh: list) -> Sample:
    labels = np.full((len(boxes_wh), 5), 0.5, np.float32)
    labels[:, 3:] = np.array(boxes_wh, np.float32).reshape(-1, 2)
    return Sample(Path("image.jpg"), (size_wh[1], size_wh[0]), labels, [])


def samples_of(case: dict) -> list[Sample]:
    return [make_sample(*pair) for pair in zip(case["image_wh"], case["labels_wh_normalised"], strict=True)]


def make_head(levels: int = 3, strides: tuple[float, ...] = (8.0, 16.0, 32.0), anchors=COCO_ANCHORS) -> Detect:
    rows = np.array(anchors, np.float64).reshape(levels, -1).tolist()
    head = Detect(2, rows, [8] * levels)
    head.set_strides(list(strides))
    return head


def anchors_px(head: Detect) -> np.ndarray:
    return (head.anchors * head.stride.view(-1, 1, 1)).double().numpy()


@pytest.fixture
def lines(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("yolov5"), "propagate", True)
    caplog.set_level(logging.INFO, logger="yolov5")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("case", RANDOM_CASES, ids=case_id)
def test_fit_is_that_of_v61(case):
    sizes = box_sizes(samples_of(case), case["imgsz"])
    fit = measure_anchors(sizes, np.array(case["anchors_px"]), case["thr"])
    assert len(sizes) == case["n_boxes"]
    assert (fit.recall, fit.per_box) == pytest.approx((case["bpr_f64"], case["aat_f64"]), abs=1e-12)


@pytest.mark.parametrize("case", COCO_CASES, ids=case_id)
def test_fit_on_coco128(case):
    samples = scan_images(list_images([shared_path("datasets/coco128/images/train2017")]), "coco128").samples
    sizes = box_sizes(samples, case["imgsz"])
    fit = measure_anchors(sizes, np.array(case["anchors_px"]), case["thr"])
    assert len(sizes) == case["n_boxes"]
    assert (fit.recall, fit.per_box) == pytest.approx((case["bpr_f64"], case["aat_f64"]), abs=1e-12)


def test_fit_by_hand():
    sizes, anchors = np.array([[10.0, 10.0], [10.0, 39.0], [10.0, 40.0], [0.0, 10.0]]), np.array([[10.0, 10.0], [5, 5]])
    fit = measure_anchors(sizes, anchors, ratio_limit=4)
    assert (fit.recall, fit.per_box) == (0.5, 0.75)  # both, the first, none (4 is too much), none
    assert str(fit) == "0.75 of 2 anchors fit a box on average, 50.0 % of boxes have one"


def test_fit_without_boxes():
    fit = measure_anchors(np.zeros((0, 2)), np.ones((9, 2)), 4)
    assert (fit.recall, fit.per_box) == (1.0, 0.0)


def test_sizes_are_those_at_training_size():
    samples = [make_sample((200, 100), [[0.5, 0.5], [1, 1]]), make_sample((50, 100), [[0.2, 0.1]])]
    assert box_sizes(samples, 640).tolist() == pytest.approx(np.array([[320, 160], [640, 320], [64, 64]]))
    assert box_sizes([], 640).shape == box_sizes([make_sample((9, 9), [])], 640).shape == (0, 2)


def test_jitter_is_one_factor_an_image_between_0_9_and_1_1():
    samples = [make_sample((100, 100), [[0.5, 0.25], [0.1, 0.1]]) for _ in range(200)]
    factors = box_sizes(samples, 640, np.random.default_rng(0)) / box_sizes(samples, 640)
    by_image = factors.reshape(200, -1)
    assert np.ptp(by_image, axis=1).max() < 1e-9
    assert 0.9 <= factors.min() < 0.92
    assert 1.08 < factors.max() <= 1.1


@pytest.mark.parametrize("case", RANDOM_CASES, ids=case_id)
def test_search_fits_better_and_repeats(case):
    sizes, before = box_sizes(samples_of(case), case["imgsz"]), np.array(case["anchors_px"])
    found = [find_anchors(sizes, len(before), case["imgsz"], case["thr"], np.random.default_rng(3)) for _ in "ab"]
    assert np.array_equal(*found)
    assert found[0].shape == before.shape
    assert (np.diff(found[0].prod(1)) >= 0).all()
    fit = measure_anchors(sizes, found[0], case["thr"])
    assert fit.recall >= max(measure_anchors(sizes, before, case["thr"]).recall, 0.9)


def test_clusters_are_found_without_touching_global_generators():
    random = np.random.default_rng(0)
    true = np.array([[10, 20], [60, 30], [50, 200], [400, 300]], float)
    sizes = np.concatenate([centre * random.uniform(0.97, 1.03, (50, 2)) for centre in true])
    cv2.setRNGSeed(1)
    expected = cv2.randu(np.zeros((1, 4)), 0, 1)
    cv2.setRNGSeed(1)
    found = find_anchors(sizes, 4, 640, 4.0, np.random.default_rng(0), generations=0)
    assert np.abs(found / true - 1).max() < 0.02
    assert np.array_equal(cv2.randu(np.zeros((1, 4)), 0, 1), expected)


def test_refinement_raises_the_fitness():
    sizes = np.exp(np.random.default_rng(0).normal(3.5, 1.0, (10_000, 2)))
    plain, refined = (find_anchors(sizes, 9, 640, 4.0, np.random.default_rng(0), count) for count in (0, 1000))
    assert measure_anchors(sizes, refined, 4.0).recall > measure_anchors(sizes, plain, 4.0).recall + 0.05


@pytest.mark.parametrize(
    "sizes",
    [
        np.zeros((0, 2)),
        np.full((50, 2), 40.0),
        np.tile([40.0, 90.0], (3, 1)),
        np.array([[30.0, 60.0], [200.0, 100.0]]),
        np.array([[30.0, 0.0]] * 20),
        np.array([[1.0, 1.0]] * 20),
        np.stack((np.arange(10.0, 30), np.full(20, 25.0)), 1),
        np.full((50, 2), 40.0) + np.arange(50)[:, None] * 1e-9,
    ],
    ids=["none", "equal", "equal and few", "fewer than anchors", "flat", "below 2 px", "one height", "nearly equal"],
)
@pytest.mark.filterwarnings("error")
def test_odd_data_gives_usable_anchors(sizes):
    found = find_anchors(sizes, 9, 640, 4.0, np.random.default_rng(0), generations=50)
    assert found.shape == (9, 2)
    assert np.isfinite(found).all()
    assert (found >= 2).all()
    assert (np.diff(found.prod(1)) >= 0).all()
    big = sizes[(sizes >= 2).all(1)] if len(sizes) else sizes
    assert measure_anchors(big, found, 4.0).recall == 1


def test_search_looks_at_a_sample_of_many_boxes(monkeypatch):
    monkeypatch.setattr("utils.train.anchors.MOST_BOXES", 500)
    sizes = np.exp(np.random.default_rng(0).normal(3.5, 0.5, (5000, 2)))
    assert measure_anchors(sizes, find_anchors(sizes, 9, 640, 4.0, np.random.default_rng(0)), 4.0).recall > 0.98


@pytest.mark.parametrize("case", GOLDEN["order"], ids=lambda case: str(case["strides"]))
def test_anchors_go_to_levels_in_order_of_stride(case):
    head = make_head(len(case["strides"]), tuple(case["strides"]), case["anchors_px"])
    place_anchors(head, np.array(case["anchors_px"], float).reshape(-1, 2)[::-1])
    levels = case["anchors_px"][::-1] if case["reversed"] else case["anchors_px"]  # v6.1 forgets to scale what it moves
    assert torch.equal(
        head.anchors * head.stride.view(-1, 1, 1), torch.tensor(levels, dtype=torch.float32).view(len(levels), -1, 2)
    )
    assert case["reversed"] or torch.equal(head.anchors, torch.tensor(case["grid_units_after"]))


@pytest.mark.parametrize("case", [case for case in RANDOM_CASES if case["good_fit"]], ids=case_id)
def test_good_anchors_are_kept(case, lines):
    head = make_head(anchors=case["anchors_px"])
    before = head.anchors.clone()
    fit_anchors(head, samples_of(case), case["imgsz"], case["thr"], seed=0)
    assert torch.equal(head.anchors, before)
    (line,) = lines()
    assert "kept" in line and "of 9 anchors fit a box on average" in line


@pytest.mark.parametrize(
    "case, levels, strides",
    [
        (RANDOM_CASES[0], 3, (8.0, 16.0, 32.0)),
        (RANDOM_CASES[1], 3, (32.0, 16.0, 8.0)),
        (RANDOM_CASES[4], 4, (8.0, 16.0, 32.0, 64.0)),
        (RANDOM_CASES[0], 1, (16.0,)),
    ],
)
def test_poor_anchors_are_replaced_in_place(case, levels, strides, lines):
    head = make_head(levels, strides, case["anchors_px"])
    buffer, before, samples = head.anchors, head.anchors.clone(), samples_of(case)
    fit_anchors(head, samples, case["imgsz"], case["thr"], seed=0)
    assert head.anchors is buffer
    assert not torch.equal(buffer, before)
    sizes, new = box_sizes(samples, case["imgsz"]), anchors_px(head)
    assert measure_anchors(sizes, new.reshape(-1, 2), case["thr"]).recall > 0.95
    areas = new.prod(-1).mean(-1)[np.argsort(strides)]
    assert (np.diff(areas) > 0).all()
    assert "replaced" in lines()[-1] and "--noautoanchor" in lines()[-1]


def test_seed_decides_the_result():
    results = []
    for seed in (0, 0, 1):
        head = make_head()
        fit_anchors(head, samples_of(RANDOM_CASES[0]), 640, 4.0, seed)
        results.append(head.anchors.clone())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_search_that_finds_nothing_better_keeps_the_anchors(lines):
    samples = [make_sample((640, 640), [[0.0015, 0.0015], [0.0017, 0.0011], [0.5, 0.5]])]
    head = make_head(anchors=[[1, 1], [1, 1.5], [1.5, 1], [2, 1], [2, 2], [3, 3], [4, 4], [5, 5], [6, 6]])
    before = head.anchors.clone()
    fit_anchors(head, samples, 640, 1.05, seed=0)  # a search leaves out what is below 2 px
    assert torch.equal(head.anchors, before)
    assert "2 of 3 boxes have a side below 3 px" in lines()[0]
    assert "no better ones" in lines()[1] and "--noautoanchor" in lines()[1]


@pytest.mark.parametrize("samples", [[], [make_sample((100, 80), [])]], ids=["no images", "no boxes"])
def test_no_boxes_keep_the_anchors(samples, lines):
    head = make_head()
    before = head.anchors.clone()
    fit_anchors(head, samples, 640, 4.0, seed=0)
    assert torch.equal(head.anchors, before)
    (line,) = lines()
    assert "no boxes" in line
