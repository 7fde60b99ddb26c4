"""What all exported files have in common once their runtime has loaded them: batch sizes, finished detections."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from models.formats.backend import Metadata
from models.formats.facts import Facts, metadata_from
from utils.boxes import xyxy_to_xywh
from utils.errors import UserError

DETECTION_COLUMNS = 6  # left, top, right, bottom, score, class


class CannotRunHere(UserError):
    """A file that is fine, as far as one can tell, on a machine that cannot run it; raised by ``load``."""


@dataclass(frozen=True)
class Runtime:
    """What ``load`` of a format returns.

    Attributes:
        run: (b, C, H, W) contiguous float32 in [0, 1] to (b, N, 5 + classes) rows as Backend has them, or, of a graph
            that suppresses, to (b, n, 6) detections as ExportGraph has them. Callable by several threads.
        facts: that the file holds; {} if none.
        batch_size: the only b it takes, or None.
        input_hw: the only H and W it takes, or None.
        classes: number of classes, where the runtime tells.
        parallel: see Backend.
    """

    run: Callable[[Tensor], Tensor]
    facts: Facts = field(default_factory=dict)
    batch_size: int | None = None
    input_hw: tuple[int, int] | None = None
    classes: int | None = None
    parallel: int = 1


class ExportedBackend:
    """A Backend made of a Runtime.

    Args:
        runtime: see there.
        path: its file, for errors.
        names: of the classes, where the file has none.
    """

    def __init__(self, runtime: Runtime, path: Path, names: Mapping[int, str] | None = None) -> None:
        self.runtime = runtime
        self.path = path
        self.parallel = runtime.parallel
        fallback = names or {index: f"class{index}" for index in range(runtime.classes or 0)}
        self.meta: Metadata = metadata_from(runtime.facts, runtime.input_hw, fallback)
        if not self.meta.names:
            raise UserError(f"'{path}' holds no class names; name the data set it was trained on with --data")
        if runtime.classes and runtime.classes != len(self.meta.names):
            raise UserError(
                f"'{path}' predicts {runtime.classes} classes, but there are {len(self.meta.names)} names; "
                "name the data set it was trained on with --data"
            )

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Predict; see Backend."""
        self._check_size(images)
        images = images.float().contiguous()
        size = self.runtime.batch_size
        if size is None or len(images) == size:
            found = self.runtime.run(images)
        else:
            found = torch.cat([self._run_part(part, size) for part in images.split(size)])
        return as_predictions(found, len(self.meta.names)) if self.runtime.facts.get("nms") else found

    def _run_part(self, images: Tensor, size: int) -> Tensor:
        """Predict for at most ``size`` images, filled up with grey ones."""
        missing = size - len(images)
        filled = torch.cat([images, images.new_full((missing, *images.shape[1:]), 0.5)]) if missing else images
        return self.runtime.run(filled)[: len(images)]

    def _check_size(self, images: Tensor) -> None:
        got, wanted = tuple(images.shape[2:]), self.runtime.input_hw
        if wanted and got != wanted:
            raise UserError(
                f"'{self.path}' takes images of {wanted[0]}x{wanted[1]} px only, got {got[0]}x{got[1]}; "
                f"use --imgsz {wanted[0]} {wanted[1]}, or export it with --dynamic"
            )


def as_predictions(detections: Tensor, classes: int) -> Tensor:
    """Turn finished detections back into rows that suppression takes, and passes unchanged.

    Args:
        detections: (B, n, 6) left, top, right, bottom in px, score, class; rows of score 0 are filling.
        classes: their number.

    Returns:
        (B, n, 5 + classes): centre x, y, width, height, the score as objectness, 1 for the class and 0 for others.
    """
    boxes, scores, labels = detections.split((4, 1, 1), 2)
    of_class = torch.nn.functional.one_hot(labels[..., 0].long().clamp(0, classes - 1), classes)
    return torch.cat((xyxy_to_xywh(boxes), scores, of_class.to(boxes.dtype)), 2)
