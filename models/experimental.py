"""Further layers that user YAMLs name. Arguments and attribute names as in YOLOv5."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from models.common import C3, Conv
from models.registry import layer, projects, stacks


@layer(projects)
class CrossConv(nn.Module):
    """A 1 x k and a k x 1 Conv in a row, with a residual when asked for and possible."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        expansion: float = 1.0,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = Conv(in_channels, hidden, (1, kernel_size), (1, stride))
        self.cv2 = Conv(hidden, out_channels, (kernel_size, 1), (stride, 1), groups=groups)
        self.add = shortcut and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


@layer(stacks)
class C3x(C3):
    """C3 whose chain is made of CrossConvs (later than v6.1)."""

    def make_chain(self, channels: int, repeats: int, shortcut: bool, groups: int) -> nn.Module:  # noqa: D102
        return nn.Sequential(*(CrossConv(channels, channels, 3, 1, groups, 1.0, shortcut) for _ in range(repeats)))


@layer(projects)
class MixConv2d(nn.Module):
    """Convolutions of several kernel sizes side by side (arXiv 1907.09595).

    Args:
        in_channels: channels in.
        out_channels: channels out, shared among the kernel sizes.
        kernel_sizes: one convolution each.
        stride: of every convolution.
        equal_channels: share channels equally; otherwise so that each convolution has about as many weights.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: tuple[int, ...] = (1, 3),
        stride: int = 1,
        equal_channels: bool = True,
    ) -> None:
        super().__init__()
        split = _equal_channels if equal_channels else _equal_weights
        self.m = nn.ModuleList(
            nn.Conv2d(in_channels, out, size, stride, size // 2, groups=math.gcd(in_channels, out), bias=False)
            for size, out in zip(kernel_sizes, split(out_channels, kernel_sizes), strict=True)
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.act(self.bn(torch.cat([convolution(x) for convolution in self.m], 1)))


def _equal_channels(channels: int, kernel_sizes: tuple[int, ...]) -> list[int]:
    groups = np.floor(np.linspace(0, len(kernel_sizes) - 1e-6, channels))
    return [int((groups == group).sum()) for group in range(len(kernel_sizes))]


def _equal_weights(channels: int, kernel_sizes: tuple[int, ...]) -> list[int]:
    """Solve c_i * k_i² equal for all i with sum c_i = channels, in the least-squares sense."""
    count = len(kernel_sizes)
    squares = np.array(kernel_sizes, float) ** 2
    equations = np.zeros((count, count))
    equations[0] = 1  # the channels add up
    for i in range(1, count):
        equations[i, i - 1], equations[i, i] = squares[i - 1], -squares[i]
    wanted = np.array([channels, *[0] * (count - 1)], float)
    return [int(value) for value in np.linalg.lstsq(equations, wanted, rcond=None)[0].round()]


@layer(projects)
class DWConvTranspose2d(nn.ConvTranspose2d):
    """Depth-wise transposed convolution (later than v6.1)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        padding: int = 0,
        output_padding: int = 0,
    ) -> None:
        groups = math.gcd(in_channels, out_channels)
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, output_padding, groups)
