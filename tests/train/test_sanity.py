"""What can be told about a run early."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from utils.data.samples import Sample
from utils.train.assign import assign_targets
from utils.train.header import describe_run
from utils.train.hyperparameters import Hyperparameters
from utils.train.sanity import Progress, check_batch, count_classes, explain_zero_map

STRIDES = [8.0, 16.0, 32.0]
PIXELS = torch.tensor([[[10, 13], [16, 30]], [[30, 61], [62, 45]], [[116, 90], [156, 198]]])
ANCHORS = PIXELS / torch.tensor(STRIDES)[:, None, None]
SHAPE = (2, 3, 128, 256)
GOOD = (0, 1, 0.5, 0.5, 0.15, 0.3)  # 38 x 38 px
TINY = (1, 0, 0.3, 0.3, 1.5 / 256, 0.1)
LONG = (1, 0, 0.5, 0.5, 0.9, 2.5 / 128)  # 230 x 2.5 px, like no anchor


def check(*boxes: tuple[float, ...]):
    return check_batch(torch.tensor(boxes).reshape(-1, 6), SHAPE, ANCHORS, STRIDES, 4.0)


@pytest.mark.parametrize(
    ("boxes", "labels", "matched", "tiny", "warnings"),
    [
        ((), 0, 0, 0, ["no labels in the first batch"]),
        ((GOOD, GOOD), 2, 2, 0, []),
        ((GOOD,) * 4 + (LONG,), 5, 4, 0, []),  # 20 % are not more than 20 %
        ((GOOD,) * 3 + (LONG,), 4, 3, 0, ["no anchor matches 25 %"]),
        ((GOOD,) * 9 + (TINY,), 10, 9, 1, ["1 of 10 boxes"]),
        ((LONG, TINY), 2, 0, 1, ["no anchor matches 100 %", "1 of 2 boxes"]),
    ],
)
def test_a_batch_is_seen_with_the_eyes_of_the_loss(boxes, labels, matched, tiny, warnings):
    found = check(*boxes)
    assert (found.labels, found.matched, found.tiny) == (labels, matched, tiny)
    assert len(found.warnings()) == len(warnings)
    assert all(text.startswith(start) for text, start in zip(found.warnings(), warnings, strict=True))


def test_positives_are_those_of_the_loss():
    targets = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))
    found = check_batch(targets, SHAPE, ANCHORS, STRIDES, 4.0)
    expected = assign_targets(targets, [(16, 32), (8, 16), (4, 8)], ANCHORS, 4.0)
    assert found.positives == tuple(len(level.image) for level in expected) and min(found.positives) > 0


def test_the_line_says_all_of_it():
    assert check(GOOD, LONG).line() == (
        "First batch: 2 images of 256 x 128 px with 2 labels, 1 matched by anchors "
        "(10 + 10 + 5 positives at strides 8, 16, 32), 50.0 % by none"
    )


def test_every_warning_says_what_to_do():
    assert all(any(way in text for way in ("--noautoanchor", "--imgsz")) for text in check(LONG, TINY).warnings())


LATE = Progress(5000, 100, 1000, 2000, True, [3.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("validation", "training", "changes", "reason"),
    [
        ([0, 0], [5, 5], {"iterations_done": 1}, "the validation split has no labels"),
        ([0, 3], [5, 0], {"iterations_done": 1}, "no class that is labelled in the validation split"),
        (
            [1, 3],
            [5, 5],
            {"iterations_done": 1000},
            "warm-up is not over: it takes 1000 iterations, and an epoch has 100",
        ),
        ([1, 3], [5, 5], {"optimizer_steps": 299}, "a network that began with random weights"),
        ([1, 3], [5, 5], {"losses": [1.0, 0.9, 1.0]}, "the training loss is no lower"),
        ([1, 3], [5, 5], {"losses": [1.0, 1.0]}, None),  # too early to tell
        ([1, 3], [5, 5], {"optimizer_steps": 1, "from_scratch": False}, None),
        ([1, 3], [5, 0], {}, None),  # class 0 should be found
        ([1, 3], [5, 5], {"iterations_done": 1001}, None),
    ],
)
def test_why_map_is_0(validation, training, changes, reason):
    told = explain_zero_map(np.array(validation), np.array(training), replace(LATE, **changes))
    assert told is None if reason is None else told.startswith(reason)


def sample(*classes: int) -> Sample:
    labels = np.array([[index, 0.5, 0.5, 0.1, 0.1] for index in classes], np.float32).reshape(-1, 5)
    return Sample(Path("a.jpg"), (10, 10), labels, [])


@pytest.mark.parametrize(
    ("samples", "counts"), [([], [0, 0, 0]), ([sample()], [0, 0, 0]), ([sample(1, 1), sample(), sample(0)], [1, 2, 0])]
)
def test_boxes_of_each_class(samples, counts):
    assert count_classes(samples, 3).tolist() == counts


def test_the_header_of_a_run():
    samples = {"train": [sample(0, 0), sample()], "val": [sample(1)]}
    usual = describe_run(Hyperparameters(), samples, {0: "cat", 1: "dog"})
    assert usual == [
        "data: 2 classes; train 2 boxes in 2 images; val 1 boxes in 1 images",
        "data: no box in the training images is a dog",
        "hyp: v6.1's defaults",
    ]
    changed = describe_run(Hyperparameters(lr0=0.02, mosaic=0.0, anchors=3.0), {"train": [sample(0)]}, {0: "cat"})
    assert changed == [
        "data: 1 class; train 1 boxes in 1 images",
        "hyp: lr0=0.02 (0.01), anchors=3 (not set), mosaic=0 (1)",
    ]


def test_long_lists_of_classes_are_cut():
    lines = describe_run(Hyperparameters(), {"train": [sample(0)]}, {index: f"c{index}" for index in range(9)})
    assert lines[1] == "data: no box in the training images is a c1, c2, c3, c4, c5 and 3 more"
