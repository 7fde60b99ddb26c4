"""The optimizer: every trainable parameter in exactly one named group."""

import torch
from torch import nn

from utils.train.hyperparameters import Hyperparameters
from utils.train.schedule import GROUPS, StepSettings

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def group_parameters(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Sort all parameters that need a gradient into ``norm`` (scales of norms), ``bias`` and ``weight`` (all others).

    v6.1 forgets parameters that are not called weight or bias; here what fits nowhere else is a weight.
    """
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                groups[_group_of(module, name)].append(parameter)
    return groups


def _group_of(module: nn.Module, name: str) -> str:
    if name.endswith("bias"):
        return "bias"
    return "norm" if isinstance(module, NORMS) else "weight"


def make_optimizer(model: nn.Module, hyp: Hyperparameters, weight_decay: float) -> torch.optim.Optimizer:
    """Return SGD with Nesterov momentum; only the ``weight`` group decays.

    Args:
        model: whose parameters are trained.
        hyp: lr0 and momentum are read.
        weight_decay: already scaled to the batch size.
    """
    groups = [
        {"params": parameters, "name": name, "weight_decay": weight_decay if name == "weight" else 0.0}
        for name, parameters in group_parameters(model).items()
        if parameters
    ]
    device = next(model.parameters()).device
    fused = device.type in ("cpu", "cuda")  # one pass over each tensor; the others have no such kernel for sure
    return torch.optim.SGD(groups, lr=hyp.lr0, momentum=hyp.momentum, nesterov=True, fused=fused)


def apply_settings(optimizer: torch.optim.Optimizer, settings: StepSettings) -> None:
    """Set the learning rates and momentum of an iteration."""
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rates[group["name"]]
        group["momentum"] = settings.momentum
