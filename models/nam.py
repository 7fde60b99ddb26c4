"""NAM: attention whose weights are the scales of a batch norm (Liu et al. 2021, arXiv 2111.12419).

Batch norm's scale grows with the importance of what it scales, so NAM needs no layers of its own to find out. F is the
(B, C, H, W) map:

    channel branch    y = BN(F),         w_c = |γ_c| / Σ_j |γ_j|,    F' = g(w · y) · F
    spatial branch    z = BN_s(F'),      w_p = |λ_p| / Σ_q |λ_q|,    F'' = g(w · z) · F'

BN has one scale γ a channel, BN_s ("pixel normalization") one scale λ a pixel. g is the gate. Training may add the
paper's penalty p · (Σ|γ| + Σ|λ|), hyperparameter ``nam_l1``, which presses the scales of what does not matter to zero.

Variants, each one keyword:

    gate="paper"       g = σ, as published; an untrained layer halves its input, since w · y is almost zero
    gate="identity"    g = 2σ, so that an untrained layer hardly changes it
    weights="sum"      w = |γ| / Σ|γ|, as published; with 512 channels the gate starts within 0.0005 of g(0)
    weights="mean"     w = C · |γ| / Σ|γ|, relative to the mean scale, so that the gate uses its whole range
    detach=True        no gradient through w, as in the published code; False lets it through

In evaluation the channel branch is g(a_c · x + b_c) · x with constants a and b; ``Model.fuse`` folds it to that.

The first plug-in layer, and the pattern for the next: a class, ``@layer(gates)``, nothing else to edit.
"""

import math
import sys
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if __name__ == "__main__":  # run as a script, Python looks for imports beside this file, not in the project
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from models.registry import gates, layer
from utils.errors import UserError

GATES = {"paper": 1.0, "identity": 2.0}  # factor on the sigmoid
WEIGHTS = ("sum", "mean")
START_SLOPE = 5e-4  # of w · y over x, in evaluation, at a neutral start; activations reach 10, and σ(0.005) is 0.5012
START_RANGE = 0.05  # standard deviation of w · y, in training, at a neutral start
SMALLEST_MAP = 100  # pixels, for which that holds: with "sum" the weight of a pixel is larger, the fewer there are


class PixelNorm(nn.modules.batchnorm._NormBase):
    """Batch norm over the images and channels of each pixel: the paper's "pixel normalization" for maps of any size.

    Scale λ, shift β and running statistics live on a reference grid and are interpolated (bilinear) to the map. A map
    of the grid's size gets exactly ``nn.BatchNorm1d(grid²)`` over its pixels, whose state_dict this layer shares. A map
    much smaller than the grid reaches only a part of it, so choose a grid of about the map's size.

    Args:
        grid: side of the reference grid, in pixels of the map.
        eps: added to the variance; YOLOv5's value.
        momentum: share of a batch in the running statistics; YOLOv5's value.
    """

    weight: nn.Parameter
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, grid: int, eps: float = 1e-3, momentum: float = 0.03) -> None:
        super().__init__(grid * grid, eps, momentum)
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a (B, C, H, W) map."""
        slope, offset, _ = self.steps(x)
        return x * slope + offset

    def steps(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a, b and the scale λ of each pixel of the map, (H, W), where a · x + b is the normalised map."""
        if self.training:
            scale, shift = self._on_map(torch.stack((self.weight, self.bias)), x).unbind()
            variance, mean = torch.var_mean(x.float(), dim=(0, 1), correction=0)  # (H, W)
            self._update_statistics(mean.detach(), variance.detach(), x.shape[0] * x.shape[1])
        else:
            stored = torch.stack((self.weight, self.bias, self.running_mean, self.running_var))
            scale, shift, mean, variance = self._on_map(stored, x).unbind()
        slope = scale * torch.rsqrt(variance + self.eps)
        return slope, shift - mean * slope, scale

    def _on_map(self, stored: Tensor, x: Tensor) -> Tensor:
        """Interpolate (n, grid²) values to (n, H, W)."""
        return _resize(stored.view(1, -1, self.grid, self.grid), x.shape[-2:])[0]

    def _update_statistics(self, mean: Tensor, variance: Tensor, count: int) -> None:
        unbiased = variance * (count / max(count - 1, 1))
        maps = torch.stack((mean, unbiased))[None]
        measured = _resize(maps, (self.grid, self.grid), antialias=True).view(2, -1)  # every pixel counts
        self.running_mean.lerp_(measured[0].to(self.running_mean), self.momentum)
        self.running_var.lerp_(measured[1].to(self.running_var), self.momentum)
        self.num_batches_tracked += 1

    def extra_repr(self) -> str:
        """Describe the layer for ``print``."""
        return f"grid={self.grid}, eps={self.eps}, momentum={self.momentum}"


def _resize(maps: Tensor, size_hw: tuple[int, int] | torch.Size, antialias: bool = False) -> Tensor:
    return F.interpolate(maps, size=size_hw, mode="bilinear", align_corners=False, antialias=antialias)


class Branch(nn.Module):
    """What both branches share: the variants, and the way from scales to a gate.

    Raises:
        UserError: ``gate`` or ``weights`` is none of those above.
    """

    def __init__(self, gate: str, weights: str, detach: bool) -> None:
        super().__init__()
        if gate not in GATES:
            raise UserError(f"NAMAttention: gate is {gate!r}, expected one of {', '.join(GATES)}")
        if not isinstance(detach, bool):
            raise UserError(f"NAMAttention: detach is {detach!r}, expected True or False")
        if weights not in WEIGHTS:
            raise UserError(f"NAMAttention: weights is {weights!r}, expected one of {', '.join(WEIGHTS)}")
        self.gain = GATES[gate]
        self.weights = weights
        self.detach = detach

    def relative(self, scale: Tensor) -> Tensor:
        """Turn scales into weights, |s| / Σ|s| or |s| / mean|s|; all-zero scales give zeros."""
        size = (scale.detach() if self.detach else scale).abs()
        size = size.to(torch.promote_types(size.dtype, torch.float32))  # the sum over a large map overflows FP16
        total = size.sum() if self.weights == "sum" else size.mean()
        return (size / total.clamp(min=torch.finfo(size.dtype).tiny)).to(scale.dtype)

    def flatten(self, norm: nn.modules.batchnorm._NormBase, count: int) -> None:
        """Set the scales and running variances of a fresh ``norm`` so that w · y is close to zero.

        Args:
            norm: of the branch.
            count: channels, or pixels of the map.
        """
        weight = 1 / count if self.weights == "sum" else 1.0
        scale = min(START_RANGE / weight, 1.0)
        nn.init.constant_(norm.weight, scale)
        nn.init.constant_(cast(Tensor, norm.running_var), (weight * scale / START_SLOPE) ** 2)

    def gate(self, importance: Tensor) -> Tensor:
        """Return g(importance)."""
        gate = torch.sigmoid(importance)
        return gate if self.gain == 1 else gate * self.gain


class Channel_Att(Branch):
    """Channel branch of NAM.

    Args:
        channels: channels of the map.
        t: taken for the sake of the published signature, which does not use it either.
        gate, weights, detach: variants, see the top of this file.
    """

    slope: Tensor
    offset: Tensor

    def __init__(
        self, channels: int, t: int = 16, gate: str = "paper", weights: str = "sum", detach: bool = True
    ) -> None:
        super().__init__(gate, weights, detach)
        self.channels = channels
        self.bn2: nn.BatchNorm2d | None = nn.BatchNorm2d(channels)  # None once folded

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        if self.bn2 is None:
            return self.gate(torch.addcmul(self.offset, x, self.slope)) * x
        weights = self.relative(self.bn2.weight).view(1, -1, 1, 1)
        return self.gate(self.bn2(x) * weights) * x

    def fold(self) -> None:
        """Replace the norm by the constants a, ``slope``, and b, ``offset``, of evaluation mode."""
        if self.bn2 is None:
            return
        norm, self.bn2 = self.bn2, None
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        with torch.no_grad():
            weights = self.relative(norm.weight)
            slope = weights * norm.weight / torch.sqrt(variance + norm.eps)
            offset = weights * norm.bias - slope * mean
        self.register_buffer("slope", slope.view(1, -1, 1, 1))
        self.register_buffer("offset", offset.view(1, -1, 1, 1))

    def start_flat(self) -> None:
        """Make the gate of the untrained branch a constant."""
        if self.bn2 is not None:
            self.flatten(self.bn2, self.channels)

    def sparse_scales(self) -> list[nn.Parameter]:
        """Return γ."""
        return [self.bn2.weight] if self.bn2 is not None else []


class Spatial_Att(Branch):
    """Spatial branch of NAM; works on maps of any height and width, see PixelNorm.

    Args:
        grid: side of the grid that λ lives on, in pixels of the map.
        gate, weights, detach: variants, see the top of this file.
    """

    def __init__(self, grid: int = 20, gate: str = "paper", weights: str = "sum", detach: bool = True) -> None:
        super().__init__(gate, weights, detach)
        if not isinstance(grid, int) or isinstance(grid, bool) or grid < 1:
            raise UserError(f"NAMAttention: grid is {grid!r}, expected a whole number from 1")
        self.norm = PixelNorm(grid)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        slope, offset, scale = self.norm.steps(x)
        weights = self.relative(scale)  # (H, W)
        slope, offset = (weights * slope).to(x.dtype), (weights * offset).to(x.dtype)
        return self.gate(x * slope + offset) * x

    def start_flat(self) -> None:
        """Make the gate of the untrained branch a constant."""
        self.flatten(self.norm, SMALLEST_MAP)

    def sparse_scales(self) -> list[nn.Parameter]:
        """Return λ, (grid²,)."""
        return [self.norm.weight]


@layer(gates)
class NAMAttention(nn.Module):
    """Normalization-based attention module: the channel branch, then, if wanted, the spatial one.

    Args:
        channels: channels of the map.
        out_channels: must equal ``channels`` when given; NAM keeps the shape.
        no_spatial: True leaves out the spatial branch, as the published code does.
        gate, weights, detach: variants, see the top of this file.
        grid: side of the spatial branch's grid; 20 is the stride-32 map of a 640 px image.

    Raises:
        UserError: ``out_channels`` differs from ``channels``, or a variant is unknown.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int | None = None,
        no_spatial: bool = True,
        gate: str = "paper",
        weights: str = "sum",
        detach: bool = True,
        grid: int = 20,
    ) -> None:
        super().__init__()
        if out_channels not in (None, channels):
            raise UserError(f"NAMAttention keeps its {channels} channels, it cannot give {out_channels}")
        if not isinstance(no_spatial, bool):
            raise UserError(f"NAMAttention: no_spatial is {no_spatial!r}, expected True or False")
        self.Channel_Att = Channel_Att(channels, gate=gate, weights=weights, detach=detach)
        self.Spatial_Att = None if no_spatial else Spatial_Att(grid, gate, weights, detach)

    def forward(self, x: Tensor) -> Tensor:
        """Gate a (B, C, H, W) map; the shape stays."""
        x = self.Channel_Att(x)
        return x if self.Spatial_Att is None else self.Spatial_Att(x)

    def start_neutral(self) -> float:
        """Make the untrained layer a constant factor, and return it.

        In evaluation, large running variances flatten w · y until training has replaced them. In training, w · y has
        its own variance, of ``START_RANGE``² at most: with weights="mean" the scales are made that small; only their
        relation to each other makes the weights, so no channel and no pixel loses importance.
        """
        branches = [branch for branch in (self.Channel_Att, self.Spatial_Att) if branch is not None]
        for branch in branches:
            branch.start_flat()
        return math.prod(branch.gain / 2 for branch in branches)


if __name__ == "__main__":
    print(NAMAttention(64)(torch.randn(1, 64, 64, 64)).shape)
