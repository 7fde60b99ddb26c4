"""Non-maximum suppression: from a network's decoded rows to the detections of each image."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from utils.boxes import xywh_to_xyxy
from utils.detect.suppression import MAX_SIDE, MIN_SIDE, check_thresholds
from utils.device import one_thread
from utils.errors import not_finite

MAX_CANDIDATES = 30_000  # best-scored candidates of one image that take part
FIRST_CANDIDATES = 2_000  # as many of them are tried first, see _suppress
BLOCK = 256  # about as many candidates are compared with one another, see _survivors


@torch.no_grad()
@one_thread()  # its many small steps lose far more by waiting for threads, with loaders at work, than they gain
def non_max_suppression(
    prediction: Tensor,
    confidence: float = 0.25,
    iou: float = 0.45,
    classes: Sequence[int] | None = None,
    agnostic: bool = False,
    multi_label: bool = False,
    max_detections: int = 300,
) -> list[Tensor]:
    """Keep the best-scored boxes of each image and drop those that overlap a better one of the same class.

    Gives v6.1's detections, with one difference: v6.1 stops after ten seconds and leaves the remaining images without
    detections. Here the work is bounded by the ``MAX_CANDIDATES`` best-scored candidates of an image, so a result
    never depends on the speed of the machine.

    Args:
        prediction: (B, N, 5 + classes) rows of centre x, y, width, height in px, objectness and class probabilities
            in 0..1; float16 or float32; left unchanged.
        confidence: least score (objectness × class probability), exclusive, 0..1.
        iou: boxes of one class that overlap a better one by more than this are dropped, 0..1.
        classes: class indices to keep; all when None.
        agnostic: let boxes of different classes suppress each other.
        multi_label: make a detection of every class above ``confidence``, not only of the best class of a row.
        max_detections: most detections of one image.

    Returns:
        B tensors (n, 6) float32: left, top, right, bottom in px, score, class; best score first.

    Raises:
        UserError: a threshold is outside 0..1.
    """
    check_thresholds(confidence, iou)
    wanted = None if classes is None else torch.tensor(list(classes), device=prediction.device)
    detections = []
    for rows, likely in zip(prediction, prediction[..., 4] > confidence, strict=True):
        scored = _score(rows, likely, multi_label, wanted)
        detections.append(_suppress(scored, confidence, iou, agnostic, max_detections))
    return detections


def append_labels(prediction: Tensor, targets: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Return ``prediction`` with the ground truth as extra rows of certainty 1 (what ``--save-hybrid`` asks for).

    Args:
        prediction: (B, N, 5 + classes) rows as in `non_max_suppression`.
        targets: (n, 6) image index, class, centre x, y, width, height in 0..1 of the network input.
        size_hw: height and width of the network input in px.

    Returns:
        (B, N + most labels of one image, 5 + classes); images with fewer labels are filled with zero rows.
    """
    height, width = size_hw
    targets = targets.to(prediction.device)
    image = targets[:, 0].long()
    counts = torch.bincount(image, minlength=len(prediction))
    extra = prediction.new_zeros(len(prediction), int(counts.max()), prediction.shape[2])
    for index in range(len(prediction)):
        own = targets[image == index]
        rows = extra[index, : len(own)]
        rows[:, :4] = (own[:, 2:] * own.new_tensor([width, height, width, height])).to(rows.dtype)
        rows[:, 4] = 1
        rows.scatter_(1, own[:, 1:2].long() + 5, 1)
    return torch.cat([prediction, extra], 1)


def check_finite(prediction: Tensor, images: Sequence[str | Path]) -> None:
    """See that what a network gives are numbers; suppression would take NaN for "nothing there".

    Args:
        prediction: (B, N, 5 + classes).
        images: B files, for the message.

    Raises:
        UserError: NaN or infinite values.
    """
    if _finite(prediction):
        return
    bad = next((image for image, rows in zip(images, prediction, strict=True) if not _finite(rows)), images[0])
    raise not_finite(bad)


def _finite(values: Tensor) -> bool:
    """Tell by the sum, which is cheaper than looking at each value; FP16 sums would overflow."""
    return bool(values.sum(dtype=torch.float32).isfinite())


@dataclass(frozen=True)
class _Scored:
    """Usable rows of one image; each of their scores is a possible detection.

    Attributes:
        boxes: (m, 4) left, top, right, bottom in px.
        scores: (m, k) objectness × class probability: of every class, or k = 1 of the best; 0 for what is not wanted.
        labels: (m, k) classes of the scores.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def _score(rows: Tensor, likely: Tensor, multi_label: bool, wanted: Tensor | None) -> _Scored:
    """Score those of the (N, 5 + classes) rows that are ``likely`` ((N,) bool) and whose boxes have a usable size."""
    index = likely.nonzero().squeeze(1)
    sides = rows[index, 2:4]
    rows = rows[index[((sides >= MIN_SIDE) & (sides <= MAX_SIDE)).all(1)]].float()  # (m, 5 + classes)
    scores = (rows[:, 5:] * rows[:, 4:5]).nan_to_num_(0)  # (m, classes)
    labels = torch.arange(scores.shape[1], device=rows.device).expand_as(scores)
    if not multi_label:
        scores, labels = scores.max(1, keepdim=True)
    if wanted is not None:
        scores = scores * torch.isin(labels, wanted)
    return _Scored(xywh_to_xyxy(rows[:, :4]), scores, labels)


def _suppress(scored: _Scored, confidence: float, iou: float, agnostic: bool, max_detections: int) -> Tensor:
    """Apply greedy suppression and return at most ``max_detections`` rows (n, 6) xyxy, score, class, best first.

    Whether a candidate survives depends on better ones only, so the survivors of the best few are the first survivors
    of all. If these few give enough, they are the exact answer, and an untrained network, whose hundreds of thousands
    of candidates hardly overlap, costs little more than a trained one.
    """
    limit = FIRST_CANDIDATES
    while True:
        limit = min(limit, MAX_CANDIDATES)
        candidates = _best_candidates(scored, confidence, limit)
        kept = _survivors(candidates, iou, agnostic)
        if len(kept) >= max_detections or len(candidates) < limit or limit == MAX_CANDIDATES:
            return candidates[kept[:max_detections]]
        limit *= 4


def _survivors(candidates: Tensor, iou: float, agnostic: bool) -> Tensor:
    """Return which of the (n, 6) candidates, best first, survive: (k,) positions, rising.

    The kernel compares every survivor with all that follow it. Few of those are of its class: neighbouring classes
    are handed to it in blocks of some ``BLOCK`` candidates, moved apart within a block.
    """
    boxes, scores, labels = candidates.split((4, 1, 1), 1)
    boxes, scores, labels = (boxes if agnostic else boxes + labels * MAX_SIDE), scores[:, 0], labels[:, 0]
    if agnostic or len(candidates) <= BLOCK:
        return _kernel()(boxes, scores, iou)
    counts = torch.bincount(labels.long())  # (classes,)
    block = (counts.cumsum(0) - counts) // BLOCK  # (classes,) number of the block
    sizes = torch.bincount(block, counts.float()).long().tolist()
    parts = labels.argsort(stable=True).split(sizes)
    return torch.cat([part[_kernel()(boxes[part], scores[part], iou)] for part in parts]).sort().values


@cache
def _kernel() -> Callable[[Tensor, Tensor, float], Tensor]:
    """Return torchvision's suppression, if possible without importing torchvision, which takes as long as torch."""
    package = importlib.util.find_spec("torchvision")
    folder = Path(package.origin).parent if package and package.origin else Path()
    for library in sorted(file for file in folder.glob("_C*") if file.suffix in (".so", ".pyd")):
        try:
            torch.ops.load_library(library)
            return torch.ops.torchvision.nms
        except (OSError, AttributeError):
            continue  # of another torch, or without the operator
    return importlib.import_module("torchvision.ops").nms


def _best_candidates(scored: _Scored, confidence: float, limit: int) -> Tensor:
    """Return the ``limit`` best (n, 6) xyxy, score, class above ``confidence``, best first; equal ones in row order."""
    scores = scored.scores  # (m, k)
    rows = torch.arange(len(scores), device=scores.device)
    if len(scores) > limit:
        rows = _best_of(scores.amax(1), limit)  # the best candidates are in the rows with the best maxima
        scores = scores[rows]
    place, column = (scores > confidence).nonzero(as_tuple=True)  # (n,)
    score = scores[place, column]
    best = _best_of(score, limit)
    best = best[score[best].argsort(descending=True, stable=True)]
    row = rows[place[best]]
    return torch.cat([scored.boxes[row], score[best, None], scored.labels[row, column[best]][:, None].float()], 1)


def _best_of(values: Tensor, limit: int) -> Tensor:
    """Return where the ``limit`` greatest of the (n,) values are, rising; of equal values the first ones count."""
    if len(values) <= limit:
        return torch.arange(len(values), device=values.device)
    least = values.topk(limit, sorted=False).values.min()
    chosen = values > least
    chosen[(values == least).nonzero().squeeze(1)[: limit - int(chosen.sum())]] = True
    return chosen.nonzero().squeeze(1)
