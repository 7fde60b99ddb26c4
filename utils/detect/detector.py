"""One image in, its objects out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.boxes import scale_boxes
from utils.channels import swap_red_and_blue
from utils.data.loader import normalise
from utils.data.prepare import prepare_image, prepared_hw
from utils.device import Stopwatch
from utils.eval.nms import check_finite, non_max_suppression


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
        predict: (B, C, H, W) float in [0, 1] to (B, N, 5 + classes), as Backend does.
        stride: H and W are multiples of it.
        settings: thresholds and size; for others, make another one by ``dataclasses.replace``.
        device: where the model runs.
    """

    predict: Callable[[Tensor], Tensor]
    stride: int
    settings: DetectionSettings
    device: torch.device

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
        clocks = [Stopwatch(self.device) for _ in range(3)]
        with clocks[0]:
            prepared = self._prepare(images)  # (B, C, H, W)
        with clocks[1]:
            predictions = self.predict(prepared)  # (B, N, 5 + classes)
        check_finite(predictions, paths)
        with clocks[2]:
            found = [rows.cpu() for rows in self._suppress(predictions)]
        prepare, network, suppression = (clock.seconds / len(images) for clock in clocks)
        input_hw = (prepared.shape[2], prepared.shape[3])
        return [
            Detected(_on_image(rows, input_hw, image), input_hw, (prepare, network, suppression))
            for rows, image in zip(found, images, strict=True)
        ]

    def input_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of the network's input for an image of ``image_hw`` px."""
        return prepared_hw(image_hw, self.settings.size_hw, self._padding)

    @property
    def _padding(self) -> int | None:
        return None if self.settings.exact_shape else self.stride

    def _prepare(self, images: Sequence[np.ndarray]) -> Tensor:
        """Return the (B, C, H, W) input for B images, float32 in 0..1."""
        size_hw = self.settings.size_hw
        padded = [swap_red_and_blue(prepare_image(image, size_hw, self._padding)) for image in images]
        stacked = padded[0][None] if len(padded) == 1 else np.stack(padded)  # (B, H, W, C)
        return normalise(torch.from_numpy(stacked).to(self.device).permute(0, 3, 1, 2))

    def _suppress(self, predictions: Tensor) -> list[Tensor]:
        """Return the (n, 6) left, top, right, bottom, score, class of each image."""
        settings = self.settings
        found = non_max_suppression(
            predictions,
            settings.confidence,
            settings.iou,
            classes=settings.classes,
            agnostic=settings.agnostic,
            max_detections=settings.max_detections,
        )
        thresholds = settings.class_confidence
        return [_above_own(rows, thresholds) for rows in found] if thresholds else found


def _on_image(found: Tensor, input_hw: tuple[int, int], image: np.ndarray) -> Detections:
    """Turn (n, 6) rows in px of the network's input into detections in px of the image."""
    boxes = scale_boxes(found[:, :4], input_hw, image.shape[:2])
    return Detections(boxes.numpy(), found[:, 4].numpy(), found[:, 5].numpy().astype(int))


def _above_own(found: Tensor, thresholds: Mapping[int, float]) -> Tensor:
    """Return the rows of (n, 6) ``found`` whose score is above that of their class."""
    least = found.new_tensor([thresholds[int(index)] for index in found[:, 5].tolist()])
    return found[found[:, 4] > least]


def describe(detections: Detections, names: Mapping[int, str]) -> str:
    """Return what was found as v6.1 prints it: ``"4 persons, 1 bus, "``."""
    indices, counts = np.unique(detections.classes, return_counts=True)
    pairs = zip(indices, counts, strict=True)
    return "".join(f"{count} {names[index]}{'s' if count > 1 else ''}, " for index, count in pairs)
