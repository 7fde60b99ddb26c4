"""Suspicious boxes: pure functions of flat arrays, fast enough for millions of boxes."""

import numpy as np

from utils.boxes import xywh_to_xyxy
from utils.data.doctor.findings import Finding
from utils.data.doctor.split import Split

SMALLEST_SIDE = 2.0  # px; training drops what augmentation makes smaller
HUGE_AREA = 0.95  # of the image
BORDER = 0.01  # of the image; boxes may leave it by this much, as rounding and hasty hands bring about
SAME_IOU = 0.95  # boxes of one class that overlap more are one object
SAME_SHIFT = (1 - SAME_IOU) / (2 * SAME_IOU) + 1e-3  # of the width, and a little for rounding
SPLIT_BOXES, SPLIT_LEAVING = 10, 5  # boxes needed to judge a split, and of them such that leave the image
FILE_CORNERS, FILE_LEFT_TOP = 3, 5  # boxes needed to judge a file
CORNERS, LEFT_TOP = 1, 2


def box_findings(split: Split, image_size: int) -> list[Finding]:
    """Check the boxes of a split. Reads no file.

    Args:
        split: its labels.
        image_size: px of the long side when trained.
    """
    labels, sides = split.labels, split.sides_px(image_size)
    boxes, least = labels[:, 1:], sides.min(1, initial=np.inf)
    layout = misread_layout(boxes, split.owners, len(split.samples))
    leaving = np.where(layout == 0, distance_outside(boxes), 0)
    area, empty = boxes[:, 2] * boxes[:, 3], least <= 0
    first, second = same_boxes(labels, split.owners)
    thin = np.flatnonzero((least < SMALLEST_SIDE) & ~empty)
    huge, outside = np.flatnonzero(area > HUGE_AREA), np.flatnonzero(leaving > BORDER)
    partner = dict(zip(second.tolist(), first.tolist(), strict=True))

    def in_px(box: int) -> str:
        return f"{sides[box][0]:.3g} x {sides[box][1]:.3g} px"

    def as_written(box: int) -> str:
        return " ".join(f"{value:.4g}" for value in boxes[box])

    def overlapping(box: int) -> str:
        return f"IoU {float(overlap(boxes[[box]], boxes[[partner[box]]])[0]):.3f} with another"

    found = split.found_boxes("box-corners", np.flatnonzero(layout == CORNERS), as_written)
    found += split.found_boxes("box-left-top", np.flatnonzero(layout == LEFT_TOP), as_written)
    found += split.found_boxes("box-empty", np.flatnonzero(empty), as_written)
    found += split.found_boxes("box-tiny", thin[np.argsort(least[thin], kind="stable")], in_px)
    found += split.found_boxes("box-huge", huge[np.argsort(-area[huge], kind="stable")], in_px)
    found += split.found_boxes(
        "box-outside",
        outside[np.argsort(-leaving[outside], kind="stable")],
        lambda box: f"by {100 * leaving[box]:.1f} % of the image",
    )
    return found + split.found_boxes("box-twice", np.unique(second), overlapping)


def distance_outside(boxes: np.ndarray) -> np.ndarray:
    """Return (m,) how far (m, 4) xywh boxes in 0..1 reach over a border, as a share of the image; 0 for inside."""
    if not len(boxes):
        return np.zeros(0, np.float32)
    corners = xywh_to_xyxy(boxes)
    return np.maximum(0, np.maximum(-corners.min(1), corners.max(1) - 1))


def overlap(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """Return (m,) intersection over union of (m, 4) xywh boxes and as many others; 0 where neither has an area."""
    a, b = xywh_to_xyxy(boxes_a), xywh_to_xyxy(boxes_b)
    shared = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(min=0).prod(1)
    union = boxes_a[:, 2:].prod(1) + boxes_b[:, 2:].prod(1) - shared
    return shared / np.where(union > 0, union, 1)


def same_boxes(labels: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find boxes of one class and image that overlap by more than ``SAME_IOU``.

    The centres of such boxes are at most ``SAME_SHIFT`` widths apart in x. So with boxes sorted by image, class and
    centre, each is compared with the next one, the one after it and so on, all at once, and drops out where it meets
    one that is too far.

    Args:
        labels: (m, 5) class, x, y, width, height.
        owners: (m,) index of the image of each box.

    Returns:
        two (k,) arrays of indices; the second box of each pair comes later in ``labels``.
    """
    order = np.lexsort((labels[:, 1], labels[:, 0], owners))
    boxes, centres = labels[order, 1:], labels[order, 1]
    furthest = centres + SAME_SHIFT * labels[order, 3]
    group = np.stack([owners[order], labels[order, 0].astype(np.int64)], 1)  # (m, 2) image, class
    active, pairs, step = np.arange(len(order)), [np.zeros((0, 2), np.int64)], 1
    while len(active):
        active = active[: np.searchsorted(active, len(order) - step)]
        other = active + step
        near = (group[active] == group[other]).all(1) & (centres[other] <= furthest[active])
        active, other = active[near], other[near]
        same = overlap(boxes[active], boxes[other]) > SAME_IOU
        pairs.append(np.stack([active[same], other[same]], 1))
        step += 1
    found = np.sort(order[np.concatenate(pairs)], axis=1)  # (k, 2)
    return found[:, 0], found[:, 1]


def misread_layout(boxes: np.ndarray, owners: np.ndarray, images: int) -> np.ndarray:
    """Tell which boxes were written in other columns than centre x, centre y, width, height.

    Single boxes tell nothing. But where *all* boxes of a split or file would make sense as left, top, right, bottom
    (or as left, top, width, height), and many leave the image when they are read as centre and size, they were.

    Args:
        boxes: (m, 4) as read, in 0..1.
        owners: (m,) index of the image of each box.
        images: number of images.

    Returns:
        (m,) 0, or ``CORNERS``, or ``LEFT_TOP``.
    """
    x, y, width, height = boxes.T
    leaves = distance_outside(boxes) > BORDER
    as_corners = (width > x) & (height > y)
    in_image = (x + width <= 1 + BORDER) & (y + height <= 1 + BORDER)
    right_or_below = (x + width / 2 > 1 + BORDER) | (y + height / 2 > 1 + BORDER)
    sized, judged = in_image & ~right_or_below, len(boxes) >= SPLIT_BOXES and leaves.sum() >= SPLIT_LEAVING
    if judged and as_corners.mean() >= 0.95 and leaves.mean() >= 0.2:
        return np.full(len(boxes), CORNERS)
    if judged and sized.mean() >= 0.99 and leaves.mean() >= 0.05:
        return np.full(len(boxes), LEFT_TOP)

    def per_image(mask: np.ndarray) -> np.ndarray:
        return np.bincount(owners, mask, images)

    counts = per_image(np.ones(len(boxes)))
    many_leave = 2 * per_image(leaves) >= counts
    corners = (counts >= FILE_CORNERS) & (per_image(as_corners) == counts) & many_leave
    left_top = (counts >= FILE_LEFT_TOP) & (per_image(sized) == counts) & many_leave
    return np.where(corners, CORNERS, np.where(left_top, LEFT_TOP, 0))[owners]
