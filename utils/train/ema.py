"""Exponential moving average of a model's weights, which is what is validated and kept."""

import copy
import math

import torch
from torch import Tensor, nn

DECAY = 0.9999
RAMP = 2000  # updates


def decay_after(updates: int) -> float:
    """Return the decay of the given update, from almost 0 for the first ones up to 0.9999 (v6.1)."""
    return DECAY * (1 - math.exp(-updates / RAMP))


class ModelAverage:
    """Average of all floating entries of a model's state, parameters and buffers.

    Attributes:
        model: the average, in evaluation mode.
        updates: number of updates so far.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.updates = 0
        self._followed: nn.Module | None = None  # the model that the second of these lists belongs to
        self._pairs: tuple[list[Tensor], list[Tensor]] = ([], [])

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards ``model``, after an optimizer step. Integer buffers stay as they were."""
        self.updates += 1
        if self._followed is not model:  # tensors of a model change in place only, so they are looked up once
            average, current = self.model.state_dict(), model.state_dict()
            names = [name for name, tensor in average.items() if tensor.is_floating_point()]
            self._pairs = [average[name] for name in names], [current[name] for name in names]
            self._followed = model
        torch._foreach_lerp_(*self._pairs, 1 - decay_after(self.updates))
