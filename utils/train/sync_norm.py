"""Batch norm over the images of all processes (``--sync-bn``)."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist


class SharedSum(torch.autograd.Function):
    """The sum of a tensor over all processes, each of which gets the gradients of all."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        """Return the sum."""
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        """Return the sum of the gradients."""
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose batch is spread over the processes; they must be connected.

    For devices that ``nn.SyncBatchNorm`` does not serve, such as CPUs over gloo. Statistics are taken in two passes,
    mean first, because a difference of large sums would lose digits.
    """

    @classmethod
    def like(cls, norm: nn.BatchNorm2d) -> "SharedBatchNorm2d":
        """Return the same layer with the same parameters and buffers."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        for name, parameter in norm.named_parameters():
            setattr(shared, name, parameter)
        for name, buffer in norm.named_buffers():
            setattr(shared, name, buffer)
        return shared

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        sums = torch.cat((values.sum((0, 2, 3)), values.new_full((1,), values.numel() / values.shape[1])))
        sums = SharedSum.apply(sums)
        count = sums[-1]
        mean = (sums[:-1] / count).view(1, -1, 1, 1)
        variance = SharedSum.apply((values - mean).square().sum((0, 2, 3))) / count
        self._follow(mean.detach().flatten(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        normal = (values - mean) * scale.view(1, -1, 1, 1)
        return (normal + self.bias.view(1, -1, 1, 1) if self.affine else normal).to(x.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), weight)


def share_batch_norms(model: nn.Module) -> nn.Module:
    """Replace the batch norms of ``model``, in place; parameters, buffers and their names stay the same.

    NAM's pixel norm keeps to the images of its own process.
    """
    if next(model.parameters()).device.type == "cuda":
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(model))
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, SharedBatchNorm2d.like(child))
    return model
