"""Tell whether the head's anchors suit the boxes of a data set, and find better ones if not (v6.1's AutoAnchor)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from utils.data.samples import Sample, Samples
from utils.log import LOGGER, progress

if TYPE_CHECKING:
    from models.yolo import Detect

GOOD_RECALL = 0.98  # anchors that reach more boxes than this are left alone
LEAST_SIDE = 2.0  # px; no anchor side is shorter, and boxes with both sides shorter take no part in the search
SMALL_SIDE = 3.0  # px; boxes with a shorter side get a warning
MOST_BOXES = 100_000  # a search looks at this many, drawn at random; more would change nothing but the time it takes
CLUSTER_ITERATIONS = 30
MUTATION_SHARE, MUTATION_SCALE, MUTATION_RANGE = 0.9, 0.1, (0.3, 3.0)


@dataclass(frozen=True)
class AnchorFit:
    """How well anchors suit boxes: a box and an anchor fit when neither side differs by ``ratio_limit`` or more.

    Attributes:
        recall: share of the boxes that some anchor fits, 0..1 ("best possible recall"); 1 without boxes.
        per_box: mean number of anchors that fit a box ("anchors above threshold"); 0 without boxes.
        count: number of anchors.
    """

    recall: float
    per_box: float
    count: int

    def __str__(self) -> str:
        share = f"{100 * self.recall:.1f} %"
        return f"{self.per_box:.2f} of {self.count} anchors fit a box on average, {share} of boxes have one"


def measure_anchors(sizes_wh: np.ndarray, anchors: np.ndarray, ratio_limit: float) -> AnchorFit:
    """Compare boxes with anchors.

    Args:
        sizes_wh: (n, 2) widths and heights of boxes in px at training size.
        anchors: (k, 2) widths and heights in px, above 0.
        ratio_limit: hyperparameter ``anchor_t``.
    """
    if len(sizes_wh) == 0:
        return AnchorFit(1.0, 0.0, len(anchors))
    closeness = np.ones((len(sizes_wh), len(anchors)), sizes_wh.dtype)  # (n, k) the worse side's ratio, 0..1
    for axis in (0, 1):
        side, anchor = sizes_wh[:, axis, None], anchors[None, :, axis]
        np.minimum(closeness, np.minimum(side, anchor) / np.maximum(side, anchor), out=closeness)
    fits = closeness > 1 / ratio_limit
    return AnchorFit(float(fits.any(1).mean()), float(fits.sum(1).mean()), len(anchors))


def box_sizes(samples: Sequence[Sample], image_size: int, generator: np.random.Generator | None = None) -> np.ndarray:
    """Return (n, 2) widths and heights of all boxes in px, with the long side of every image at ``image_size``.

    Args:
        samples: images and labels.
        image_size: px.
        generator: if given, every image is taken 0.9 to 1.1 times as large, as v6.1 does before it measures.
    """
    stored = Samples.of(samples)
    scales = np.ones(len(stored)) if generator is None else generator.uniform(0.9, 1.1, len(stored))
    images_wh = stored.sizes_hw[:, ::-1].astype(np.float64)
    resized_wh = scales[:, None] * image_size * images_wh / images_wh.max(1, keepdims=True)
    return stored.labels[:, 3:5] * np.repeat(resized_wh, stored.label_counts, 0)


def find_anchors(
    sizes_wh: np.ndarray,
    count: int,
    image_size: int,
    ratio_limit: float,
    generator: np.random.Generator,
    generations: int = 1000,
) -> np.ndarray:
    """Search the anchors that suit the boxes best: k-means, then v6.1's genetic refinement.

    Args:
        sizes_wh: (n, 2) widths and heights of boxes in px at training size; n may be 0.
        count: number of anchors wanted.
        image_size: px; the anchors are spread over it at random when there are no boxes.
        ratio_limit: hyperparameter ``anchor_t``.
        generator: source of all random draws.
        generations: number of mutations tried.

    Returns:
        (count, 2) widths and heights in px, from the smallest area to the largest.
    """
    sizes = sizes_wh[(sizes_wh >= LEAST_SIDE).any(1)]
    if len(sizes) == 0:
        return _by_area(np.maximum(generator.uniform(0, image_size, (count, 2)), LEAST_SIDE))
    if len(sizes) > MOST_BOXES:
        sizes = generator.choice(sizes, MOST_BOXES, replace=False)
    anchors = np.maximum(_starting_anchors(sizes, count, generator), LEAST_SIDE)
    return _by_area(_refine(anchors, sizes, ratio_limit, generator, generations))


def fit_anchors(head: "Detect", samples: Sequence[Sample], image_size: int, ratio_limit: float, seed: int) -> None:
    """Replace the head's anchors if they miss more than 2 % of the boxes and a search finds better ones; log which.

    Args:
        head: its strides are known; ``anchors`` is changed in place.
        samples: the training split.
        image_size: px.
        ratio_limit: hyperparameter ``anchor_t``.
        seed: of the search.
    """
    generator = np.random.default_rng(seed)
    sizes = box_sizes(samples, image_size, generator)
    if len(sizes) == 0:
        LOGGER.info("anchors: no boxes to fit them to; those of the model are kept")
        return
    strides = np.array(head.strides)[:, None, None]
    present = measure_anchors(sizes, (head.anchors.cpu().double().numpy() * strides).reshape(-1, 2), ratio_limit)
    if present.recall > GOOD_RECALL:
        LOGGER.info(f"anchors: {present}; they are kept")
        return
    plain_sizes = box_sizes(samples, image_size)
    _warn_of_small_boxes(plain_sizes, image_size)
    found = find_anchors(plain_sizes, head.nl * head.na, image_size, ratio_limit, generator)
    fit = measure_anchors(sizes, found, ratio_limit)
    if fit.recall > present.recall:
        place_anchors(head, found)
        before = f"with those of the model {present.per_box:.2f} and {100 * present.recall:.1f} %"
        LOGGER.info(f"anchors: replaced by ones fitted to the data set: {fit} ({before}; --noautoanchor keeps them)")
    else:
        LOGGER.info(f"anchors: {present}; a search found no better ones, they are kept (--noautoanchor skips it)")


def place_anchors(head: "Detect", anchors: np.ndarray) -> None:
    """Store (levels * anchors, 2) px in the head: the smallest at the level of the smallest stride, and so on."""
    levels = _by_area(anchors).reshape(head.nl, head.na, 2)
    for group, level in zip(levels, np.argsort(head.strides, kind="stable"), strict=True):
        head.anchors[level].copy_(torch.from_numpy(group / head.strides[level]))  # grid units


def _warn_of_small_boxes(sizes_wh: np.ndarray, image_size: int) -> None:
    small = int((sizes_wh < SMALL_SIDE).any(1).sum())
    if small:
        LOGGER.warning(
            f"WARNING: {small} of {len(sizes_wh)} boxes have a side below {SMALL_SIDE:g} px at --imgsz {image_size}, "
            "too small to learn from; use a larger --imgsz"
        )


def _by_area(anchors: np.ndarray) -> np.ndarray:
    return anchors[np.argsort(anchors.prod(1), kind="stable")]


def _starting_anchors(sizes: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return (count, 2) cluster centres; with too few different boxes, those and random relatives of them."""
    distinct = np.unique(sizes, axis=0)
    if len(distinct) >= count:
        return _cluster(sizes, count, generator)
    relatives = generator.choice(distinct, count - len(distinct))
    return np.concatenate((distinct, relatives * generator.uniform(0.5, 2.0, relatives.shape)))


def _cluster(sizes: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return the (count, 2) centres that k-means finds; both sides are scaled to the same spread meanwhile.

    OpenCV would draw the start from its global generator; given first labels, it draws nothing.
    """
    spread = sizes.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    points = (sizes / spread).astype(np.float32)
    labels = _first_labels(points, count, generator)
    stop = (cv2.TERM_CRITERIA_MAX_ITER, CLUSTER_ITERATIONS, 0.0)
    _, _, centres = cv2.kmeans(points, count, labels, stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return np.asarray(centres, np.float64) * spread


def _first_labels(points: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Return (n, 1) int32 indices of the nearest of ``count`` seeds, drawn far apart (k-means++, Arthur 2007)."""
    labels = np.zeros((len(points), 1), np.int32)
    nearest = np.full(len(points), np.inf)  # squared distance to the nearest seed so far
    seed = int(generator.integers(len(points)))
    for label in range(count):
        distance = ((points - points[seed]) ** 2).sum(1, dtype=np.float64)
        labels[distance < nearest] = label
        nearest = np.minimum(nearest, distance)
        if nearest.any():  # else all are seeds, which float32 brings about where sizes hardly differ
            seed = int(generator.choice(len(points), p=nearest / nearest.sum()))
    return labels


def _refine(
    anchors: np.ndarray, sizes: np.ndarray, ratio_limit: float, generator: np.random.Generator, generations: int
) -> np.ndarray:
    """Return the fittest of ``anchors`` and ``generations`` mutations, each one of the fittest so far."""
    log_sizes = np.log(np.maximum(sizes, 1e-6)).astype(np.float32)  # logarithms turn ratios into differences
    widths, heights = np.ascontiguousarray(log_sizes.T)
    limit = np.log(ratio_limit)

    def fitness(candidate: np.ndarray) -> float:
        """Return the mean closeness (0..1) of boxes and their best anchors; boxes that none fits count 0."""
        logs = np.log(candidate).astype(np.float32)
        apart = np.full(len(sizes), np.inf, np.float32)
        for width, height in logs:  # a box's difference from an anchor is that of its worse side
            np.minimum(apart, np.maximum(abs(widths - width), abs(heights - height)), out=apart)
        return float(np.where(apart < limit, np.exp(-apart), 0).mean(dtype=np.float64))

    best = fitness(anchors)
    for _ in progress(range(generations), "anchors"):
        candidate = np.maximum(anchors * _mutation(anchors.shape, generator), LEAST_SIDE)
        value = fitness(candidate)
        if value > best:
            anchors, best = candidate, value
    return anchors


def _mutation(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Return factors around 1, at least one of them another; how far they spread is drawn, too."""
    while True:
        strength = MUTATION_SCALE * generator.random()
        chosen = generator.random(shape) < MUTATION_SHARE
        factors = np.clip(chosen * strength * generator.standard_normal(shape) + 1, *MUTATION_RANGE)
        if (factors != 1).any():
            return factors
