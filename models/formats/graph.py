"""The network as it is exported: one tensor in, one tensor out."""

from collections.abc import Iterable
from itertools import chain
from typing import cast

import torch
from torch import Tensor, nn

from models.formats.backend import OBJECTNESS
from models.formats.settings import NmsSettings
from models.yolo import Detect, Model
from utils.boxes import xywh_to_xyxy

CANDIDATES = 512  # best-scored rows of one image that take part in a suppression inside a graph
ROUNDS = 16  # of a suppression inside a graph; even, see _survivors
MIN_SIDE, MAX_SIDE = 2.0, 7680.0  # px; boxes with a side outside this range are dropped, as outside a graph
IOU_UNIT = 64.0  # px; areas in its square fit FP16, and dividing by a power of two loses nothing


class ExportGraph(nn.Module):
    """A fused model with a single output, with suppression behind it if wanted.

    Args:
        model: fused, in evaluation mode.
        nms: settings of the suppression, or None.
    """

    def __init__(self, model: Model, nms: NmsSettings | None = None) -> None:
        super().__init__()
        self.model = model
        self.nms = nms

    def forward(self, images: Tensor) -> Tensor:
        """Predict from (B, C, H, W) images in [0, 1].

        Returns:
            (B, N, 5 + classes) as Detect decodes it; with ``nms`` (B, n, 6) detections, n = ``nms.most``: left, top,
            right, bottom in px of the input, score, class; best first, filled up with rows of zeros.
        """
        decoded = self.model(images)[0]
        return decoded if self.nms is None else suppress(decoded, self.nms)


class LevelGraph(nn.Module):
    """An ExportGraph without suppression that also gives what a few boxes can be computed from, see levels.py.

    Args:
        model: fused, in evaluation mode; its head is replaced.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        model.model[-1] = _CellwiseHead(model.detect)
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the table of ExportGraph, then of each level cells, objectness, weights and biases; see Level."""
        table, levels = self.model(images)
        return table, *chain.from_iterable(levels)


class _CellwiseHead(nn.Module):
    """Detect, with matrix products for its 1x1 convolutions: their outputs are in the order that boxes have."""

    def __init__(self, detect: Detect) -> None:
        super().__init__()
        self.detect = detect

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        anchors, outputs = self.detect.na, self.detect.no
        raw: list[Tensor] = []
        levels: list[tuple[Tensor, ...]] = []
        for convolution, x in zip(cast(Iterable[nn.Conv2d], self.detect.m), maps, strict=True):
            batch, _, rows, columns = x.shape
            cells = x.flatten(2).transpose(1, 2)  # (B, cells, C)
            weights, biases = convolution.weight[:, :, 0, 0], cast(Tensor, convolution.bias)
            logits = nn.functional.linear(cells, weights, biases)
            raw.append(logits.view(batch, rows, columns, anchors, outputs).permute(0, 3, 1, 2, 4))
            objectness = nn.functional.linear(cells, weights[OBJECTNESS::outputs], biases[OBJECTNESS::outputs])
            by_row = objectness.view(
                batch, rows, columns, anchors
            )  # tells the columns; OpenVINO is slow with such cells
            levels.append((cells, by_row, weights.view(anchors, outputs, -1), biases.view(anchors, outputs)))
        return self.detect.decode(raw), levels


def suppress(decoded: Tensor, settings: NmsSettings) -> Tensor:
    """Greedy suppression in operations that every format has; see ExportGraph for the result.

    Each row counts with its best class, as in ``non_max_suppression``, whose detections it gives as long as no more
    than ``CANDIDATES`` rows of an image are above the confidence and no chain of boxes, each overlapping the next, is
    longer than ``ROUNDS``; on longer chains a few boxes too many stay. Equal scores are in any order.

    Args:
        decoded: (B, N, 5 + classes) centre x, y, width, height in px, objectness and class scores in 0..1.
        settings: see there.
    """
    count = max(CANDIDATES, settings.most)
    boxes, objectness, classes = decoded.split((4, 1, decoded.shape[-1] - 5), -1)
    best, label = classes.max(-1, keepdim=True)  # (B, N, 1)
    score = best * objectness
    sides = boxes[..., 2:4]
    usable = (score > settings.confidence) & ((sides >= MIN_SIDE) & (sides <= MAX_SIDE)).all(-1, keepdim=True)
    score = score * usable.to(score.dtype)
    rows = torch.cat((xywh_to_xyxy(boxes), score, label.to(score.dtype)), -1)  # (B, N, 6)
    rows = _best_rows(nn.functional.pad(rows, (0, 0, 0, count)), count)  # small images have fewer rows
    kept = _survivors(rows, settings)  # (B, count) 1 or 0
    return _best_rows(rows * kept.unsqueeze(-1), settings.most)


def _best_rows(rows: Tensor, count: int) -> Tensor:
    """Return the (B, count, 6) rows with the best scores, best first, of (B, N, 6)."""
    index = rows[..., 4].topk(count).indices
    return rows.gather(1, index.unsqueeze(-1).expand(-1, -1, 6))


def _survivors(rows: Tensor, settings: NmsSettings) -> Tensor:
    """Tell which of (B, n, 6) rows, best first, survive: (B, n), 1 or 0.

    A row survives unless it overlaps a better survivor. Starting from "all survive", every round of this rule settles
    one more link of each chain. Before that, an even number of rounds leaves some rows too many, an odd one too few:
    what is too much a second suppression removes, so the number is even.
    """
    boxes, scores, labels = rows.split((4, 1, 1), -1)
    rank = torch.ones_like(scores).cumsum(1)  # (B, n, 1); unlike arange, a trace of it fits every device
    better = (rank.transpose(1, 2) < rank).to(rows.dtype)  # (B, n, n): column is better than row
    rival = better if settings.agnostic else better * (labels.transpose(1, 2) == labels).to(rows.dtype)
    overlaps = rival * _overlap(boxes / IOU_UNIT, settings.iou).to(rows.dtype)
    valid = (scores > 0).to(rows.dtype)  # (B, n, 1)
    kept = valid
    for _ in range(ROUNDS):
        kept = valid * (overlaps @ kept < 0.5).to(rows.dtype)
    if settings.most_per_class < settings.most:
        same_class = better * (labels.transpose(1, 2) == labels).to(rows.dtype)
        kept = kept * (same_class @ kept < settings.most_per_class - 0.5).to(rows.dtype)
    return kept.squeeze(-1)


def _overlap(boxes: Tensor, iou: float) -> Tensor:
    """Tell which of (B, n, 4) left, top, right, bottom overlap by more than ``iou``: (B, n, n) bool."""
    low, high = boxes.split(2, -1)  # (B, n, 2)
    shared = (
        torch.minimum(high.unsqueeze(1), high.unsqueeze(2)) - torch.maximum(low.unsqueeze(1), low.unsqueeze(2))
    ).relu()
    shared = shared[..., 0] * shared[..., 1]  # (B, n, n)
    area = (high - low)[..., 0:1] * (high - low)[..., 1:2]  # (B, n, 1)
    return shared > iou * (area + area.transpose(1, 2) - shared)
