"""What every model format offers to detection and evaluation."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Metadata:
    """What a model says of itself.

    Attributes:
        stride: height and width of its input must be multiples of this, px.
        names: class names by index.
        input_hw: the only height and width it takes, or None when any will do.
    """

    stride: int
    names: dict[int, str]
    input_hw: tuple[int, int] | None = None


class Backend(Protocol):
    """A loaded model, whatever its format."""

    meta: Metadata

    def __call__(self, images: Tensor) -> Tensor:
        """Predict.

        Args:
            images: (B, 3, H, W) float RGB in [0, 1].

        Returns:
            (B, N, 5 + classes): centre x, y, width, height in px of the input; objectness and class scores in [0, 1].
        """
