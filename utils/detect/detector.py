"""One image in, its objects out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from utils.boxes import scale_boxes
from utils.channels import swap_red_and_blue
from utils.data.loader import normalise
from utils.data.prepare import prepare_image
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


@dataclass
class Detector:
    """A model with its pre- and post-processing.

    Attributes:
        predict: (1, C, H, W) float in [0, 1] to (1, N, 5 + classes), as Backend does.
        stride: H and W are multiples of it.
        settings: thresholds and size.
        device: where the model runs.
        clocks: time spent on preparing, inference and suppression.
        images: number of images seen.
    """

    predict: Callable[[Tensor], Tensor]
    stride: int
    settings: DetectionSettings
    device: torch.device
    clocks: list[Stopwatch] = field(init=False)
    images: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.clocks = [Stopwatch(self.device) for _ in range(3)]

    def __call__(self, image: np.ndarray, path: str | Path = "image") -> tuple[Detections, tuple[int, int]]:
        """Find the objects of an image; also return the size of the network's input.

        Args:
            image: (H, W, C) uint8, BGR if C is 3.
            path: its file, for messages.

        Raises:
            UserError: the network gives NaN or infinite values.
        """
        settings = self.settings
        with self.clocks[0]:
            stride = None if settings.exact_shape else self.stride
            padded = swap_red_and_blue(prepare_image(image, settings.size_hw, stride))
            images = normalise(torch.from_numpy(padded).to(self.device).permute(2, 0, 1)[None])  # (1, C, H, W)
        with self.clocks[1]:
            predictions = self.predict(images)  # (1, N, 5 + classes)
        check_finite(predictions, [path])
        with self.clocks[2]:
            found = non_max_suppression(
                predictions,
                settings.confidence,
                settings.iou,
                classes=settings.classes,
                agnostic=settings.agnostic,
                max_detections=settings.max_detections,
            )[0].cpu()
            if settings.class_confidence:
                found = _above_own(found, settings.class_confidence)
        self.images += 1
        input_hw = padded.shape[:2]
        boxes = scale_boxes(found[:, :4], input_hw, image.shape[:2])
        return Detections(boxes.numpy(), found[:, 4].numpy(), found[:, 5].numpy().astype(int)), input_hw

    def milliseconds(self) -> list[float]:
        """Return the mean time an image took for preparing, inference and suppression."""
        return [clock.seconds * 1000 / max(self.images, 1) for clock in self.clocks]


def _above_own(found: Tensor, thresholds: Mapping[int, float]) -> Tensor:
    """Return the rows of (n, 6) ``found`` whose score is above that of their class."""
    least = found.new_tensor([thresholds[int(index)] for index in found[:, 5].tolist()])
    return found[found[:, 4] > least]


def describe(detections: Detections, names: dict[int, str]) -> str:
    """Return what was found as v6.1 prints it: ``"4 persons, 1 bus, "``."""
    indices, counts = np.unique(detections.classes, return_counts=True)
    pairs = zip(indices, counts, strict=True)
    return "".join(f"{count} {names[index]}{'s' if count > 1 else ''}, " for index, count in pairs)
