"""Non-maximum suppression: from a network's decoded rows to the detections of each image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import nms

from utils.boxes import xywh_to_xyxy
from utils.errors import UserError

MIN_SIDE, MAX_SIDE = 2.0, 7680.0  # px; v6.1 drops boxes with a side outside this range
MAX_CANDIDATES = 30_000  # best-scored candidates of one image that take part
FIRST_PREFIX = 2_000  # candidates tried first, see _suppress


@torch.no_grad()
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
    _check_threshold("confidence (--conf-thres)", confidence)
    _check_threshold("IoU (--iou-thres)", iou)
    sides = prediction[..., 2:4]
    usable = (prediction[..., 4] > confidence) & ((sides >= MIN_SIDE) & (sides <= MAX_SIDE)).all(-1)  # (B, N)
    detections = []
    for rows, mask in zip(prediction, usable, strict=True):
        found = _candidates(rows[mask].float(), confidence, multi_label)
        if classes is not None:
            found = found[(found[:, 5:6] == found.new_tensor(list(classes))).any(1)]
        detections.append(_suppress(_best_first(found), iou, agnostic, max_detections))
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


def _check_threshold(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"{name} threshold is {value}, expected a number from 0 to 1")


def _candidates(rows: Tensor, confidence: float, multi_label: bool) -> Tensor:
    """Turn (m, 5 + classes) rows into (n, 6) xyxy, score, class with a score above ``confidence``."""
    scores = rows[:, 5:] * rows[:, 4:5]  # (m, classes)
    if multi_label and scores.shape[1] > 1:
        row, label = (scores > confidence).nonzero(as_tuple=True)  # (n,)
        score = scores[row, label]
    else:
        score, label = scores.max(1)
        row = (score > confidence).nonzero().squeeze(1)
        score, label = score[row], label[row]
    if len(score) > MAX_CANDIDATES:
        kept = score.topk(MAX_CANDIDATES, sorted=False).indices.sort().values  # sorted, so ties keep the row order
        row, score, label = row[kept], score[kept], label[kept]
    return torch.cat([xywh_to_xyxy(rows[row, :4]), score[:, None], label[:, None].float()], 1)


def _best_first(candidates: Tensor) -> Tensor:
    return candidates[candidates[:, 4].argsort(descending=True, stable=True)]


def _suppress(candidates: Tensor, iou: float, agnostic: bool, max_detections: int) -> Tensor:
    """Apply greedy suppression to (n, 6) candidates, best first, and return at most ``max_detections`` of them.

    Whether a candidate survives depends on better ones only, so the survivors of a prefix are the first survivors of
    the whole. A prefix that already gives enough is therefore the exact answer, and an untrained network, whose tens
    of thousands of boxes hardly overlap, does not cost quadratic time.
    """
    boxes = candidates[:, :4] if agnostic else candidates[:, :4] + candidates[:, 5:6] * MAX_SIDE
    prefix = FIRST_PREFIX
    while True:
        kept = nms(boxes[:prefix], candidates[:prefix, 4], iou)
        if len(kept) >= max_detections or prefix >= len(candidates):
            return candidates[kept[:max_detections]]
        prefix *= 4
