"""AP and AR in COCO's definition, of any data set, computed by an optional package."""

import io
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from utils.eval.findings import Findings

if TYPE_CHECKING:
    from utils.eval.metrics import ClassMetrics

PACKAGES = ("faster-coco-eval", "pycocotools")  # the faster one first
MISSING_HINT = "COCO-style AP and AR are left out; for these: pip install faster-coco-eval (or pycocotools)"
AREAS = ("all", "small", "medium", "large")
IOU_COUNT = 10
AP50, AP75 = 0, 5  # positions among the IoU thresholds
MOST_DETECTIONS = (1, 10, 100)  # of one class in one image
WHY = (
    "COCO-style differs in three things: it averages the best precision at or beyond each of 101 recalls, where "
    "YOLO-style takes the area under straight lines between points of the curve; a detection gets any label that is "
    "still free, not only the one it overlaps most; and it stops after 100 detections of a class in an image."
)

Annotation = dict[str, Any]  # an object or a detection as the packages take it


@dataclass(frozen=True)
class CocoMetrics:
    """Results in COCO's definition, 0..1, and NaN where nothing is there to find.

    Sizes are areas of boxes in px of the original images: small up to 32 x 32, medium up to 96 x 96, large above.

    Attributes:
        package: name of the one that computed them.
        precision: (classes, 10, 4) average precision at IoU 0.50, 0.55, ... 0.95, of all sizes, small, medium, large.
        recall: (classes, 10, 4, 3) the most recall reached; the last axis is how many detections of one class in one
            image may take part: 1, 10, 100.
    """

    package: str
    precision: np.ndarray
    recall: np.ndarray

    @property
    def ap(self) -> float:
        """Average precision over IoU 0.50 to 0.95."""
        return _mean(self.precision[:, :, 0])

    @property
    def ap50(self) -> float:
        """Average precision at IoU 0.50."""
        return _mean(self.precision[:, AP50, 0])

    @property
    def ap75(self) -> float:
        """Average precision at IoU 0.75."""
        return _mean(self.precision[:, AP75, 0])

    @property
    def ap_by_size(self) -> tuple[float, ...]:
        """Average precision over IoU 0.50 to 0.95 of small, medium and large objects."""
        return tuple(_mean(self.precision[:, :, area]) for area in range(1, len(AREAS)))

    @property
    def ar(self) -> tuple[float, ...]:
        """Average recall with at most 1, 10 and 100 detections of a class in an image."""
        return tuple(_mean(self.recall[:, :, 0, most]) for most in range(len(MOST_DETECTIONS)))

    @property
    def ar_by_size(self) -> tuple[float, ...]:
        """Average recall, with at most 100 detections, of small, medium and large objects."""
        return tuple(_mean(self.recall[:, :, area, -1]) for area in range(1, len(AREAS)))

    @property
    def summary(self) -> tuple[float, ...]:
        """The twelve numbers of COCO's own summary, in its order: AP, AP50, AP75, by size; AR 1, 10, 100, by size."""
        return (self.ap, self.ap50, self.ap75, *self.ap_by_size, *self.ar, *self.ar_by_size)

    @property
    def class_ap(self) -> np.ndarray:
        """(classes,) average precision over IoU 0.50 to 0.95, NaN for classes without labels."""
        return self.precision[:, :, 0].mean(1)

    @property
    def class_ap50(self) -> np.ndarray:
        """(classes,) average precision at IoU 0.50, NaN for classes without labels."""
        return self.precision[:, AP50, 0]

    def lines(self, yolo_style: "ClassMetrics | None" = None) -> list[str]:
        """Return a table.

        Args:
            yolo_style: YOLOv5's results of the same detections, put beside, with a sentence on why they differ.
        """
        sizes = AREAS[1:]
        table = [
            _row(f"by {self.package}", ["AP", "AP50", "AP75", *(f"AP {size}" for size in sizes)]),
            _row("COCO-style", self.summary[:6]),
            _row("", [*(f"AR {most}" for most in MOST_DETECTIONS), *(f"AR {size}" for size in sizes)]),
            _row("COCO-style", self.summary[6:]),
        ]
        if yolo_style is None:
            return table
        theirs = [yolo_style.mean(name) for name in ("ap50_95", "ap50", "ap75")]
        return [table[0], _row("YOLO-style", theirs), *table[1:], WHY]


def _row(title: str, cells: Iterable[str | float]) -> str:
    written = (cell if isinstance(cell, str) else "-" if np.isnan(cell) else f"{cell:.3g}" for cell in cells)
    return f"{title:>22}" + "".join(f"{cell:>11}" for cell in written)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def coco_metrics(findings: Findings, packages: Sequence[str] = PACKAGES) -> CocoMetrics | None:
    """Measure an evaluation in COCO's definition; no file of annotations is needed.

    Args:
        findings: detections and labels; no label stands for a crowd.
        packages: those that may be used; the first that is installed computes.

    Returns:
        None when none of them is installed; `MISSING_HINT` says what to do.
    """
    evaluator = find_evaluator(packages)
    if evaluator is None:
        return None
    boxes, areas = corner_boxes(findings.label_boxes)
    columns = (findings.label_image.tolist(), findings.label_classes.tolist(), boxes.tolist(), areas.tolist())
    truths: list[list[Annotation]] = [[] for _ in findings.names]
    for number, (image, label, box, area) in enumerate(zip(*columns, strict=True), 1):  # 0 would mean "not matched"
        truth = {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": 0}
        truths[label].append(truth)
    return evaluator.measure(truths, DetectionsByClass(findings, range(len(findings)), range(len(findings.names))))


def corner_boxes(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (n, 4) left, top, right, bottom as left, top, width, height in float64, and the (n,) areas."""
    boxes = boxes.astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]  # (n, 2)
    return np.concatenate([boxes[:, :2], sides], 1), sides.prod(1)


class DetectionsByClass:
    """Makes the packages' objects of the detections of one class at a time: millions at once would fill the memory.

    Args:
        findings: the detections.
        image_ids: names of the images for the packages.
        category_ids: names of the classes for the packages.
        decimals: of coordinates and of scores, when they are to be those of a file of results.
    """

    def __init__(
        self,
        findings: Findings,
        image_ids: Sequence[int],
        category_ids: Sequence[int],
        decimals: tuple[int, int] | None = None,
    ):
        self.findings = findings
        self.image_ids = np.asarray(image_ids, dtype=np.int64)
        self.category_ids = category_ids
        self.decimals = decimals
        self._order = findings.classes.argsort(kind="stable")
        self._ends = np.bincount(findings.classes, minlength=len(category_ids)).cumsum()

    def of(self, index: int) -> list[Annotation]:
        """Return those of class ``index``, without what is beyond the 100 best of an image and thus plays no part."""
        found = self.findings
        rows = self._order[self._ends[index - 1] if index else 0 : self._ends[index]]
        images = found.detection_image[rows]
        rank = np.arange(len(rows)) - np.searchsorted(images, images)
        rows = rows[rank < MOST_DETECTIONS[-1]]
        (boxes, areas), scores = corner_boxes(found.boxes[rows]), found.scores[rows].astype(np.float64)
        if self.decimals:
            boxes, scores = boxes.round(self.decimals[0]), scores.round(self.decimals[1])
            areas = boxes[:, 2:].prod(1)
        columns = (self.image_ids[found.detection_image[rows]], boxes, areas, scores)
        category = self.category_ids[index]
        return [
            {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "score": score}
            for number, (image, box, area, score) in enumerate(zip(*(one.tolist() for one in columns), strict=True), 1)
        ]


@dataclass(frozen=True)
class Evaluator:
    """One of the packages.

    Attributes:
        package: its name.
        dataset: its ``COCO`` class.
        evaluation: its ``COCOeval`` class.
    """

    package: str
    dataset: Any
    evaluation: Any

    def measure(self, truths: Sequence[list[Annotation]], detections: DetectionsByClass) -> CocoMetrics:
        """Return what a whole evaluation would; classes have no influence on each other, so they are taken one by one.

        Args:
            truths: the objects of each class.
            detections: what was found.
        """
        precision = np.full((len(truths), IOU_COUNT, len(AREAS)), np.nan)
        recall = np.full((len(truths), IOU_COUNT, len(AREAS), len(MOST_DETECTIONS)), np.nan)
        for index, own in enumerate(truths):
            if own:
                precision[index], recall[index] = self._measure_class(own, detections.of(index))
        return CocoMetrics(self.package, precision, recall)

    def _measure_class(self, truths: list[Annotation], found: list[Annotation]) -> tuple[np.ndarray, np.ndarray]:
        """Return (10, 4) average precision and (10, 4, 3) recall of one class."""
        images = sorted({one["image_id"] for one in truths} | {one["image_id"] for one in found})
        with redirect_stdout(io.StringIO()):  # they print what they do
            evaluation = self.evaluation(self._dataset(images, truths), self._dataset(images, found), "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
        precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
        precision, recall = precision[:, :, 0, :, -1], recall[:, 0]  # (10, 101, 4), (10, 4, 3)
        return np.where(precision < 0, np.nan, precision).mean(1), np.where(recall < 0, np.nan, recall)

    def _dataset(self, images: list[int], annotations: list[Annotation]) -> Any:
        made = self.dataset()
        category = annotations[0]["category_id"] if annotations else 0
        made.dataset = {
            "images": [{"id": image} for image in images],
            "categories": [{"id": category}],
            "annotations": annotations,
        }
        made.createIndex()
        return made


def find_evaluator(packages: Sequence[str] = PACKAGES) -> Evaluator | None:
    """Return the first of ``packages`` that is installed, or None."""
    for package in packages:
        try:
            if package == "faster-coco-eval":
                from faster_coco_eval import COCO, COCOeval_faster

                return Evaluator(package, COCO, COCOeval_faster)
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval

            return Evaluator(package, COCO, COCOeval)
        except (ImportError, ValueError):  # ValueError: built for another NumPy
            continue
    return None
