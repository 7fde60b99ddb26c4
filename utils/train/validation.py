"""Measuring the averaged weights while a run trains."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import Tensor, nn

from utils.data.loader import BatchLoader
from utils.distributed import Processes
from utils.eval.evaluate import Evaluation, EvaluationSettings, evaluate
from utils.memory import is_out_of_memory
from utils.train.loss import DetectionLoss

if TYPE_CHECKING:
    from models.yolo import Model


@dataclass(frozen=True)
class Validator:
    """Measures a model on the validation split, as training sees it: with losses, without pictures.

    Attributes:
        loader: this process's share of the batches.
        names: class names by index.
        settings: thresholds and device.
        criterion: the loss; of whole batches, since these are not shared.
        processes: those that measure together.
    """

    loader: BatchLoader
    names: dict[int, str]
    settings: EvaluationSettings
    criterion: DetectionLoss
    processes: Processes = field(default_factory=Processes)

    def __call__(self, model: nn.Module) -> Evaluation:
        """Evaluate ``model``; a fused copy runs, which gives the same values sooner."""
        fused = cast("Model", copy.deepcopy(model)).fuse().eval()
        forward = in_parts_if_needed(fused)
        return evaluate(forward, self.loader, self.names, self.settings, self.criterion, processes=self.processes)


Outputs = TypeVar("Outputs", Tensor, tuple[Tensor, list[Tensor]])


def in_parts_if_needed(forward: Callable[[Tensor], Outputs]) -> Callable[[Tensor], Outputs]:
    """Return ``forward`` for batches that may not fit into memory: these it runs in halves, and the halves likewise."""

    def run(images: Tensor) -> Outputs:
        try:
            return forward(images)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(images) == 1:
                raise
        if images.is_cuda:
            torch.cuda.empty_cache()
        halves = [run(half) for half in images.chunk(2)]
        return _joined(halves)

    return run


def _joined(halves: list[Outputs]) -> Outputs:
    """Return the outputs of a whole batch: decoded rows, or these and the raw ones by level."""
    first, second = halves
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat((first, second))
    levels = [torch.cat(pair) for pair in zip(first[1], second[1], strict=True)]
    return torch.cat((first[0], second[0])), levels
