"""Folding a batch norm into the convolution before it."""

import torch
from torch import nn


def fuse_conv_and_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return one convolution equal to ``norm(convolution(x))`` in evaluation mode; neither argument is changed.

    W' = W · γ / √(σ² + ε) per output channel, b' = β + (b − μ) · γ / √(σ² + ε).
    """
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # (out channels,)
        bias = convolution.bias if convolution.bias is not None else torch.zeros_like(norm.running_mean)
        fused = nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            convolution.groups,
            device=convolution.weight.device,
            dtype=convolution.weight.dtype,
        ).requires_grad_(False)
        fused.weight.copy_(convolution.weight * scale.view(-1, 1, 1, 1))
        fused.bias.copy_(norm.bias + (bias - norm.running_mean) * scale)
    return fused
