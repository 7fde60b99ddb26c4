"""YOLOv5's training loss: box (CIoU), objectness and class, over all levels."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.boxes import xywh_to_xyxy
from utils.overlap import element_iou
from utils.train.assign import Positives, assign_targets

BALANCE = {3: [4.0, 1.0, 0.4]}  # weight of each level's objectness, finest first
BALANCE_OTHERWISE = [4.0, 1.0, 0.25, 0.06, 0.02]
FOCAL_ALPHA = 0.25
PARTS = ("box", "obj", "cls")

Total = Callable[[Tensor], Tensor]  # sums over the processes that share a batch


class PickOutputs(torch.autograd.Function):
    """``output[index]`` and ``output[..., 4]`` in FP32 or wider, with one gradient in ``output``'s layout and format.

    Left to autograd, each would fill a tensor of its own in plain layout, to be added and transposed: 5 % of a step.
    And what was computed in half precision need not be converted as a whole.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, *index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows (n, 5 + classes) at ``index`` and all objectness logits (B, anchors, rows, columns)."""
        ctx.save_for_backward(output, *index)
        wide = torch.promote_types(output.dtype, torch.float32)
        return output[index].to(wide), output[..., 4].to(wide).contiguous()

    @staticmethod
    def backward(ctx: Any, rows: Tensor, objectness: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """Return the gradient of ``output``."""
        output, *index = ctx.saved_tensors
        gradient = torch.zeros_like(output)  # keeps the layout
        gradient[..., 4] = objectness
        gradient.index_put_(tuple(index), rows.to(output.dtype), accumulate=True)
        return gradient, *[None] * len(index)


class Criterion(Protocol):
    """A loss made of parts, as DetectionLoss is."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """Name the parts."""

    def __call__(self, outputs: list[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scalar to minimise, and the parts, detached."""


def unshared(tensor: Tensor) -> Tensor:
    """Return the sum over all processes when there is one."""
    return tensor


@dataclass
class DetectionLoss:
    """The loss of one head. Gains are those of v6.1's hyperparameters, already scaled to head and image size.

    Several processes that share a batch get the loss of the whole batch: each computes the terms of its own images and
    divides them by the counts of all, so that the gradients, summed over the processes, are those of one process.

    Attributes:
        anchors: (levels, anchors, 2) in grid units.
        classes: number of classes; the class loss is left out for one.
        strides: (levels,) pixels a cell; ``autobalance`` keeps the stride-16 level at 1.
        box_gain, objectness_gain, class_gain: hyperparameters box, obj, cls.
        objectness_positive_weight, class_positive_weight: hyperparameters obj_pw, cls_pw.
        ratio_limit: hyperparameter anchor_t.
        focal_gamma: hyperparameter fl_gamma; 0 is plain BCE (focal loss: arXiv 1708.02002).
        label_smoothing: ε; targets become 1 - ε/2 and ε/2.
        autobalance: adapt ``balance`` to the level losses, call by call.
        balance: weight of each level's objectness.
        total: sums a tensor over the processes that share each batch.
    """

    anchors: Tensor
    classes: int
    strides: list[float]
    box_gain: float
    objectness_gain: float
    class_gain: float
    objectness_positive_weight: float = 1.0
    class_positive_weight: float = 1.0
    ratio_limit: float = 4.0
    focal_gamma: float = 0.0
    label_smoothing: float = 0.0
    autobalance: bool = False
    balance: list[float] = field(default_factory=list)
    total: Total = unshared
    part_names: ClassVar[tuple[str, ...]] = PARTS

    def __post_init__(self) -> None:
        levels = len(self.anchors)
        if not self.balance:
            self.balance = BALANCE.get(levels, BALANCE_OTHERWISE)[:levels]

    def __call__(self, outputs: list[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch.

        Args:
            outputs: per level, raw (B, anchors, rows, columns, 5 + classes), in FP32, FP16 or BF16.
            targets: (n, 6) image index, class, x, y, w, h; xywh in [0, 1] of the input. Best on the CPU: they are
                matched where they are, and on a GPU that would wait for everything queued before.

        Returns:
            The scalar to minimise (a sum over the batch, as in v6.1) and the detached parts (3,): box, objectness,
            class; each times its gain, as a mean over the batch. With several processes both are this one's share.
        """
        device, images = outputs[0].device, outputs[0].shape[0]
        grids = [(output.shape[2], output.shape[3]) for output in outputs]
        assigned = assign_targets(targets, grids, self.anchors.to(targets.device), self.ratio_limit)
        counts = torch.tensor([images, *(len(positives.image) for positives in assigned)], dtype=torch.float32)
        all_images, *all_positives = self.total(counts)
        positives = [found.to(device) for found in assigned]
        picked = [
            PickOutputs.apply(output, found.image, found.anchor, found.row, found.column)
            for output, found in zip(outputs, positives, strict=True)
        ]
        # The positives of all levels at once: many small operations cost more than a few large ones. Weighted so, a
        # sum over all of them is the sum of the means over each level.
        predicted = torch.cat([rows for rows, _ in picked])  # (n, 5 + classes)
        shares = [(1 / total).expand(len(found.image)) for total, found in zip(all_positives, assigned, strict=True)]
        weight = torch.cat(shares).to(device, non_blocking=True)  # (n,)
        boxes, anchors = (torch.cat([getattr(found, name) for found in positives]) for name in ("box", "anchor_wh"))
        overlap = box_overlap(predicted, boxes, anchors)  # (n,)
        box = ((1 - overlap) * weight).sum()
        classification = self._class_loss(predicted[:, 5:], torch.cat([found.classes for found in positives]), weight)
        logits = [objectness for _, objectness in picked]
        objectness = self._objectness_loss(logits, positives, overlap.detach(), images / all_images)
        parts = torch.stack((box * self.box_gain, objectness * self.objectness_gain, classification * self.class_gain))
        return parts.sum() * all_images, parts.detach()

    def _objectness_loss(
        self, logits: list[Tensor], positives: list[Positives], overlap: Tensor, share: Tensor
    ) -> Tensor:
        """Return the weighted sum over the levels; balance the weights if that is asked for.

        Args:
            logits: per level (B, anchors, rows, columns).
            positives: per level.
            overlap: (n,) of the positives of all levels; they are to predict it.
            share: of the images of all processes.
        """
        loss = torch.zeros((), device=overlap.device)
        overlaps = overlap.clamp(min=0).split([len(found.image) for found in positives])
        for level, (level_logits, found) in enumerate(zip(logits, positives, strict=True)):
            wanted = torch.zeros_like(level_logits)
            wanted[found.image, found.anchor, found.row, found.column] = overlaps[level].to(wanted.dtype)
            level_loss = self._binary_loss(level_logits, wanted, self.objectness_positive_weight).mean() * share
            loss = loss + level_loss * self.balance[level]
            if self.autobalance:
                self.balance[level] = self.balance[level] * 0.9999 + 0.0001 / self.total(level_loss.detach()).item()
        if self.autobalance:
            middle = self.balance[self.strides.index(16.0)]
            self.balance = [value / middle for value in self.balance]
        return loss

    def _class_loss(self, logits: Tensor, classes: Tensor, weight: Tensor) -> Tensor:
        """Return the weighted sum over n positives of their means over the classes."""
        if self.classes == 1:
            return torch.zeros((), device=logits.device)
        wanted = torch.full_like(logits, 0.5 * self.label_smoothing)
        wanted[torch.arange(len(classes), device=classes.device), classes] = 1 - 0.5 * self.label_smoothing
        return (self._binary_loss(logits, wanted, self.class_positive_weight).mean(1) * weight).sum()

    def _binary_loss(self, logits: Tensor, wanted: Tensor, positive_weight: float) -> Tensor:
        """Binary cross-entropy of each logit, focal when ``focal_gamma`` says so."""
        weight = None if positive_weight == 1.0 else logits.new_full((), positive_weight)
        loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight, reduction="none")
        if self.focal_gamma <= 0:
            return loss
        probability = logits.sigmoid()
        correct = wanted * probability + (1 - wanted) * (1 - probability)
        alpha = wanted * FOCAL_ALPHA + (1 - wanted) * (1 - FOCAL_ALPHA)
        return loss * alpha * (1 - correct) ** self.focal_gamma


def box_overlap(predicted: Tensor, boxes: Tensor, anchor_wh: Tensor) -> Tensor:
    """Return the (n,) CIoU of predicted and assigned boxes.

    Args:
        predicted: (n, 5 + classes) logits at the assigned cells.
        boxes: (n, 4) what they were assigned: x, y relative to the cell's corner, w, h; in grid units.
        anchor_wh: (n, 2) in grid units.
    """
    scores = predicted[:, :4].sigmoid()
    xy = scores[:, :2] * 2 - 0.5
    wh = (scores[:, 2:] * 2) ** 2 * anchor_wh
    return element_iou(xywh_to_xyxy(torch.cat((xy, wh), 1)), xywh_to_xyxy(boxes), "ciou")
