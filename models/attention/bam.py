"""BAM: bottleneck attention module (Park et al. 2018, arXiv 1807.06514)."""

from torch import Tensor, nn
from torch.nn import functional as F

from models.attention.shared import check_whole, hidden_channels, silence
from models.common import Conv
from models.registry import gates, layer


class PooledNorm(nn.BatchNorm2d):
    """Batch norm that takes its running statistics when it meets one value a channel, which has no variance."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.03)  # what Model gives every plain BatchNorm2d

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


@layer(gates)
class BAM(nn.Module):
    """Add a gate made of a channel branch and a branch of dilated convolutions to the identity.

        c = BN(W₂ ReLU(W₁ mean_HW x)),    s = BN(conv1(conv3(conv3(conv1(x))))),    out = x · (1 + σ(c + s))

    The inner convolutions are followed by ReLU. In training, a batch of one image has no statistics for c; its norm
    then uses the running ones.

    Args:
        channels: channels of the map.
        reduction: how much narrower both branches are inside; 8 channels are kept at least.
        dilation: of the two 3x3 convolutions, px.

    Raises:
        UserError: ``reduction`` or ``dilation`` is not a whole number of 1 or more.
    """

    def __init__(self, channels: int, reduction: int = 16, dilation: int = 4) -> None:
        super().__init__()
        hidden = hidden_channels(self, channels, reduction)
        spread = check_whole(self, "dilation", dilation)
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = Conv(hidden, channels, 1, activation=False)
        self.surround = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=spread, dilation=spread),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=spread, dilation=spread),
            nn.ReLU(),
        )
        self.place = Conv(hidden, 1, 1, activation=False)
        self.excite.bn, self.place.bn = PooledNorm(channels), PooledNorm(1)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        channel = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu())  # (B, C, 1, 1)
        place = self.place(self.surround(x))  # (B, 1, H, W)
        return x * (1 + (channel + place).sigmoid())

    def start_neutral(self) -> float:
        """Make the fresh gate 1 + σ(0) everywhere and return it."""
        silence(self.excite, self.place)
        return 1.5
