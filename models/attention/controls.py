"""Controls: what a comparison of attention layers should be compared with. Neither has anything to learn."""

from torch import Tensor, nn

from models.attention.shared import check_between
from models.registry import gates, layer


@layer(gates)
class Identity(nn.Module):
    """Give the map as it is: the network without attention, its rows numbered as with it.

        out = x

    Args:
        channels: channels of the map; not needed.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """Return the (B, C, H, W) map."""
        return x

    def start_neutral(self) -> float:
        """Return what the layer multiplies by."""
        return 1.0


@layer(gates)
class ConstantGate(nn.Module):
    """Multiply by one constant: what a sigmoid gate does before it has learnt anything.

        out = x · value

    Args:
        channels: channels of the map; not needed.
        value: above 0, at most 2.

    Raises:
        UserError: ``value`` is not in that range.
    """

    def __init__(self, channels: int, value: float = 0.5) -> None:
        super().__init__()
        self.value = check_between(self, "value", value, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Scale a (B, C, H, W) map."""
        return x * self.value

    def start_neutral(self) -> float:
        """Return what the layer multiplies by."""
        return self.value
