"""From one batch to gradients: image size, precision, processes, and what to do when memory runs out."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utils.brightness import normalise
from utils.data.loader import Batch
from utils.log import LOGGER
from utils.memory import is_out_of_memory
from utils.train.loss import Criterion
from utils.train.precision import Precision
from utils.train.state import TrainState


@dataclass(frozen=True)
class MultiScale:
    """Another image size for each batch, from half to one and a half of ``image_size`` px in steps of ``stride``.

    The size follows from the run's seed and the batch's place, so that all processes choose the same.
    """

    image_size: int
    stride: int
    seed: int

    def __call__(self, images: Tensor, epoch: int, number: int) -> Tensor:
        """Resize (B, C, H, W) float ``images`` bilinearly, keeping their aspect up to the stride (v6.1)."""
        generator = np.random.default_rng([self.seed, epoch, number])
        drawn = int(generator.integers(self.image_size // 2, self.image_size * 3 // 2 + self.stride))
        factor = drawn // self.stride * self.stride / max(images.shape[2:])
        if factor == 1:
            return images
        size_hw = [math.ceil(side * factor / self.stride) * self.stride for side in images.shape[2:]]
        return F.interpolate(images, size_hw, mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class TrainingStep:
    """Computes the gradients of batches.

    Attributes:
        forward: the network, perhaps compiled, perhaps wrapped so that processes share gradients.
        criterion: the loss.
        precision: what the network computes in.
        gain: factor on the loss: the number of processes, whose gradients are averaged, times 4 for --quad (v6.1).
        multi_scale: changes image sizes.
        may_split: cut batches when memory runs out; several processes would lose step.
    """

    forward: nn.Module
    criterion: Criterion
    precision: Precision
    gain: float = 1.0
    multi_scale: MultiScale | None = None
    may_split: bool = True

    def __call__(self, state: TrainState, batch: Batch, number: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of a batch to those of ``state.model``; return its loss and the parts, both detached.

        When memory runs out, the batch is cut in two and done again, and so are all later ones: smaller batches, more
        of them accumulated. What was accumulated before is lost.
        """
        device = next(state.model.parameters()).device
        images = normalise(batch.images.to(device, non_blocking=True))
        if self.multi_scale:
            images = self.multi_scale(images, state.epoch, number)
        while True:
            try:
                return self._gradients(state, images, batch.targets)
            except (RuntimeError, MemoryError) as error:
                if not (is_out_of_memory(error) and self.may_split and state.splits < len(images)):
                    raise
            # Here, not in the except block: the exception holds on to the tensors that are in the way.
            state.splits *= 2
            state.optimizer.zero_grad()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            LOGGER.warning(
                f"WARNING: out of memory; going on with batches of {math.ceil(len(images) / state.splits)} images, "
                f"{state.splits} times as many for each step. A smaller --batch-size or --imgsz would avoid this"
            )

    def _gradients(self, state: TrainState, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        total, total_parts, first = images.new_zeros(()), images.new_zeros(len(self.criterion.part_names)), 0
        for chunk in images.chunk(state.splits if self.may_split else 1):
            chosen = targets[(targets[:, 0] >= first) & (targets[:, 0] < first + len(chunk))].clone()
            chosen[:, 0] -= first
            with self.precision.autocast():
                outputs = self.forward(chunk)
            loss, parts = self.criterion(outputs, chosen)
            state.scaler.scale(loss * self.gain).backward()
            total += loss.detach()
            total_parts += parts * (len(chunk) / len(images))
            first += len(chunk)
        return total, total_parts
