"""NAM: attention whose weights are the scales of a batch norm (Liu et al. 2021, arXiv 2111.12419).

The channel branch asks batch norm which channels vary, since its scale γ grows with a channel's importance:

    y = BN(x),    w_c = |γ_c| / Σ_j |γ_j|,    out = σ(w · y) · x

The first plug-in layer, and the pattern for the next: a class, ``@layer(gates)``, nothing else to edit.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

if __name__ == "__main__":  # run as a script, Python looks for imports beside this file, not in the project
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from models.registry import gates, layer
from utils.errors import UserError


class Channel_Att(nn.Module):
    """Channel branch of NAM.

    Args:
        channels: channels of the map.
        t: taken for the sake of the published signature, which does not use it either.
    """

    def __init__(self, channels: int, t: int = 16) -> None:
        super().__init__()
        self.channels = channels
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays. No gradient flows through the weights |γ| / Σ|γ|."""
        scale = self.bn2.weight.detach().abs()
        weights = scale / scale.sum().clamp(min=torch.finfo(scale.dtype).tiny)  # (C,); all-zero γ gives zeros
        return torch.sigmoid(self.bn2(x) * weights.view(1, -1, 1, 1)) * x


@layer(gates)
class NAMAttention(nn.Module):
    """Normalization-based attention module.

    Args:
        channels: channels of the map.
        out_channels: must equal ``channels`` when given; NAM keeps the shape.
        no_spatial: True leaves out the spatial branch, as the published code does. False is not there yet.

    Raises:
        UserError: ``out_channels`` differs from ``channels``, or ``no_spatial`` is False.
    """

    def __init__(self, channels: int, out_channels: int | None = None, no_spatial: bool = True) -> None:
        super().__init__()
        if out_channels not in (None, channels):
            raise UserError(f"NAMAttention keeps its {channels} channels, it cannot give {out_channels}")
        if not no_spatial:
            raise UserError("NAMAttention: the spatial branch is not available yet; use no_spatial=True")
        self.Channel_Att = Channel_Att(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        return self.Channel_Att(x)


if __name__ == "__main__":
    print(NAMAttention(64)(torch.randn(1, 64, 64, 64)).shape)
