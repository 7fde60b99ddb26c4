"""What can be told about a run early: whether its labels reach the loss, and why its mAP is 0."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from utils.data.samples import Sample, Samples
from utils.train.assign import assign_targets

SMALLEST_SIDE = 2.0  # px; nothing smaller is learned
MANY_UNMATCHED = 0.2  # share of the boxes of a batch
FEW_STEPS = 300  # optimizer steps that a network with random weights hardly finds anything before
TREND_EPOCHS = 3  # epochs before their losses say something


@dataclass(frozen=True)
class BatchCheck:
    """What a batch holds for the loss.

    Attributes:
        images: number of images. size_hw: their height and width, px.
        labels: number of boxes.
        matched: how many of these at least one anchor answers for.
        positives: matched predictions of each level.
        strides: px a cell of each level.
        tiny: boxes with a side below 2 px.
    """

    images: int
    size_hw: tuple[int, int]
    labels: int
    matched: int
    positives: tuple[int, ...]
    strides: tuple[int, ...]
    tiny: int

    @property
    def unmatched_share(self) -> float:
        """Share of the boxes that no anchor matches, 0..1."""
        return 1 - self.matched / self.labels if self.labels else 0.0

    def line(self) -> str:
        """Say all of it."""
        height, width = self.size_hw
        counts = " + ".join(map(str, self.positives))
        strides = ", ".join(map(str, self.strides))
        return (
            f"First batch: {self.images} images of {width} x {height} px with {self.labels} labels, {self.matched} "
            f"matched by anchors ({counts} positives at strides {strides}), {self.unmatched_share * 100:.1f} % by none"
        )

    def warnings(self) -> list[str]:
        """Return what is wrong, and how it is mended."""
        if not self.labels:
            return ["no labels in the first batch; if that is unexpected, look at train_batch0.jpg and the label files"]
        found = []
        if self.unmatched_share > MANY_UNMATCHED:
            found.append(
                f"no anchor matches {self.unmatched_share * 100:.0f} % of the boxes in the first batch, so they are "
                "not learned; train without --noautoanchor, or check the anchors and anchor_t of the --hyp file"
            )
        if self.tiny:
            found.append(
                f"{self.tiny} of {self.labels} boxes in the first batch have a side below {SMALLEST_SIDE:g} px at this "
                "image size, too small to be learned; choose a larger --imgsz"
            )
        return found


def check_batch(
    targets: Tensor, images_shape: Sequence[int], anchors: Tensor, strides: Sequence[float], ratio_limit: float
) -> BatchCheck:
    """Look at a batch with the eyes of the loss.

    Args:
        targets: (n, 6) image index, class, x, y, w, h; xywh in 0..1.
        images_shape: (B, C, H, W).
        anchors: (levels, anchors, 2) in grid units.
        strides: px a cell of each level.
        ratio_limit: hyperparameter anchor_t.
    """
    targets, anchors = targets.cpu().float(), anchors.cpu().float()
    height, width = images_shape[2:]
    numbered = targets.clone()
    numbered[:, 1] = torch.arange(len(targets))  # in the place of the class, which comes back from the assignment
    grids = [(height // int(stride), width // int(stride)) for stride in strides]
    assigned = assign_targets(numbered, grids, anchors, ratio_limit)
    sides = targets[:, 4:6] * targets.new_tensor([width, height])  # (n, 2) px
    return BatchCheck(
        images=images_shape[0],
        size_hw=(height, width),
        labels=len(targets),
        matched=len(torch.cat([level.classes for level in assigned]).unique()),
        positives=tuple(len(level.classes) for level in assigned),
        strides=tuple(int(stride) for stride in strides),
        tiny=int((sides < SMALLEST_SIDE).any(1).sum()),
    )


def count_classes(samples: Sequence[Sample], classes: int) -> np.ndarray:
    """Return the (classes,) number of boxes of each class."""
    return np.bincount(Samples.of(samples).labels[:, 0].astype(int), minlength=classes)


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        iterations_done: over all epochs.
        batches: iterations an epoch.
        warmup_iterations: of the schedule.
        optimizer_steps: so far.
        from_scratch: the network began with random weights.
        losses: training loss of each epoch so far.
    """

    iterations_done: int
    batches: int
    warmup_iterations: int
    optimizer_steps: int
    from_scratch: bool
    losses: Sequence[float]


def explain_zero_map(validation_counts: np.ndarray, training_counts: np.ndarray, progress: Progress) -> str | None:
    """Return why mAP is 0, as far as it is known; the same words for the same reason, whatever the epoch.

    Args:
        validation_counts: (classes,) boxes of each class in the validation split.
        training_counts: (classes,) boxes of each class in the training split.
        progress: of the run.
    """
    labelled = validation_counts > 0
    if not labelled.any():
        return "the validation split has no labels"
    if not training_counts[labelled].any():
        return "no class that is labelled in the validation split is labelled in the training split"
    if progress.iterations_done <= progress.warmup_iterations:
        return (
            f"warm-up is not over: it takes {progress.warmup_iterations} iterations, and an epoch has "
            f"{progress.batches}; --warmup auto keeps it to a quarter of the run"
        )
    if progress.from_scratch and progress.optimizer_steps < FEW_STEPS:
        return f"a network that began with random weights seldom finds anything in its first {FEW_STEPS} steps"
    losses = progress.losses
    if len(losses) >= TREND_EPOCHS and losses[-1] >= losses[0]:
        return "the training loss is no lower than in the first epoch; check the labels, and lr0 of the --hyp file"
    return None
