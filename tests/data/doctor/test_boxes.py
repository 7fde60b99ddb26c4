"""Checks of boxes in flat arrays, against plain loops and on all kinds of input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from utils.data.doctor.boxes import (
    CORNERS,
    LEFT_TOP,
    SAME_IOU,
    box_findings,
    distance_outside,
    misread_layout,
    overlap,
    same_boxes,
)
from utils.data.doctor.split import Split
from utils.data.samples import Ragged, Samples, Texts

NO_BOXES = np.zeros((0, 4), np.float32)
FRACTIONS = st.floats(0, 1, width=32)


def split_of(labels: np.ndarray, counts: list[int]) -> Split:
    images = Texts.of(f"/set/images/{index}.jpg" for index in range(len(counts)))
    boxes = Ragged(labels.astype(np.float32), np.array(counts, np.int64))
    no_points = Ragged.of([], 2)
    sizes = np.full((len(counts), 2), (480, 640), np.int32)
    return Split("train", Samples.from_counts(images, sizes, boxes, np.zeros(len(counts), np.int64), no_points))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0.5, 0.5, 1, 1), 0),
        ((0.5, 0.5, 0.2, 0.2), 0),
        ((0.05, 0.5, 0.2, 0.2), 0.05),
        ((0.5, 0.95, 0.2, 0.2), 0.05),
        ((0, 0, 1, 1), 0.5),
    ],
)
def test_how_far_a_box_leaves_its_image(box, expected):
    assert distance_outside(np.array([box], np.float32)) == pytest.approx(expected, abs=1e-6)


def test_no_boxes_at_all():
    assert len(distance_outside(NO_BOXES)) == 0
    assert len(misread_layout(NO_BOXES, np.zeros(0, np.int64), 3)) == 0
    assert box_findings(split_of(np.zeros((0, 5)), [0, 0]), 640) == []
    assert box_findings(split_of(np.zeros((0, 5)), []), 640) == []


def clusters(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 60 labels, many of them nearly the same, and the images they are on."""
    generator = np.random.default_rng(seed)
    centres = generator.uniform([0.3, 0.3, 0.05, 0.05], [0.7, 0.7, 0.5, 0.5], (12, 4))
    boxes = centres[generator.integers(12, size=60)] * generator.uniform(0.985, 1.015, (60, 4))
    labels = np.concatenate([generator.integers(2, size=(60, 1)), boxes], 1).astype(np.float32)
    return labels, np.sort(generator.integers(3, size=60))


@pytest.mark.parametrize("seed", range(5))
def test_same_boxes_are_those_that_a_plain_loop_finds(seed):
    labels, owners = clusters(seed)
    first, second = same_boxes(labels, owners)
    expected = {
        (one, other)
        for one in range(60)
        for other in range(one + 1, 60)
        if owners[one] == owners[other]
        and labels[one, 0] == labels[other, 0]
        and overlap(labels[[one], 1:], labels[[other], 1:])[0] > SAME_IOU
    }
    assert len(expected) >= 5
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == sorted(expected)


def random_boxes(count: int, seed: int = 0) -> np.ndarray:
    """Return (count, 4) xywh boxes inside the image, from small ones to large ones."""
    generator = np.random.default_rng(seed)
    sides = generator.uniform(0.02, 0.6, (count, 2))
    return np.concatenate([generator.uniform(sides / 2, 1 - sides / 2), sides], 1)


def as_corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)


def as_left_top(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], 1)


@pytest.mark.parametrize(
    ("write", "expected"), [(lambda boxes: boxes, 0), (as_corners, CORNERS), (as_left_top, LEFT_TOP)]
)
@pytest.mark.parametrize("seed", range(5))
def test_columns_of_a_split_are_told_by_all_of_its_boxes(write, expected, seed):
    boxes = write(random_boxes(200, seed))
    layout = misread_layout(boxes, np.repeat(np.arange(50), 4), 50)
    assert set(layout.tolist()) == {expected}


def test_one_file_in_other_columns_among_many():
    boxes, owners = random_boxes(500), np.repeat(np.arange(50), 10)
    boxes[owners == 7] = as_corners(boxes[owners == 7])
    layout = misread_layout(boxes, owners, 50)
    assert set(layout[owners == 7].tolist()) == {CORNERS}
    assert not layout[owners != 7].any()


def test_boxes_drawn_over_the_border_are_no_sign_of_other_columns():
    """A careless hand leaves the image on every side."""
    generator = np.random.default_rng(1)
    sides = generator.uniform(0.1, 0.5, (300, 2))
    boxes = np.concatenate([generator.uniform(0, 1, (300, 2)), sides], 1)
    assert (distance_outside(boxes) > 0.01).mean() > 0.3
    assert not misread_layout(boxes, np.repeat(np.arange(60), 5), 60).any()


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, st.tuples(st.integers(0, 25), st.just(5)), elements=FRACTIONS), st.integers(1, 6))
def test_any_boxes_are_judged_without_a_warning(labels, images):
    labels[:, 0] = np.floor(labels[:, 0] * 3)
    owners = np.sort(np.arange(len(labels)) % images)
    split = split_of(labels, np.bincount(owners, minlength=images).tolist())
    with np.errstate(all="raise", under="ignore"):
        found = box_findings(split, 640)
    for finding in found:
        assert 0 < finding.count <= len(labels) and len(finding.examples) <= finding.count
        for example in finding.examples:
            (picture,) = example.pictures
            assert np.array_equal(picture.labels[list(picture.marked)], example.rows)
