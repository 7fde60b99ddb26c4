"""Triplet attention (Misra et al. 2020, arXiv 2010.03045)."""

import torch
from torch import Tensor, nn

from models.attention.shared import check_odd, silence
from models.common import Conv
from models.registry import gates, layer

CHANNELS, ROWS, COLUMNS = 1, 2, 3  # axes of a (B, C, H, W) map


@layer(gates)
class TripletAttention(nn.Module):
    """Average three gates, one for each pair of axes, made from what remains when the third is pooled away.

        g_a = σ(BN(conv_k[max_a x; mean_a x])),    out = x · (g_C + g_H + g_W) / 3

    The paper rotates the map so that axis a takes the channels' place; here only the two pooled planes are turned.

    Args:
        channels: channels of the map; the formula does not need them.
        kernel_size: k, places.

    Raises:
        UserError: ``kernel_size`` is not an odd number.
    """

    def __init__(self, channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        size = check_odd(self, "kernel_size", kernel_size)
        self.over_channels = Conv(2, 1, size, activation=False)
        self.over_rows = Conv(2, 1, size, activation=False)
        self.over_columns = Conv(2, 1, size, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        places = _gate(self.over_channels, x, CHANNELS)  # (B, 1, H, W)
        columns = _gate(self.over_rows, x, ROWS)  # (B, C, 1, W)
        rows = _gate(self.over_columns, x, COLUMNS)  # (B, C, H, 1)
        return x * ((places + columns + rows) / 3)

    def start_neutral(self) -> float:
        """Make the three fresh gates σ(0) everywhere and return their mean."""
        silence(self.over_channels, self.over_rows, self.over_columns)
        return 0.5


def _gate(branch: nn.Module, x: Tensor, axis: int) -> Tensor:
    """Return the gate of the two axes beside ``axis``, which has length 1 in it."""
    pooled = torch.cat((x.amax(axis, keepdim=True), x.mean(axis, keepdim=True)), axis)  # length 2 along axis
    return branch(pooled.transpose(CHANNELS, axis)).sigmoid().transpose(CHANNELS, axis)
