"""Everything a run needs to go on, saved and restored as one thing."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from utils.train.ema import ModelAverage
from utils.train.schedule import EarlyStopper

COUNTERS = ("epoch", "last_step", "splits", "class_ap", "results")


@dataclass
class TrainState:
    """What changes while a run trains.

    The order of images and all that is drawn at random, for them or by layers such as dropout, follow from the run's
    seed, the epoch and the process, so that no state of a generator has to be kept.

    Attributes:
        model: trained weights. average: their moving average, which is validated.
        optimizer: with its momenta. scaler: loss scaling for FP16; switched off on CPU.
        stopper: early stopping, and the best fitness so far.
        epoch: next epoch to run, from 0.
        last_step: iteration of the last optimizer step; gradients since then are pending.
        splits: parts into which batches are cut, because whole ones did not fit into memory.
        class_ap: (classes,) average precision of each class in the last validation, for --image-weights.
        results: lines of results.csv.
    """

    model: nn.Module
    average: ModelAverage
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    stopper: EarlyStopper
    epoch: int = 0
    last_step: int = -1
    splits: int = 1
    class_ap: list[float] = field(default_factory=list)
    results: list[str] = field(default_factory=list)

    def capture(self) -> dict[str, Any]:
        """Return all of it but the average's weights, as tensors and plain data."""
        gradients = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        return {
            "model": self.model.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "stopper": vars(self.stopper),
            "gradients": gradients,
            **{name: getattr(self, name) for name in COUNTERS},
        }

    def restore(self, saved: dict[str, Any], average: dict[str, Tensor]) -> None:
        """Set everything to what ``capture`` returned, and the average's weights to ``average``."""
        self.model.load_state_dict(saved["model"])
        self.average.model.load_state_dict(average)
        self.average.updates = saved["updates"]
        self.optimizer.load_state_dict(saved["optimizer"])
        same_precision = bool(saved["scaler"]) == self.scaler.is_enabled()
        if saved["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(saved["scaler"])
        self.stopper = EarlyStopper(**saved["stopper"] | {"patience": self.stopper.patience})
        for name, parameter in self.model.named_parameters():
            gradient = saved["gradients"].get(name) if same_precision else None  # those of FP16 are scaled
            parameter.grad = None if gradient is None else gradient.to(parameter.device, copy=True)
        for name in COUNTERS:
            setattr(self, name, saved[name])

    def extend(self, finished: dict[str, Any], average: dict[str, Tensor]) -> None:
        """Set the counters to those of a finished run, and all weights to its averaged ones, ``average``.

        Its optimizer is gone, so that momenta start anew. Patience counts from here.
        """
        self.model.load_state_dict(average)
        self.average.model.load_state_dict(average)
        self.average.updates = finished["updates"]
        for name in COUNTERS:
            setattr(self, name, finished.get(name, getattr(self, name)))
        self.stopper = EarlyStopper(self.stopper.patience, finished["stopper"]["best_fitness"], self.epoch - 1)
