"""One image in, its objects out."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from utils.boxes import scale_boxes
from utils.channels import swap_red_and_blue
from utils.data.prepare import prepare_image, prepared_hw
from utils.detect.suppression import suppress
from utils.errors import not_finite


@dataclass(frozen=True)
class Detections:
    """The objects of one image, best first.

    Attributes:
        boxes: (n, 4) float left, top, right, bottom in px of the image, inside it.
        scores: (n,) in [0, 1].
        classes: (n,) int.
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class DetectionSettings:
    """How predictions become detections; the meanings and defaults of v6.1's detect.py."""

    size_hw: tuple[int, int] = (640, 640)
    confidence: float = 0.25
    class_confidence: Mapping[int, float] | None = None  # of each class kept, none below ``confidence``
    iou: float = 0.45
    max_detections: int = 1000
    classes: Sequence[int] | None = None  # keep these only; None keeps all
    agnostic: bool = False  # suppress across classes
    exact_shape: bool = False  # pad to size_hw, for models that take no other shape


@dataclass(frozen=True)
class Detected:
    """What came of one image.

    Attributes:
        detections: its objects.
        input_hw: height and width of the network's input, px.
        seconds: spent on preparing it, in the network and on suppression; its share of those of a batch.
    """

    detections: Detections
    input_hw: tuple[int, int]
    seconds: tuple[float, float, float]


@dataclass(frozen=True)
class Detector:
    """A model with its pre- and post-processing. May be called by several threads at once.

    Attributes:
        find_rows: see Backend.
        stride: height and width of the network's input are multiples of it, px.
        settings: thresholds and size; for others, make another one by ``dataclasses.replace``.
    """

    find_rows: Callable[[np.ndarray, float], list[np.ndarray]]
    stride: int
    settings: DetectionSettings

    def __call__(self, image: np.ndarray, path: str | Path = "image") -> Detected:
        """Find the objects of an image.

        Args:
            image: (H, W, C) uint8, BGR if C is 3.
            path: its file, for messages.

        Raises:
            UserError: the network gives NaN or infinite values.
        """
        return self.detect_batch([image], [path])[0]

    def detect_batch(self, images: Sequence[np.ndarray], paths: Sequence[str | Path]) -> list[Detected]:
        """Find the objects of several images that have one ``input_hw``; otherwise like calling it for each."""
        times = [time.perf_counter()]
        pixels = self._prepare(images)  # (B, H, W, C)
        times.append(time.perf_counter())
        found = self.find_rows(pixels, self.settings.confidence)
        times.append(time.perf_counter())
        check_finite(found, paths)
        detections = [self._suppress(rows) for rows in found]
        times.append(time.perf_counter())
        prepare, network, suppression = ((end - start) / len(images) for start, end in pairwise(times))
        input_hw = (pixels.shape[1], pixels.shape[2])
        return [
            Detected(_on_image(rows, input_hw, image), input_hw, (prepare, network, suppression))
            for rows, image in zip(detections, images, strict=True)
        ]

    def input_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the network's input for an image of ``image_hw`` px."""
        return prepared_hw(image_hw, self.settings.size_hw, self._padding)

    @property
    def _padding(self) -> int | None:
        return None if self.settings.exact_shape else self.stride

    def _prepare(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the (B, H, W, C) uint8 input for B images; three channels are RGB."""
        size_hw = self.settings.size_hw
        padded = [swap_red_and_blue(prepare_image(image, size_hw, self._padding)) for image in images]
        return padded[0][None] if len(padded) == 1 else np.stack(padded)

    def _suppress(self, rows: np.ndarray) -> np.ndarray:
        """Return the (n, 6) left, top, right, bottom, score, class of an image."""
        settings = self.settings
        found = suppress(
            rows,
            settings.confidence,
            settings.iou,
            classes=settings.classes,
            agnostic=settings.agnostic,
            max_detections=settings.max_detections,
        )
        thresholds = settings.class_confidence
        return _above_own(found, thresholds) if thresholds else found


def check_finite(found: Sequence[np.ndarray], paths: Sequence[str | Path]) -> None:
    """See that what a network gives are numbers; suppression would take NaN for "nothing there".

    Args:
        found: rows of each image, see Backend.
        paths: its file, for the message.

    Raises:
        UserError: NaN or infinite values.
    """
    for rows, path in zip(found, paths, strict=True):
        if not np.isfinite(rows).all():
            raise not_finite(path)


def _on_image(found: np.ndarray, input_hw: tuple[int, int], image: np.ndarray) -> Detections:
    """Turn (n, 6) rows in px of the network's input into detections in px of the image."""
    boxes = scale_boxes(found[:, :4], input_hw, image.shape[:2])
    return Detections(boxes, found[:, 4], found[:, 5].astype(int))


def _above_own(found: np.ndarray, thresholds: Mapping[int, float]) -> np.ndarray:
    """Return the rows of (n, 6) ``found`` whose score is above that of their class."""
    least = np.array([thresholds[int(index)] for index in found[:, 5]], np.float32)
    return found[found[:, 4] > least]


def describe(detections: Detections, names: Mapping[int, str]) -> str:
    """Return what was found as v6.1 prints it: ``"4 persons, 1 bus, "``."""
    indices, counts = np.unique(detections.classes, return_counts=True)
    pairs = zip(indices, counts, strict=True)
    return "".join(f"{count} {names[index]}{'s' if count > 1 else ''}, " for index, count in pairs)
