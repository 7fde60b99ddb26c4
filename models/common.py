"""The building blocks that models/*.yaml name.

Short attribute names (``cv1``, ``m``, ``bn``) are checkpoint keys of YOLOv5 and stay as they are. Constructors take
their arguments in v6.1's order. Feature maps are (B, C, H, W).
"""

import math

import torch
from torch import Tensor, nn

from models.fuse import fuse_conv_and_norm
from models.registry import Plan, Site, joins, layer, projects, stacks

KernelSize = int | tuple[int, int]


def same_padding(kernel_size: KernelSize, padding: KernelSize | None = None) -> KernelSize:
    """Return ``padding``, or the half kernel that keeps the size at stride 1 when it is None."""
    if padding is not None:
        return padding
    return kernel_size // 2 if isinstance(kernel_size, int) else (kernel_size[0] // 2, kernel_size[1] // 2)


def make_activation(activation: bool | nn.Module) -> nn.Module:
    """Return SiLU for True, the module itself for a module, and no activation otherwise (v6.1's rule)."""
    if activation is True:
        return nn.SiLU()
    return activation if isinstance(activation, nn.Module) else nn.Identity()


@layer(projects)
class Conv(nn.Module):
    """Convolution without bias, batch norm, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: KernelSize = 1,
        stride: KernelSize = 1,
        padding: KernelSize | None = None,
        groups: int = 1,
        activation: bool | nn.Module = True,
    ) -> None:
        super().__init__()
        padding = same_padding(kernel_size, padding)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        self.bn: nn.BatchNorm2d | None = nn.BatchNorm2d(out_channels)  # None once fused into conv
        self.act = make_activation(activation)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.conv(x)
        if self.bn is not None:
            x = self.bn(x)
        return self.act(x)

    def fold(self) -> None:
        """Fold the norm into the convolution, for inference."""
        if self.bn is not None:
            self.conv, self.bn = fuse_conv_and_norm(self.conv, self.bn), None


@layer(projects)
class DWConv(Conv):
    """Depth-wise Conv: as many groups as the channel counts have in common."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: KernelSize = 1,
        stride: KernelSize = 1,
        activation: bool | nn.Module = True,
    ) -> None:
        groups = math.gcd(in_channels, out_channels)
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, activation=activation)


@layer(projects)
class Bottleneck(nn.Module):
    """1x1 and 3x3 Conv with a residual connection when the channels allow it."""

    def __init__(
        self, in_channels: int, out_channels: int, shortcut: bool = True, groups: int = 1, expansion: float = 0.5
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = Conv(in_channels, hidden, 1, 1)
        self.cv2 = Conv(hidden, out_channels, 3, 1, groups=groups)
        self.add = shortcut and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x + self.cv2(self.cv1(x)) if self.add else self.cv2(self.cv1(x))


@layer(stacks)
class BottleneckCSP(nn.Module):
    """Cross-stage partial bottleneck (arXiv 1911.11929)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        repeats: int = 1,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = Conv(in_channels, hidden, 1, 1)
        self.cv2 = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.cv3 = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.cv4 = Conv(2 * hidden, out_channels, 1, 1)
        self.bn = nn.BatchNorm2d(2 * hidden)
        self.act = nn.SiLU()
        self.m = nn.Sequential(*(Bottleneck(hidden, hidden, shortcut, groups, 1.0) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        joined = torch.cat((self.cv3(self.m(self.cv1(x))), self.cv2(x)), 1)  # (B, 2 * hidden, H, W)
        return self.cv4(self.act(self.bn(joined)))


@layer(stacks)
class C3(nn.Module):
    """Cross-stage partial block with three Convs. Subclasses put another chain in ``m``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        repeats: int = 1,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expansion)
        self.cv1 = Conv(in_channels, hidden, 1, 1)
        self.cv2 = Conv(in_channels, hidden, 1, 1)
        self.cv3 = Conv(2 * hidden, out_channels, 1)
        self.m = self.make_chain(hidden, repeats, shortcut, groups)

    def make_chain(self, channels: int, repeats: int, shortcut: bool, groups: int) -> nn.Module:
        """Return what the first half of the channels goes through."""
        return nn.Sequential(*(Bottleneck(channels, channels, shortcut, groups, 1.0) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class TransformerLayer(nn.Module):
    """Self-attention and a linear pair, each with a residual; no norm and no activation, as in v6.1."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.q = nn.Linear(channels, channels, bias=False)
        self.k = nn.Linear(channels, channels, bias=False)
        self.v = nn.Linear(channels, channels, bias=False)
        self.ma = nn.MultiheadAttention(channels, heads)
        self.fc1 = nn.Linear(channels, channels, bias=False)
        self.fc2 = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (H * W, B, C) tokens to the same shape."""
        x = self.ma(self.q(x), self.k(x), self.v(x))[0] + x
        return self.fc2(self.fc1(x)) + x


class TransformerBlock(nn.Module):
    """Transformer layers over the pixels of a map, with a learned position embedding (arXiv 2010.11929)."""

    def __init__(self, in_channels: int, out_channels: int, heads: int, layers: int) -> None:
        super().__init__()
        self.conv = Conv(in_channels, out_channels) if in_channels != out_channels else None
        self.linear = nn.Linear(out_channels, out_channels)
        self.tr = nn.Sequential(*(TransformerLayer(out_channels, heads) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if self.conv is not None:
            x = self.conv(x)
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).permute(2, 0, 1)  # (H * W, B, C)
        tokens = self.tr(tokens + self.linear(tokens))
        return tokens.permute(1, 2, 0).reshape(batch, channels, height, width)


@layer(stacks)
class C3TR(C3):
    """C3 whose chain is a TransformerBlock."""

    def make_chain(self, channels: int, repeats: int, shortcut: bool, groups: int) -> nn.Module:  # noqa: D102
        return TransformerBlock(channels, channels, 4, repeats)


@layer(projects)
class SPP(nn.Module):
    """Spatial pyramid pooling (arXiv 1406.4729)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_sizes: tuple[int, ...] = (5, 9, 13)) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.cv1 = Conv(in_channels, hidden, 1, 1)
        self.cv2 = Conv(hidden * (len(kernel_sizes) + 1), out_channels, 1, 1)
        self.m = nn.ModuleList(nn.MaxPool2d(size, stride=1, padding=size // 2) for size in kernel_sizes)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.cv1(x)
        return self.cv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))


@layer(projects)
class SPPF(nn.Module):
    """SPP by three pools in a row: with ``kernel_size`` 5 the same values as SPP (5, 9, 13), sooner."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 5) -> None:
        super().__init__()
        hidden = in_channels // 2
        self.cv1 = Conv(in_channels, hidden, 1, 1)
        self.cv2 = Conv(4 * hidden, out_channels, 1, 1)
        self.m = nn.MaxPool2d(kernel_size, stride=1, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        maps = [self.cv1(x)]
        for _ in range(3):
            maps.append(self.m(maps[-1]))
        return self.cv2(torch.cat(maps, 1))


@layer(projects)
class C3SPP(C3):
    """C3 whose chain is an SPP."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: tuple[int, ...] = (5, 9, 13),
        repeats: int = 1,
        shortcut: bool = True,
        groups: int = 1,
        expansion: float = 0.5,
    ) -> None:
        self.kernel_sizes = kernel_sizes  # before the chain is made
        super().__init__(in_channels, out_channels, repeats, shortcut, groups, expansion)

    def make_chain(self, channels: int, repeats: int, shortcut: bool, groups: int) -> nn.Module:  # noqa: D102
        return SPP(channels, channels, self.kernel_sizes)


@layer(projects)
class Focus(nn.Module):
    """Fold each 2x2 patch into channels, then Conv."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: KernelSize = 1,
        stride: KernelSize = 1,
        padding: KernelSize | None = None,
        groups: int = 1,
        activation: bool | nn.Module = True,
    ) -> None:
        super().__init__()
        self.conv = Conv(in_channels * 4, out_channels, kernel_size, stride, padding, groups, activation)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        patches = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.conv(torch.cat(patches, 1))  # (B, 4 * C, H / 2, W / 2) before the convolution


@layer(projects)
class GhostConv(nn.Module):
    """Half of the channels by convolution, half by a cheap depth-wise one on the first (arXiv 1911.11907)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: KernelSize = 1,
        stride: KernelSize = 1,
        groups: int = 1,
        activation: bool | nn.Module = True,
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.cv1 = Conv(in_channels, hidden, kernel_size, stride, None, groups, activation)
        self.cv2 = Conv(hidden, hidden, 5, 1, None, hidden, activation)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.cv1(x)
        return torch.cat((x, self.cv2(x)), 1)


@layer(projects)
class GhostBottleneck(nn.Module):
    """Bottleneck of two GhostConvs, with a depth-wise step between them at stride 2."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        hidden = out_channels // 2
        halves = stride == 2
        self.conv = nn.Sequential(
            GhostConv(in_channels, hidden, 1, 1),
            DWConv(hidden, hidden, kernel_size, stride, activation=False) if halves else nn.Identity(),
            GhostConv(hidden, out_channels, 1, 1, activation=False),
        )
        self.shortcut = (
            nn.Sequential(
                DWConv(in_channels, in_channels, kernel_size, stride, activation=False),
                Conv(in_channels, out_channels, 1, 1, activation=False),
            )
            if halves
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.conv(x) + self.shortcut(x)


@layer(stacks)
class C3Ghost(C3):
    """C3 whose chain is made of GhostBottlenecks."""

    def make_chain(self, channels: int, repeats: int, shortcut: bool, groups: int) -> nn.Module:  # noqa: D102
        return nn.Sequential(*(GhostBottleneck(channels, channels) for _ in range(repeats)))


def contracts(site: Site, gain: int = 2) -> Plan:
    """Plan a layer that turns each gain x gain patch into channels."""
    return Plan([gain], site.channels[0] * gain**2, site.repeats)


def expands(site: Site, gain: int = 2) -> Plan:
    """Plan the inverse of ``contracts``."""
    return Plan([gain], site.channels[0] // gain**2, site.repeats)


@layer(contracts)
class Contract(nn.Module):
    """Space to depth: (B, C, H, W) to (B, C * gain², H / gain, W / gain), patch position before channel."""

    def __init__(self, gain: int = 2) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        batch, channels, height, width = x.shape
        s = self.gain
        x = x.view(batch, channels, height // s, s, width // s, s)
        return x.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * s * s, height // s, width // s)


@layer(expands)
class Expand(nn.Module):
    """Depth to space, the inverse of Contract: (B, C, H, W) to (B, C / gain², H * gain, W * gain)."""

    def __init__(self, gain: int = 2) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        batch, channels, height, width = x.shape
        s = self.gain
        x = x.view(batch, s, s, channels // s**2, height, width)
        return x.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // s**2, height * s, width * s)


@layer(joins)
class Concat(nn.Module):
    """Join a list of maps along one dimension."""

    def __init__(self, dimension: int = 1) -> None:
        super().__init__()
        self.d = dimension

    def forward(self, maps: list[Tensor]) -> Tensor:  # noqa: D102
        return torch.cat(maps, self.d)
