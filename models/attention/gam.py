"""GAM: global attention mechanism (Liu et al. 2021, arXiv 2112.05561)."""

from torch import Tensor, nn

from models.attention.shared import check_odd, hidden_channels, silence
from models.common import Conv
from models.registry import gates, layer


@layer(gates)
class GAM(nn.Module):
    """Gate the channels at every place, then the places in every channel; nothing is pooled.

        x' = x · σ(W₂ ReLU(W₁ x)),    out = x' · σ(BN(conv_k(ReLU(BN(conv_k(x'))))))

    W₁ and W₂ act on the channels of one place, which makes them 1x1 convolutions. The two k x k convolutions are full,
    so the layer is large: about 2 k² C² / reduction weights.

    Args:
        channels: channels of the map.
        reduction: how much narrower both gates are inside; 8 channels are kept at least.
        kernel_size: k, px.

    Raises:
        UserError: ``reduction`` is not a whole number of 1 or more, or ``kernel_size`` is not odd.
    """

    def __init__(self, channels: int, reduction: int = 4, kernel_size: int = 7) -> None:
        super().__init__()
        hidden = hidden_channels(self, channels, reduction)
        size = check_odd(self, "kernel_size", kernel_size)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)
        self.gather = Conv(channels, hidden, size, activation=nn.ReLU())
        self.place = Conv(hidden, channels, size, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        x = x * self.excite(self.squeeze(x).relu()).sigmoid()
        return x * self.place(self.gather(x)).sigmoid()

    def start_neutral(self) -> float:
        """Make both fresh gates σ(0) everywhere and return their product."""
        silence(self.excite, self.place)
        return 0.25
