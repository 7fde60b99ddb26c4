"""What all exported files have in common once their runtime has loaded them: batch sizes, finished detections."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.formats.backend import FindRows, Metadata, find_by_tensors, likely_rows
from models.formats.facts import Facts, metadata_from
from utils.boxes import xyxy_to_xywh
from utils.brightness import as_floats
from utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

DETECTION_COLUMNS = 6  # left, top, right, bottom, score, class


class CannotRunHere(UserError):
    """A file that is fine, as far as one can tell, on a machine that cannot run it; raised by ``load``."""


@dataclass(frozen=True)
class Runtime:
    """What ``load`` of a format returns.

    Attributes:
        run: (b, C, H, W) contiguous float32 in [0, 1] to (b, N, 5 + classes) rows as Backend has them, or, of a graph
            that suppresses, to (b, n, 6) detections as ExportGraph has them; float32. Callable by several threads.
        facts: that the file holds; {} if none.
        batch_size: the only b it takes, or None.
        input_hw: the only H and W it takes, or None.
        classes: number of classes, where the runtime tells.
        parallel: see Backend.
        find_rows: does what ``Backend.find_rows`` does, for b images, by a way that is faster than ``run``; None if
            there is none, or ``LoadSettings.pixels`` does not ask for it. With it, ``run`` need not work.
        device: ``run`` takes and gives torch tensors on this device instead of arrays.
    """

    run: Callable[[Any], Any]
    facts: Facts = field(default_factory=dict)
    batch_size: int | None = None
    input_hw: tuple[int, int] | None = None
    classes: int | None = None
    parallel: int = 1
    find_rows: FindRows | None = None
    device: str = ""


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

    def __call__(self, images: "Tensor") -> "Tensor":
        """Predict everything; see Backend."""
        import torch

        if self.runtime.device:
            with torch.inference_mode():
                found = self._run(images.float().contiguous())
        else:
            found = torch.from_numpy(self._run(images.float().contiguous().numpy(force=True)))
        return found.to(images.device)

    def find_rows(self, pixels: np.ndarray, least: float) -> list[np.ndarray]:
        """Predict what may be worth a look; see Backend."""
        if self.runtime.device:
            return find_by_tensors(self, self.runtime.device, pixels, least)
        find = self.runtime.find_rows
        if find is None:
            return likely_rows(self._run(as_floats(pixels)), least)
        self._check_size(pixels.shape[1:3])
        return list(chain.from_iterable(find(part, least)[:count] for part, count in self._parts(pixels)))

    def _run(self, images: Any) -> Any:
        """Predict (B, N, 5 + classes) rows by the runtime."""
        self._check_size(images.shape[2:])
        parts = [self.runtime.run(part)[:count] for part, count in self._parts(images)]
        found = parts[0] if len(parts) == 1 else _joined(parts)
        return as_predictions(found, len(self.meta.names)) if self.runtime.facts.get("nms") else found

    def _parts(self, images: Any) -> Iterator[tuple[Any, int]]:
        """Give images, as many at once as the runtime takes, filled up by the first one, and how many are real."""
        size = self.runtime.batch_size or len(images)
        for start in range(0, len(images), size):
            part = images[start : start + size]
            count = len(part)
            yield part if count == size else part[[*range(count), *[0] * (size - count)]], count

    def _check_size(self, size_hw: tuple[int, ...]) -> None:
        got, wanted = tuple(size_hw), self.runtime.input_hw
        if wanted and got != wanted:
            raise UserError(
                f"'{self.path}' takes images of {wanted[0]}x{wanted[1]} px only, got {got[0]}x{got[1]}; "
                f"use --imgsz {wanted[0]} {wanted[1]}, or export it with --dynamic"
            )


def _joined(parts: list[Any]) -> Any:
    """Return arrays, or tensors, one behind the other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat(parts)


def as_predictions(detections: Any, classes: int) -> Any:
    """Turn finished detections back into rows that suppression takes, and passes unchanged.

    Args:
        detections: (B, n, 6) left, top, right, bottom in px, score, class; rows of score 0 are filling.
        classes: their number.

    Returns:
        (B, n, 5 + classes): centre x, y, width, height, the score as objectness, 1 for the class and 0 for others.
    """
    if not isinstance(detections, np.ndarray):
        return detections.new_tensor(as_predictions(detections.numpy(force=True), classes))
    boxes, scores, labels = np.split(detections, (4, 5), 2)
    of_class = np.arange(classes) == np.clip(labels.astype(int), 0, classes - 1)  # (B, n, classes)
    return np.concatenate((xyxy_to_xywh(boxes), scores, of_class.astype(boxes.dtype)), 2)
