"""Everything a run needs to go on, saved and restored as one thing."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from utils.train.ema import ModelAverage
from utils.train.schedule import EarlyStopper


@dataclass
class TrainState:
    """What changes while a run trains.

    The order of images and every random draw on them follow from the run's seed and the epoch, so that no generator
    of the loader has to be kept.

    Attributes:
        model: trained weights. average: their moving average, which is validated.
        optimizer: with its momenta. scaler: loss scaling for FP16; switched off on CPU.
        stopper: early stopping, and the best fitness so far.
        epoch: next epoch to run, from 0.
        last_step: iteration of the last optimizer step; gradients since then are pending.
    """

    model: nn.Module
    average: ModelAverage
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    stopper: EarlyStopper
    epoch: int = 0
    last_step: int = -1

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
            "random_state": torch.get_rng_state(),
            "epoch": self.epoch,
            "last_step": self.last_step,
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
        self.stopper = EarlyStopper(**saved["stopper"])
        for name, parameter in self.model.named_parameters():
            gradient = saved["gradients"].get(name) if same_precision else None  # those of FP16 are scaled
            parameter.grad = None if gradient is None else gradient.to(parameter.device, copy=True)
        torch.set_rng_state(saved["random_state"])
        self.epoch, self.last_step = saved["epoch"], saved["last_step"]
