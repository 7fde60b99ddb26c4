"""How far what an exported file predicts is from what its source predicts, and how far it may be."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from utils.boxes import xywh_to_xyxy
from utils.eval.nms import non_max_suppression
from utils.overlap import pairwise_iou

Predict = Callable[[Tensor], Tensor]

WEAKEST = 0.05  # rows of a lower score become no detection that anyone looks at
STRONGEST_ROWS = 100  # of an image, compared where no row is above that
SAME_OBJECT = 0.5  # IoU from which two detections of a class are the same


@dataclass(frozen=True)
class Tolerance:
    """How far an exported file may be from its source.

    Attributes:
        box_px: corners of a box, px of the network's input. score: of a row or detection.
        missed: share of the detections that only one of the two has, rounded to a whole number of them. Where two boxes
            are as good as equal, the last digit decides which one suppression keeps.
        map_loss: mAP50-95 lost.
    """

    box_px: float
    score: float
    missed: float
    map_loss: float


# FP32 is what the project promises. The others leave about twice the room that yolov5n was measured to need on COCO128;
# with 8 bits single rows of a weak score may be anywhere, so there only the detections and the mAP count.
TOLERANCES = {
    "FP32": Tolerance(0.5, 1e-3, 0.01, 0.001),
    "FP16": Tolerance(4.0, 0.03, 0.05, 0.005),
    "INT8": Tolerance(math.inf, math.inf, 0.3, 0.03),
}
MARGIN = {"FP32": 1e-3, "FP16": 0.03, "INT8": 0.15}  # detections this close above the least score may be missing


@dataclass(frozen=True)
class Suppression:
    """How rows become the detections that are compared; detect.py's defaults, or those inside the exported graph."""

    confidence: float = 0.25
    iou: float = 0.45
    most: int = 300
    agnostic: bool = False
    most_per_class: int | None = None

    def __call__(self, predictions: Tensor) -> list[Tensor]:
        """Return (n, 6) detections of each image of (B, N, 5 + classes) rows, best first."""
        limits = (self.confidence, self.iou)
        most = self.most if self.most_per_class is None else predictions.shape[1]  # the limit a class comes first
        found = non_max_suppression(predictions, *limits, agnostic=self.agnostic, max_detections=most)
        return found if self.most_per_class is None else [self._limited(rows, self.most_per_class) for rows in found]

    def _limited(self, rows: Tensor, most_per_class: int) -> Tensor:
        """Return the best of (n, 6) detections of each class, and of these the best of all."""
        same = rows[:, None, 5] == rows[None, :, 5]  # (n, n)
        return rows[same.tril().sum(1) <= most_per_class][: self.most]


@dataclass(frozen=True)
class Parity:
    """What a comparison has found.

    Attributes:
        images: compared.
        rows: predictions compared, before suppression; 0 where the file suppresses by itself.
        box_px: the largest difference of a corner, px of the network's input. score: the largest of a score.
        detections: of both together. matched: those of the source that the exported file has, too.
        map50_95, map50_95_source: mAP of the file and of its source, on ``map_images`` images; None if not measured.
    """

    images: int = 0
    rows: int = 0
    box_px: float = 0.0
    score: float = 0.0
    detections: int = 0
    matched: int = 0
    map50_95: float | None = None
    map50_95_source: float | None = None
    map_images: int = 0

    def __add__(self, other: "Parity") -> "Parity":
        return replace(
            self,
            images=self.images + other.images,
            rows=self.rows + other.rows,
            box_px=largest(self.box_px, other.box_px),
            score=largest(self.score, other.score),
            detections=self.detections + other.detections,
            matched=self.matched + other.matched,
        )

    @property
    def map_loss(self) -> float:
        """mAP50-95 lost, 0 if it was not measured."""
        return 0.0 if None in (self.map50_95, self.map50_95_source) else self.map50_95_source - self.map50_95  # type: ignore[operator]

    def faults(self, tolerance: Tolerance) -> list[str]:
        """Return what is beyond ``tolerance``, in words."""
        missed, may_miss = self.detections - self.matched, math.floor(tolerance.missed * self.detections + 0.5)
        limits = [
            (self.box_px, tolerance.box_px, f"boxes differ by {self.box_px:.3g} px (at most {tolerance.box_px:g})"),
            (self.score, tolerance.score, f"scores differ by {self.score:.3g} (at most {tolerance.score:g})"),
            (missed, may_miss, f"{missed} of {self.detections} detections differ (at most {may_miss})"),
            (
                self.map_loss,
                tolerance.map_loss,
                f"mAP50-95 falls by {self.map_loss:.4f} (at most {tolerance.map_loss})",
            ),
        ]
        return [words for value, limit, words in limits if not value <= limit]  # NaN is beyond every limit

    def line(self) -> str:
        """Return all of it for people."""
        images = f"{self.images} image{'s' if self.images != 1 else ''}"
        parts = [f"largest difference {self.box_px:.2g} px, score {self.score:.1g}"]
        parts += [f"{self.matched} of {self.detections} detections the same" if self.detections else "no detections"]
        if self.map50_95 is not None:
            on = f"{self.map_images} images"
            parts.append(f"mAP50-95 {self.map50_95:.4f}, {0.0 - self.map_loss:+.4f} against its source, on {on}")
        return f"compared on {images}: {'; '.join(parts)}"

    def as_facts(self) -> dict[str, Any]:
        """Return the figures as values that JSON knows."""
        return asdict(self)


def largest(first: float, second: float) -> float:
    """Return the larger number; NaN if one of them is."""
    return math.nan if math.isnan(first) or math.isnan(second) else max(first, second)


def compare(
    source: Predict, exported: Predict, batches: Sequence[Tensor], suppress: Suppression, margin: float, finished: bool
) -> Parity:
    """Let both predict, and measure how far they are apart.

    Args:
        source: (B, C, H, W) images in [0, 1] to (B, N, 5 + classes), as a Backend does.
        exported: the same.
        batches: images.
        suppress: how rows become detections.
        margin: detections whose score is less than this above the least may be missing.
        finished: ``exported`` gives what suppression has left, so only detections can be compared.
    """
    total = Parity()
    for images in batches:
        expected, found = source(images).cpu(), exported(images).cpu()
        same_rows = not finished and expected.shape == found.shape
        total += _compare_rows(expected, found) if same_rows else Parity()
        for first, second in zip(suppress(expected), suppress(found), strict=True):
            result = _compare_detections(first, second, suppress.confidence + margin)
            total += result if not same_rows else replace(result, box_px=0.0, score=0.0)
        total = replace(total, images=total.images + len(images))
    return total


def _compare_rows(expected: Tensor, found: Tensor) -> Parity:
    """Compare (B, N, 5 + classes) rows that stand for the same places, where one of the two sees anything."""
    scores, other = expected[..., 5:] * expected[..., 4:5], found[..., 5:] * found[..., 4:5]  # (B, N, classes)
    best = torch.maximum(scores.amax(2), other.nan_to_num(1).amax(2))  # (B, N)
    chosen = best > WEAKEST
    if not chosen.any():
        chosen = best >= best.topk(min(STRONGEST_ROWS, best.shape[1]), 1).values[:, -1:]
    boxes = (xywh_to_xyxy(expected[..., :4]) - xywh_to_xyxy(found[..., :4]))[chosen]  # (n, 4)
    return Parity(
        rows=int(chosen.sum()),
        box_px=boxes.abs().max().item(),
        score=(scores - other)[chosen].abs().max().item(),
    )


def _compare_detections(expected: Tensor, found: Tensor, sure: float) -> Parity:
    """Pair (n, 6) with (m, 6) detections, best first; only those of a score from ``sure`` on have to have a partner."""
    overlap = pairwise_iou(expected[:, :4], found[:, :4]) * (expected[:, None, 5] == found[None, :, 5])  # (n, m)
    partner_of: dict[int, int] = {}
    free = torch.ones(len(found), dtype=torch.bool)
    for index in range(len(expected) if len(found) else 0):
        value, column = (overlap[index] * free).max(0)
        if value >= SAME_OBJECT:
            partner_of[index] = int(column)
            free[column] = False
    wanted = int((expected[:, 4] >= sure).sum())
    extra = int((free & (found[:, 4] >= sure)).sum())
    matched = sum(float(expected[index, 4]) >= sure for index in partner_of)
    pairs = expected[list(partner_of), :5] - found[list(partner_of.values()), :5]  # (pairs, 5)
    return Parity(
        box_px=pairs[:, :4].abs().max().item() if len(pairs) else 0.0,
        score=pairs[:, 4].abs().max().item() if len(pairs) else 0.0,
        detections=wanted + extra,
        matched=matched,
    )
