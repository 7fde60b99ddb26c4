"""Run a detector over a data set and measure it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from utils.boxes import scale_boxes
from utils.data.loader import Batch, normalise
from utils.device import Stopwatch
from utils.distributed import Processes
from utils.errors import UserError
from utils.eval.confusion import ConfusionMatrix
from utils.eval.metrics import ClassMetrics, ap_per_class, fitness, labels_per_image, match_detections
from utils.eval.nms import non_max_suppression
from utils.log import LOGGER, progress

Forward = Callable[[Tensor], tuple[Tensor, list[Tensor] | None]]
Criterion = Callable[[list[Tensor], Tensor], tuple[Tensor, Tensor]]

COLUMNS = ("Class", "Images", "Labels", "P", "R", "mAP@.5", "mAP@.5:.95")
MANY_CLASSES = 50  # from this number on, a table lists classes only when asked to


@dataclass(frozen=True)
class EvaluationSettings:
    """How predictions become detections.

    Attributes:
        confidence: least score, 0..1.
        iou: overlap above which suppression drops a box, 0..1.
        max_detections: most detections of one image.
        single_class: treat every prediction and label as class 0.
        device: where the network runs.
    """

    confidence: float = 0.001
    iou: float = 0.6
    max_detections: int = 300
    single_class: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


class Sink(Protocol):
    """Receives what was found in each batch, for files and pictures."""

    def write(self, batch: Batch, detections: list[Tensor], native: list[Tensor]) -> None:
        """Take one batch.

        Args:
            batch: images and targets as loaded.
            detections: B tensors (n, 6) left, top, right, bottom in px of ``batch.images``, score, class; best first.
            native: the same with boxes in px of the original images.
        """


@dataclass(frozen=True)
class Evaluation:
    """What a detector achieved on a data set.

    Attributes:
        metrics: results of the classes that have labels.
        names: class index to name.
        images: number of images.
        label_counts: (classes,) labels of each class.
        losses: validation box, objectness and class loss; zeros when no criterion was given.
        speed_ms: milliseconds an image for preparing, inference and suppression.
        confusion: which classes were mixed up.
    """

    metrics: ClassMetrics
    names: Mapping[int, str]
    images: int
    label_counts: np.ndarray
    losses: tuple[float, ...]
    speed_ms: tuple[float, ...]
    confusion: ConfusionMatrix

    @property
    def precision(self) -> float:
        """Mean precision at the operating point, 0..1."""
        return self.metrics.mean("precision")

    @property
    def recall(self) -> float:
        """Mean recall at the operating point, 0..1."""
        return self.metrics.mean("recall")

    @property
    def map50(self) -> float:
        """Mean average precision at IoU 0.50, 0..1."""
        return self.metrics.mean("ap50")

    @property
    def map50_95(self) -> float:
        """Mean average precision over IoU 0.50 to 0.95, 0..1."""
        return self.metrics.mean("ap50_95")

    @property
    def labels(self) -> int:
        """Number of labels."""
        return int(self.label_counts.sum())

    @property
    def results(self) -> tuple[float, ...]:
        """The seven numbers of v6.1: precision, recall, mAP50, mAP50-95 and the three losses."""
        return (self.precision, self.recall, self.map50, self.map50_95, *self.losses)

    @property
    def fitness(self) -> float:
        """The number by which the best checkpoint is chosen."""
        return fitness(self.precision, self.recall, self.map50, self.map50_95)

    @property
    def class_ap(self) -> list[float]:
        """AP50-95 of each class; the mean for classes without labels (v6.1)."""
        found = np.full(len(self.names), self.map50_95)
        found[self.metrics.classes] = self.metrics.ap50_95
        return found.tolist()

    def table(self, every_class: bool = False) -> list[str]:
        """Return v6.1's table: a header, the means, then one row a class that has labels.

        Args:
            every_class: list the classes although there are 50 or more of them.
        """
        means = (self.labels, self.precision, self.recall, self.map50, self.map50_95)
        lines = [header(), self._row("all", *means)]
        if len(self.names) > 1 and (every_class or len(self.names) < MANY_CLASSES):
            found = self.metrics
            columns = (found.label_counts, found.precision, found.recall, found.ap50, found.ap50_95)
            names = [self.names[index] for index in found.classes]
            lines += [self._row(*row) for row in zip(names, *columns, strict=True)]
        return lines

    def _row(self, name: str, labels: int, *numbers: float) -> str:
        return f"{name:>20}{self.images:>11}{labels:>11}" + "".join(f"{number:>11.3g}" for number in numbers)


def header() -> str:
    """Return the header of `Evaluation.table`."""
    return f"{COLUMNS[0]:>20}" + "".join(f"{name:>11}" for name in COLUMNS[1:])


@torch.no_grad()
def evaluate(
    forward: Forward,
    batches: Iterable[Batch],
    names: Mapping[int, str],
    settings: EvaluationSettings,
    criterion: Criterion | None = None,
    sinks: Sequence[Sink] = (),
    processes: Processes = Processes(),  # noqa: B008  frozen
) -> Evaluation:
    """Run ``forward`` over ``batches`` and measure its detections in the pixels of the original images.

    Args:
        forward: takes (B, C, H, W) in 0..1, channels last, on the device of ``settings``; gives the decoded
            (B, N, 5 + classes) rows of `non_max_suppression` and the raw outputs that ``criterion`` takes, or None.
        batches: the data set.
        names: class index to name, 0..classes-1. With ``single_class`` one class is left, whatever is given.
        settings: thresholds and device.
        criterion: takes raw outputs and (n, 6) targets, gives the loss and its (3,) parts.
        sinks: receive the detections of each batch.
        processes: several may share the work, each with every ``size``-th batch; they all get the same figures as one
            process would, to the bit, but for the times, which are those of the main process.

    Raises:
        UserError: the network predicts another number of classes than ``names`` has, or there is no image.
    """
    if settings.single_class:
        names = {0: names[0] if len(names) == 1 else "item"}
    tally, clocks = _Tally(len(names)), [Stopwatch(settings.device) for _ in range(3)]
    for batch in progress(batches, "validating", unit="batch"):
        with clocks[0]:
            images = normalise(batch.images.to(settings.device, non_blocking=True))  # (B, C, H, W)
        with clocks[1]:
            decoded, raw = forward(images)  # (B, N, 5 + classes)
        losses = criterion(raw, batch.targets)[1].float().cpu() if criterion is not None and raw is not None else None
        with clocks[2]:
            detections = _detect(decoded, settings, len(names))
        detections = [found.cpu() for found in detections]
        native = tally.add(batch, detections, losses)
        for sink in sinks:
            sink.write(batch, detections, native)
    speed_ms = tuple(clock.seconds * 1e3 / max(tally.images, 1) for clock in clocks)
    tallies = processes.gather(tally)  # None on all but the main process
    return cast(Evaluation, processes.broadcast(tallies and _merged(tallies).summary(names, speed_ms)))


def _detect(decoded: Tensor, settings: EvaluationSettings, class_count: int) -> list[Tensor]:
    predicted = decoded.shape[2] - 5
    if not settings.single_class and predicted != class_count:
        raise UserError(
            f"the network predicts {predicted} classes but the data set names {class_count}; "
            "use the data YAML it was trained on, or --single-cls"
        )
    detections = non_max_suppression(
        decoded,
        settings.confidence,
        settings.iou,
        agnostic=settings.single_class,
        multi_label=True,
        max_detections=settings.max_detections,
    )
    if settings.single_class:
        for found in detections:
            found[:, 5] = 0
    return detections


@dataclass(frozen=True)
class _Record:
    """What the metrics need of one batch."""

    correct: Tensor  # (n, 10) bool
    found: Tensor  # (n, 6)
    labels: Tensor  # (m, 5)
    losses: Tensor | None  # (3,)


class _Tally:
    """Collects, batch by batch, what the metrics need."""

    def __init__(self, class_count: int):
        self.confusion = ConfusionMatrix(class_count)
        self.images = 0
        self.records: list[_Record] = []

    def add(self, batch: Batch, detections: list[Tensor], losses: Tensor | None) -> list[Tensor]:
        """Match a batch and return its detections in the pixels of the original images."""
        input_hw = (batch.images.shape[2], batch.images.shape[3])
        labels = labels_per_image(batch.targets.cpu().float(), len(detections), input_hw)
        geometry = zip(batch.original_hw, batch.ratios, batch.pads_xy, strict=True)
        native, all_labels, correct = [], [], []
        for found, label, (original_hw, ratio, pad_xy) in zip(detections, labels, geometry, strict=True):
            found, label = found.clone(), label.clone()
            found[:, :4] = scale_boxes(found[:, :4], input_hw, original_hw, ratio, pad_xy)
            label[:, 1:] = scale_boxes(label[:, 1:], input_hw, original_hw, ratio, pad_xy)
            if self.confusion.class_count == 1:
                label[:, 0] = 0
            correct.append(match_detections(found, label))
            self.confusion.update(found, label)
            native.append(found)
            all_labels.append(label)
        self.images += len(detections)
        self.records.append(_Record(torch.cat(correct), torch.cat(native), torch.cat(all_labels), losses))
        return native

    def summary(self, names: Mapping[int, str], speed_ms: tuple[float, ...]) -> Evaluation:
        """Compute the metrics of everything collected."""
        if not self.images:
            raise UserError("there is no image to evaluate; check the 'val' entry of the data set YAML")
        labels = torch.cat([record.labels for record in self.records])[:, 0].numpy().astype(int)
        if not len(labels):
            LOGGER.warning("no labels found in the data set: every metric is 0")
        losses = [record.losses for record in self.records if record.losses is not None]
        parts = torch.stack(losses).mean(0).tolist() if losses else (0.0, 0.0, 0.0)
        found = torch.cat([record.found for record in self.records]).numpy()
        correct = torch.cat([record.correct for record in self.records]).numpy()
        metrics = ap_per_class(correct, found[:, 4], found[:, 5], labels)
        counts = np.bincount(labels, minlength=len(names))
        return Evaluation(metrics, names, self.images, counts, tuple(parts), speed_ms, self.confusion)


def _merged(tallies: list[_Tally]) -> _Tally:
    """Return one tally of all, with the batches in the order in which they were dealt to the processes in turn."""
    whole = _Tally(tallies[0].confusion.class_count)
    rounds = zip_longest(*(tally.records for tally in tallies))
    whole.records = [record for records in rounds for record in records if record is not None]
    whole.images = sum(tally.images for tally in tallies)
    for tally in tallies:
        whole.confusion.add(tally.confusion)
    return whole
