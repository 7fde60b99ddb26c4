"""Folding a batch norm into the convolution before it."""

import copy
from typing import cast

import torch
from torch import Tensor, nn


def fuse_conv_and_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return one convolution equal to ``norm(convolution(x))`` in evaluation mode; neither argument is changed.

    W' = W · γ / √(σ² + ε) per output channel, b' = β + (b − μ) · γ / √(σ² + ε).
    """
    with torch.no_grad():
        mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
        scale = norm.weight / torch.sqrt(variance + norm.eps)  # (out channels,)
        bias = torch.zeros_like(mean) if convolution.bias is None else convolution.bias
        fused = copy.deepcopy(convolution)
        fused.weight = nn.Parameter(convolution.weight * scale.view(-1, 1, 1, 1), requires_grad=False)
        fused.bias = nn.Parameter(norm.bias + (bias - mean) * scale, requires_grad=False)
    return fused
