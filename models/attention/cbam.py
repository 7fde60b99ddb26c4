"""CBAM: convolutional block attention module (Woo et al. 2018, arXiv 1807.06521)."""

import torch
from torch import Tensor, nn

from models.attention.shared import check_odd, hidden_channels, silence
from models.registry import gates, layer


@layer(gates)
class CBAM(nn.Module):
    """Gate the channels, then the places, each by means and maxima.

        x' = x · σ(MLP(mean_HW x) + MLP(max_HW x)),    out = x' · σ(conv_k[mean_C x'; max_C x'])

    Args:
        channels: channels of the map.
        reduction: how much narrower the perceptron is inside; 8 channels are kept at least.
        kernel_size: k, px.

    Raises:
        UserError: ``reduction`` is not a whole number of 1 or more, or ``kernel_size`` is not odd.
    """

    def __init__(self, channels: int, reduction: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        hidden = hidden_channels(self, channels, reduction)
        size = check_odd(self, "kernel_size", kernel_size)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)
        self.place = nn.Conv2d(2, 1, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        x = x * self._channel_gate(x)
        pooled = torch.cat((x.mean(1, keepdim=True), x.amax(1, keepdim=True)), 1)  # (B, 2, H, W)
        return x * self.place(pooled).sigmoid()

    def _channel_gate(self, x: Tensor) -> Tensor:
        """Return (B, C, 1, 1). The second layer is linear, so it runs once, on the sum."""
        means = self.squeeze(x.mean((2, 3), keepdim=True))
        maxima = self.squeeze(x.amax((2, 3), keepdim=True))
        return self.excite(means.relu() + maxima.relu()).sigmoid()

    def start_neutral(self) -> float:
        """Make both fresh gates σ(0) everywhere and return their product."""
        silence(self.excite, self.place)
        return 0.25
