"""What a comparison finds, and where it draws the line."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from models.formats.graph import suppress
from models.formats.settings import NmsSettings
from utils.data.config import load_dataset_config
from utils.errors import UserError
from utils.export.images import as_input, calibration, images_of_split, images_to_compare
from utils.export.parity import TOLERANCES, Parity, Suppression, compare
from utils.export.proof import Proof

IMAGES = [torch.zeros(1, 3, 64, 64)]
CAT, DOG = [1.0, 0.0], [0.0, 1.0]


def rows(*boxes: list[float]) -> Tensor:
    """Return (1, n, 7) rows of [x, y, width, height, objectness, cat, dog]."""
    return torch.tensor([boxes])


SEEN = rows([20, 20, 10, 10, 0.9, *CAT], [50, 20, 10, 20, 0.6, *DOG], [30, 50, 10, 10, 0.01, *CAT])


def found_by(expected: Tensor, found: Tensor, finished: bool = False, margin: float = 1e-3) -> Parity:
    return compare(lambda _: expected, lambda _: found, IMAGES, Suppression(), margin, finished)


def changed(row: int, column: int, by: float) -> Tensor:
    found = SEEN.clone()
    found[0, row, column] += by
    return found


@pytest.mark.parametrize("finished", [False, True])
def test_the_same_is_the_same(finished):
    parity = found_by(SEEN, SEEN.clone(), finished)
    assert (parity.images, parity.detections, parity.matched) == (1, 2, 2)
    assert parity.box_px == parity.score == 0 and parity.rows == (0 if finished else 2)
    assert not parity.faults(TOLERANCES["FP32"])
    assert parity.line() == "compared on 1 image: largest difference 0 px, score 0; 2 of 2 detections the same"


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("row", "column", "by", "box_px", "score"),
    [(0, 0, 0.75, 0.75, 0), (1, 3, 3, 1.5, 0), (0, 4, -0.02, 0, 0.02), (1, 6, -0.1, 0, 0.06)],
    ids=["x", "height", "objectness", "class"],
)
def test_differences_of_boxes_and_scores_are_measured(finished, row, column, by, box_px, score):
    parity = found_by(SEEN, changed(row, column, by), finished)
    assert (parity.box_px, parity.score) == (pytest.approx(box_px, abs=1e-6), pytest.approx(score, abs=1e-6))
    assert len(parity.faults(TOLERANCES["FP32"])) == 1


def test_rows_that_nobody_looks_at_do_not_count():
    assert found_by(SEEN, changed(2, 0, 30)).box_px == 0


def test_where_nothing_is_seen_the_strongest_rows_count():
    silent = SEEN.clone()
    silent[..., 4] = 0.001
    moved = silent.clone()
    moved[0, 2, 1] += 4
    assert found_by(silent, moved).box_px == pytest.approx(4)
    assert "no detections" in found_by(silent, moved).line()


def test_what_only_the_copy_sees_counts_too():
    louder = SEEN.clone()
    louder[0, 2, 4] = 0.8
    parity = found_by(SEEN, louder)
    assert parity.score == pytest.approx(0.79) and (parity.matched, parity.detections) == (2, 3)


@pytest.mark.parametrize(
    ("found", "matched", "detections"),
    [
        (SEEN[:, 1:], 1, 2),  # lost
        (torch.cat((SEEN, rows([10, 60, 6, 6, 0.7, *CAT])), 1), 2, 3),  # made up
        (SEEN[..., [0, 1, 2, 3, 4, 6, 5]], 0, 4),  # other classes
        (SEEN + torch.tensor([30.0, 0, 0, 0, 0, 0, 0]), 0, 4),  # elsewhere
        (SEEN[:, 2:], 0, 2),  # nothing
    ],
    ids=["lost", "made up", "classes", "places", "nothing"],
)
def test_finished_detections_are_paired(found, matched, detections):
    parity = found_by(SEEN, found, finished=True)
    assert (parity.matched, parity.detections) == (matched, detections)
    assert any("detections differ" in fault for fault in parity.faults(TOLERANCES["FP32"]))


def test_a_detection_close_to_the_threshold_may_be_missing():
    near = rows([20, 20, 10, 10, 0.2505, *CAT])
    parity = found_by(near, rows([20, 20, 10, 10, 0.2495, *CAT]), finished=True)
    assert (parity.matched, parity.detections) == (0, 0)


def test_other_numbers_of_rows_are_compared_by_their_detections():
    parity = found_by(SEEN, SEEN[:, :2])
    assert parity.rows == 0 and parity.matched == 2


@pytest.mark.parametrize("finished", [False, True])
def test_no_number_is_beyond_every_tolerance(finished):
    parity = found_by(SEEN, SEEN * math.nan, finished)
    assert parity.faults(TOLERANCES["FP32"])


def test_a_lost_map_is_told():
    parity = Parity(images=2, map50_95=0.30, map50_95_source=0.35, map_images=7)
    assert parity.faults(TOLERANCES["INT8"]) == ["mAP50-95 falls by 0.0500 (at most 0.03)"]
    assert "mAP50-95 0.3000, -0.0500 against its source, on 7 images" in parity.line()
    assert Parity(**parity.as_facts()) == parity


def test_batches_are_filled_and_open_shapes_used():
    shapes = []

    def predict(images: Tensor) -> Tensor:
        shapes.append(tuple(images.shape))
        return SEEN.repeat(len(images), 1, 1)

    images = [np.zeros((48, 64, 3), np.uint8)] * 3
    proof = Proof(predict, images, (64, 64), 2, {0: "cat", 1: "dog"}, torch.device("cpu"))
    assert proof.of(predict, "FP32").images == 3
    assert shapes == [(2, 3, 64, 64)] * 2 + [(1, 3, 64, 64)] * 2
    shapes.clear()
    proof.of(predict, "FP32", stride=32)
    assert set(shapes) == {(1, 3, 64, 64)}
    shapes.clear()
    Proof(predict, [np.zeros((30, 64, 3), np.uint8)], (64, 64), 2, {}, torch.device("cpu")).of(
        predict, "FP32", None, 32
    )
    assert set(shapes) == {(1, 3, 32, 64)}


def test_images_are_prepared_as_for_detection(tmp_path):
    image = np.zeros((32, 64, 3), np.uint8)
    image[:] = (255, 0, 51)  # BGR
    prepared = as_input(image, (64, 64), None)
    assert prepared.shape == (1, 3, 64, 64) and prepared.dtype == np.float32 and prepared.flags.c_contiguous
    np.testing.assert_allclose(prepared[0, :, 32, 32], [0.2, 0, 1])
    np.testing.assert_allclose(prepared[0, :, 0, 0], [114 / 255] * 3)
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    cv2.imwrite(str(good), image)
    bad.write_bytes(b"no image")
    (only,) = calibration([bad, good], (64, 64), 3)()
    np.testing.assert_array_equal(only, prepared)
    with pytest.raises(UserError, match="none of the 1 images to fit INT8 to can be read"):
        list(calibration([bad], (64, 64), 3)())


def test_images_of_a_split_are_spread_over_it(tiny_dataset):
    config = load_dataset_config(str(tiny_dataset))
    names = [path.name for path in images_of_split(config, "train", 3)]
    every = [path.name for path in images_of_split(config, "train", 100)]
    assert len(every) == 8 and names == [every[0], every[4], every[7]]


def test_without_a_data_set_the_own_images_or_noise_are_used():
    assert all(image.shape[2] == 3 for image in images_to_compare([], 3))
    assert [image.shape for image in images_to_compare([], 4)] == [(480, 640, 4)] * 3
    assert images_to_compare([Path("gone.jpg")], 3)[0].shape == (480, 640, 3)


@pytest.mark.parametrize(
    ("agnostic", "most_per_class", "most"), [(False, 2, 20), (True, 20, 20), (True, 2, 5), (False, 9, 9)]
)
def test_graphs_and_sources_suppress_by_the_same_rules(agnostic, most_per_class, most):
    generator = torch.Generator().manual_seed(0)
    centres, sides = (
        torch.rand(1, 200, 2, generator=generator) * 600,
        torch.rand(1, 200, 2, generator=generator) * 90 + 10,
    )
    rows = torch.cat((centres, sides, torch.rand(1, 200, 1 + 4, generator=generator)), 2)
    settings = NmsSettings(0.3, 0.45, most_per_class, most, agnostic)
    (found,) = suppress(rows, settings)
    (wanted,) = Suppression(0.3, 0.45, most, agnostic, most_per_class)(rows)
    torch.testing.assert_close(found[: len(wanted)], wanted, rtol=0, atol=1e-3)
    assert len(wanted) > 3 and not found[len(wanted) :].any()
