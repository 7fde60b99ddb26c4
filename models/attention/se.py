"""SE: squeeze and excitation (Hu et al. 2018, arXiv 1709.01507)."""

from torch import Tensor, nn

from models.attention.shared import hidden_channels, silence
from models.registry import gates, layer


@layer(gates)
class SE(nn.Module):
    """Gate each channel by what the means of all channels say.

        z = mean over H, W of x,    out = x · σ(W₂ ReLU(W₁ z))

    Args:
        channels: channels of the map.
        reduction: how much narrower W₁ makes the vector; 8 channels are kept at least.

    Raises:
        UserError: ``reduction`` is not a whole number of 1 or more.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = hidden_channels(self, channels, reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.excite = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        hidden = self.squeeze(x.mean((2, 3), keepdim=True)).relu()  # (B, hidden, 1, 1)
        return x * self.excite(hidden).sigmoid()

    def start_neutral(self) -> float:
        """Make the fresh gate σ(0) everywhere and return it."""
        silence(self.excite)
        return 0.5
