"""NAM's sparsity penalty: an L1 norm on scales, which presses those of what does not matter towards zero."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from utils.train.loss import PARTS, DetectionLoss


@runtime_checkable
class Sparse(Protocol):
    """A layer with scales that may become zero."""

    def sparse_scales(self) -> list[nn.Parameter]:
        """Return them."""


def sparse_scales(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the scales that layers of ``model`` offer by a method ``sparse_scales()``, by their names in its state.

    Of NAMAttention these are γ, such as ``model.24.Channel_Att.bn2.weight``, and λ. The batch norms of the network
    itself are offered by nobody.
    """
    layers = [module for module in model.modules() if isinstance(module, Sparse)]
    offered = {id(scale) for layer in layers for scale in layer.sparse_scales()}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in offered}


@dataclass(frozen=True)
class PenalisedLoss:
    """The detection loss with the penalty of NAM (arXiv 2111.12419) as a fourth part.

    L = (box + obj + cls + weight · (Σ|γ| + Σ|λ|)) · batch size. The penalty joins the mean over the batch, before v6.1
    multiplies by the batch size, so that its weight against the other parts is the same for every batch size.

    Attributes:
        detection: the other parts.
        weight: hyperparameter nam_l1.
        scales: parameters of the trained model.
        processes: how many share each batch; the penalty is shared out evenly.
    """

    detection: DetectionLoss
    weight: float
    scales: Sequence[nn.Parameter]
    processes: int = 1
    part_names: ClassVar[tuple[str, ...]] = (*PARTS, "nam")

    def __call__(self, outputs: list[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the loss of a batch; see DetectionLoss. The parts are (4,)."""
        loss, parts = self.detection(outputs, targets)
        penalty = self.weight * torch.stack([scale.abs().sum() for scale in self.scales]).sum()
        share = (penalty.detach() / self.processes)[None]
        return loss + penalty * outputs[0].shape[0], torch.cat((parts, share))
