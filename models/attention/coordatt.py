"""CoordAtt: coordinate attention (Hou et al. 2021, arXiv 2103.02907)."""

import torch
from torch import Tensor, nn

from models.attention.shared import hidden_channels, silence
from models.common import Conv
from models.registry import gates, layer


@layer(gates)
class CoordAtt(nn.Module):
    """Gate each channel by row and by column, from the means along the other direction.

        f = h-swish(BN(W [mean_W x; mean_H x])),    out = x · σ(W_h f_h) · σ(W_w f_w)

    The norm sees H + W values of each channel, so a single image suffices in training.

    Args:
        channels: channels of the map.
        reduction: how much narrower f is; 8 channels are kept at least.

    Raises:
        UserError: ``reduction`` is not a whole number of 1 or more.
    """

    def __init__(self, channels: int, reduction: int = 32) -> None:
        super().__init__()
        hidden = hidden_channels(self, channels, reduction)
        self.squeeze = Conv(channels, hidden, 1, activation=nn.Hardswish())
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        pooled = torch.cat((x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)), 2)  # (B, C, H + W, 1)
        rows, columns = self.squeeze(pooled).split((x.shape[2], x.shape[3]), 2)
        return x * self.rows(rows).sigmoid() * self.columns(columns.transpose(2, 3)).sigmoid()

    def start_neutral(self) -> float:
        """Make both fresh gates σ(0) everywhere and return their product."""
        silence(self.rows, self.columns)
        return 0.25
