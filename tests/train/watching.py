"""A training run under observation: what the network saw, what moved, and which files were there when."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import train
from models.yolo import Model
from utils.checkpoint import Checkpoint, read_checkpoint
from utils.data.dataset import DetectionDataset
from utils.data.loader import BatchLoader
from utils.train import fit as fit_module
from utils.train.fit import Fit
from utils.train.saving import CheckpointWriter
from utils.train.state import TrainState
from utils.train.step import TrainingStep
from utils.train.validation import Validator

QUICK = {
    **{"imgsz": 64, "batch_size": 4, "epochs": 1, "workers": 0, "device": "cpu", "weights": "", "warmup": 4},
    **{"precision": "fp32", "noplots": True, "noautoanchor": True, "log_to": ["none"]},
}

SMALL = {  # 27 parameter tensors, so that an epoch takes no time
    **{"nc": 10, "depth_multiple": 1.0, "width_multiple": 1.0},
    "anchors": [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119], [116, 90, 156, 198, 373, 326]],
    "backbone": [
        *([-1, 1, "Conv", [8, 6, 2, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 2]]),
        *([-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]], [-1, 1, "SPPF", [32, 5]]),
    ],
    "head": [[[2, 3, 5], 1, "Detect", ["nc", "anchors"]]],
}


@dataclass
class Training:
    """One pass through the epochs; a search has several.

    Attributes:
        fit, state: as they were used; ``state`` as it was left.
        start: the trained weights before the first epoch.
    """

    fit: Fit
    state: TrainState
    start: dict[str, torch.Tensor]

    def moved(self) -> set[str]:
        """Return the names of the parameters that are not what they were at the start."""
        return {name for name, now in self.state.model.named_parameters() if not torch.equal(now, self.start[name])}

    def rates(self) -> dict[str, float]:
        """Return the last learning rates by optimizer group."""
        return {group["name"]: group["lr"] for group in self.state.optimizer.param_groups}


@dataclass
class Watched:
    """What was seen.

    Attributes:
        folder: of the run.
        trainings: see there.
        batches: (epoch, image shape, paths) of each batch.
        inputs: (shape, autocast type or None) of each call of the network in training.
        with_gradient: names of the parameters that had a gradient, for each optimizer step.
        decoded: image files that this process decoded.
        mosaics: number of mosaics that this process made.
        validated: epochs that were validated.
        weights: what each epoch weighted the images with.
        files: names of the checkpoints after each epoch.
        output: what was printed.
        result: what ``train.run`` returned.
    """

    folder: Path
    trainings: list[Training] = field(default_factory=list)
    batches: list[tuple[int, tuple[int, ...], list[str]]] = field(default_factory=list)
    inputs: list[tuple[tuple[int, ...], torch.dtype | None]] = field(default_factory=list)
    with_gradient: list[set[str]] = field(default_factory=list)
    decoded: list[Path] = field(default_factory=list)
    mosaics: int = 0
    validated: list[int] = field(default_factory=list)
    weights: list[np.ndarray] = field(default_factory=list)
    files: list[set[str]] = field(default_factory=list)
    output: str = ""
    result: Any = None

    @property
    def only(self) -> Training:
        """The one training there was."""
        assert len(self.trainings) == 1
        return self.trainings[0]

    def checkpoint(self, name: str = "last") -> Checkpoint:
        """Return a checkpoint of the run."""
        return read_checkpoint(self.folder / f"weights/{name}.pt")

    def rows(self) -> list[dict[str, float]]:
        """Return results.csv."""
        names, *rows = [line.split(",") for line in (self.folder / "results.csv").read_text().splitlines()]
        return [{name.strip(): float(value) for name, value in zip(names, row, strict=True)} for row in rows]


def look_before(patch: pytest.MonkeyPatch, owner: Any, name: str, look: Callable[..., None]) -> None:
    """Have ``look`` called with the arguments of ``owner.name``, before it."""
    real = getattr(owner, name)

    def looked_at(*arguments: Any, **named: Any) -> Any:
        look(*arguments, **named)
        return real(*arguments, **named)

    patch.setattr(owner, name, looked_at)


def look_after(patch: pytest.MonkeyPatch, owner: Any, name: str, look: Callable[..., None]) -> None:
    """Have ``look`` called with the arguments of ``owner.name``, after it."""
    real = getattr(owner, name)

    def looked_at(*arguments: Any, **named: Any) -> Any:
        result = real(*arguments, **named)
        look(*arguments, **named)
        return result

    patch.setattr(owner, name, looked_at)


def watch(patch: pytest.MonkeyPatch, folder: Path) -> Watched:
    """Return a record that fills while a run with this folder trains in this process."""
    seen = Watched(folder)

    def begin(fit: Fit, state: TrainState) -> None:
        start = {name: value.detach().clone() for name, value in state.model.state_dict().items()}
        seen.trainings.append(Training(fit, state, start))

    def step(_: TrainingStep, state: TrainState, batch: Any, __: int) -> None:
        seen.batches.append((state.epoch, tuple(batch.images.shape), batch.paths))

    def forward(model: Model, images: torch.Tensor, *_: Any, **__: Any) -> None:
        if model.training and torch.is_grad_enabled():
            dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
            seen.inputs.append((tuple(images.shape), dtype))

    def optimizer_step(state: TrainState) -> None:
        seen.with_gradient.append({name for name, p in state.model.named_parameters() if p.grad is not None})

    def mosaic(*_: Any) -> None:
        seen.mosaics += 1

    look_before(patch, Fit, "__call__", begin)
    look_before(patch, TrainingStep, "__call__", step)
    look_before(patch, Model, "forward", forward)
    look_before(patch, fit_module, "optimizer_step", optimizer_step)
    look_before(patch, DetectionDataset, "decode", lambda data, index: seen.decoded.append(data.samples[index].image))
    look_before(patch, DetectionDataset, "_mosaic", mosaic)
    look_before(patch, Validator, "__call__", lambda *_: seen.validated.append(seen.trainings[-1].state.epoch))
    look_before(patch, BatchLoader, "set_weights", lambda _, weights: seen.weights.append(weights))
    checkpoints = folder / "weights"
    look_after(
        patch, CheckpointWriter, "__call__", lambda *_: seen.files.append({file.stem for file in checkpoints.glob("*")})
    )
    return seen


def run_watched(patch: pytest.MonkeyPatch, options: dict[str, Any]) -> Watched:
    """Train with ``options`` in ``<project>/<name>`` and return what was seen."""
    seen = watch(patch, Path(options["project"]) / options.get("name", "exp"))
    seen.result = train.run(**options)
    return seen
