"""ECA: efficient channel attention (Wang et al. 2020, arXiv 1910.03151)."""

import math

from torch import Tensor, nn

from models.attention.shared import check_odd, check_whole, silence
from models.registry import gates, layer


def adaptive_kernel_size(channels: int) -> int:
    """Return the odd number nearest to (log₂ C + 1) / 2, the paper's γ = 2 and b = 1: 3 for 64 channels, 5 for 256."""
    return 2 * int((math.log2(channels) + 1) / 4) + 1


@layer(gates)
class ECA(nn.Module):
    """Gate each channel by the means of its neighbours, one small kernel sliding over the channels.

        z = mean over H, W of x,    out = x · σ(conv1d_k(z)),    k = |(log₂ C + 1) / 2|_odd

    Args:
        channels: channels of the map.
        kernel_size: k; None adapts it to the channels.

    Raises:
        UserError: ``kernel_size`` is not an odd number.
    """

    def __init__(self, channels: int, kernel_size: int | None = None) -> None:
        super().__init__()
        adaptive = adaptive_kernel_size(check_whole(self, "channels", channels))
        size = adaptive if kernel_size is None else check_odd(self, "kernel_size", kernel_size)
        self.slide = nn.Conv2d(1, 1, (size, 1), padding=(size // 2, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        column = x.mean((2, 3), keepdim=True).transpose(1, 2)  # (B, 1, C, 1)
        return x * self.slide(column).transpose(1, 2).sigmoid()

    def start_neutral(self) -> float:
        """Make the fresh gate σ(0) everywhere and return it."""
        silence(self.slide)
        return 0.5
