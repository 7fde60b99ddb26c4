"""The seeded weights and images behind the golden forward passes."""

import numpy as np
import torch
from torch import Tensor, nn

from models.yolo import Model


def fill_with_seeded_weights(model: Model, base: int, scale_by_fan_in: bool) -> None:
    """Fill a model by the golden recipes: plain (``meta.recipe``) or, scaled by fan-in, recipe B."""
    norm_weights = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for i, (key, tensor) in enumerate(model.state_dict().items()):
        if key.endswith("anchors"):
            continue
        if key.endswith("num_batches_tracked"):
            tensor.zero_()
            continue
        values = np.random.RandomState(base + i).standard_normal(tuple(tensor.shape))
        if tensor.ndim >= 2 and scale_by_fan_in:
            values *= np.sqrt((3 if tensor.ndim == 4 else 1) / np.prod(tensor.shape[1:]))
        else:
            values = values * 0.05
        if key.endswith("running_var"):
            values = np.abs(values) + 0.5
        if key in norm_weights:
            values = 1 + values
        tensor.copy_(torch.from_numpy(values.astype(np.float32)))


def calibrate_norms(model: Model, images: Tensor) -> None:
    """Set running statistics to those of one batch, and go to evaluation mode."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()


def random_images(seed: int, batch: int, height: int, width: int) -> Tensor:
    """Return (batch, 3, height, width) in [0, 1)."""
    return torch.from_numpy(np.random.RandomState(seed).rand(batch, 3, height, width).astype(np.float32))
