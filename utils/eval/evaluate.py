"""Run a detector over a data set and measure it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from utils.brightness import normalise
from utils.data.loader import Batch
from utils.device import Stopwatch
from utils.distributed import Processes
from utils.errors import UserError
from utils.eval.confusion import ConfusionMatrix
from utils.eval.findings import Findings
from utils.eval.metrics import ClassMetrics, ap_per_class, fitness
from utils.eval.nms import append_labels, check_finite, non_max_suppression
from utils.eval.tally import Tally, merged, native_detections
from utils.log import LOGGER, progress

Forward = Callable[[Tensor], tuple[Tensor, list[Tensor] | None]]
Criterion = Callable[[list[Tensor], Tensor], tuple[Tensor, Tensor]]

COLUMNS = ("Class", "Images", "Labels", "P", "R", "mAP@.5", "mAP@.5:.95")
NAME_WIDTH = 20  # characters
MANY_CLASSES = 50  # from this number on, a table lists classes only when asked to


@dataclass(frozen=True)
class EvaluationSettings:
    """How predictions become detections.

    Attributes:
        confidence: least score, 0..1.
        iou: overlap above which suppression drops a box, 0..1.
        max_detections: most detections of one image.
        single_class: treat every prediction and label as class 0.
        multi_label: make a detection of every class of a box that is likely enough, not only of the likeliest.
        whole_pixels: round boxes to whole pixels of the original image, as detect.py does.
        keeps_findings: keep every box for pictures and further figures.
        device: where the network runs.
    """

    confidence: float = 0.001
    iou: float = 0.6
    max_detections: int = 300
    single_class: bool = False
    multi_label: bool = True
    whole_pixels: bool = False
    keeps_findings: bool = False
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
        findings: every detection and label, where the settings keep them.
    """

    metrics: ClassMetrics = field(repr=False)
    names: Mapping[int, str]
    images: int
    label_counts: np.ndarray
    losses: tuple[float, ...]
    speed_ms: tuple[float, ...]
    confusion: ConfusionMatrix = field(repr=False)
    findings: Findings | None = field(default=None, repr=False)

    @property
    def precision(self) -> float:
        """Mean precision at the operating point, 0..1."""
        return self.metrics.mean("precision")

    @property
    def recall(self) -> float:
        """Mean recall at the operating point, 0..1."""
        return self.metrics.mean("recall")

    @property
    def f1(self) -> float:
        """Mean F1 at the operating point, 0..1."""
        return self.metrics.mean("f1")

    @property
    def best_confidence(self) -> float:
        """The operating point: the confidence at which mean F1 is highest, 0..1."""
        return self.metrics.best_confidence

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
        return f"{fitted(name)}{self.images:>11}{labels:>11}" + "".join(f"{number:>11.3g}" for number in numbers)


def fitted(name: str) -> str:
    """Return a class name at the width of its column."""
    name = " ".join(name.split())
    return f"{name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + '…':>{NAME_WIDTH}}"


def header() -> str:
    """Return the header of `Evaluation.table`."""
    return f"{COLUMNS[0]:>{NAME_WIDTH}}" + "".join(f"{name:>11}" for name in COLUMNS[1:])


@torch.no_grad()
def evaluate(
    forward: Forward,
    batches: Iterable[Batch],
    names: Mapping[int, str],
    settings: EvaluationSettings,
    criterion: Criterion | None = None,
    sinks: Sequence[Sink] = (),
    hybrid_sinks: Sequence[Sink] = (),
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
        hybrid_sinks: receive them with the labels merged in as detections of certainty 1, which no figure ever sees.
        processes: several may share the work, each with every ``size``-th batch; they all get the same figures as one
            process would, to the bit, but for the times, which are those of the main process.

    Raises:
        UserError: the network predicts another number of classes than ``names`` has or what is no number, or there is
            no image.
    """
    if settings.single_class:
        names = {0: names[0] if len(names) == 1 else "item"}
    tally = Tally(len(names), settings.keeps_findings)
    clocks = [Stopwatch(settings.device) for _ in range(3)]
    for batch in progress(batches, "validating", unit="batch"):
        with clocks[0]:
            images = normalise(batch.images.to(settings.device, non_blocking=True))  # (B, C, H, W)
        with clocks[1]:
            decoded, raw = forward(images)  # (B, N, 5 + classes)
        losses = criterion(raw, batch.targets)[1].float().cpu() if criterion is not None and raw is not None else None
        _check(decoded, batch, settings, len(names))
        with clocks[2]:
            detections = _suppress(decoded, settings)
        native = _to_original(batch, detections, settings)
        tally.add(batch, native, losses)
        for sink in sinks:
            sink.write(batch, detections, native)
        if hybrid_sinks:
            with_labels = append_labels(decoded, batch.targets, (images.shape[2], images.shape[3]))
            detections = _suppress(with_labels, settings)
            native = _to_original(batch, detections, settings)
            for sink in hybrid_sinks:
                sink.write(batch, detections, native)
    speed_ms = tuple(clock.seconds * 1e3 / max(tally.images, 1) for clock in clocks)
    tallies = processes.gather(tally)  # None on all but the main process
    result = tallies and summarise(merged(tallies), names, speed_ms, settings.confidence)
    return cast(Evaluation, processes.broadcast(result))


def _check(decoded: Tensor, batch: Batch, settings: EvaluationSettings, class_count: int) -> None:
    predicted = decoded.shape[2] - 5
    if not settings.single_class and predicted != class_count:
        raise UserError(
            f"the network predicts {predicted} classes but the data set names {class_count}; "
            "use the data YAML it was trained on, --map-classes or --single-cls"
        )
    check_finite(decoded, batch.paths)


def _suppress(decoded: Tensor, settings: EvaluationSettings) -> list[Tensor]:
    detections = non_max_suppression(
        decoded,
        settings.confidence,
        settings.iou,
        agnostic=settings.single_class,
        multi_label=settings.multi_label,
        max_detections=settings.max_detections,
    )
    if settings.single_class:
        for found in detections:
            found[:, 5] = 0
    return [found.cpu() for found in detections]


def _to_original(batch: Batch, detections: list[Tensor], settings: EvaluationSettings) -> list[Tensor]:
    native = native_detections(batch, detections)
    if settings.whole_pixels:
        for found in native:
            found[:, :4].round_()
    return native


def summarise(
    tally: Tally, names: Mapping[int, str], speed_ms: tuple[float, ...], least_score: float = 0.0
) -> Evaluation:
    """Compute the metrics of everything collected, which had scores above ``least_score``.

    Raises:
        UserError: nothing was collected.
    """
    if not tally.images:
        raise UserError("there is no image to evaluate; check the 'val' entry of the data set YAML")
    labels = tally.label_classes
    if not len(labels):
        LOGGER.warning("no labels found in the data set: every metric is 0")
    metrics = ap_per_class(tally.correct, tally.scores, tally.classes, labels, least_score)
    counts = np.bincount(labels, minlength=len(names))
    findings = tally.findings(names)
    return Evaluation(metrics, names, tally.images, counts, tally.mean_losses(), speed_ms, tally.confusion, findings)
