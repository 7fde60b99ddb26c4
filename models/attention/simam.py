"""SimAM: a simple, parameter-free attention module (Yang et al., ICML 2021)."""

from torch import Tensor, nn

from models.attention.shared import check_between
from models.registry import gates, layer


@layer(gates)
class SimAM(nn.Module):
    """Gate each value by how far it stands out from its channel.

        out = x · σ(1 / e),    1 / e = (x − μ)² / (4 (σ² + λ)) + 1/2

    μ and σ² are mean and variance of the channel over its H · W places, as in the paper's equations (its published code
    divides by H · W − 1). There is no ``start_neutral``: without weights to set, the gate follows from the input alone.

    Args:
        channels: channels of the map; the formula does not need them.
        regularisation: λ, keeps flat channels finite.

    Raises:
        UserError: ``regularisation`` is not above 0, or above 1.
    """

    def __init__(self, channels: int, regularisation: float = 1e-4) -> None:
        super().__init__()
        self.regularisation = check_between(self, "regularisation", regularisation, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        squares = (x - x.mean((2, 3), keepdim=True)).square()
        variance = squares.mean((2, 3), keepdim=True)  # (B, C, 1, 1)
        return x * (squares / (4 * (variance + self.regularisation)) + 0.5).sigmoid()
