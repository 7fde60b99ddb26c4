"""The optimizer: every trainable parameter in exactly one named group."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from utils.errors import UserError
from utils.train.hyperparameters import Hyperparameters
from utils.train.schedule import GROUPS, StepSettings

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
ADAM_BETA2 = 0.999


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


def make_optimizer(
    model: nn.Module, hyp: Hyperparameters, weight_decay: float, kind: str = "SGD"
) -> torch.optim.Optimizer:
    """Return an optimizer of which only the ``weight`` group decays.

    v6.1's AdamW lets norms and biases decay by torch's default of 0.01, which later versions and this one do not.

    Args:
        model: whose parameters are trained.
        hyp: lr0 and momentum are read.
        weight_decay: already scaled to the batch size.
        kind: ``"SGD"`` with Nesterov momentum, ``"Adam"`` or ``"AdamW"`` with the momentum as their β1.
    """
    groups = [
        {"params": parameters, "name": name, "weight_decay": weight_decay if name == "weight" else 0.0}
        for name, parameters in group_parameters(model).items()
        if parameters
    ]
    device = next(model.parameters()).device
    fused = device.type in ("cpu", "cuda")  # one pass over each tensor; the others have no such kernel for sure
    if kind == "SGD":
        return torch.optim.SGD(groups, lr=hyp.lr0, momentum=hyp.momentum, nesterov=True, fused=fused)
    adaptive = {"Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}[kind]
    return adaptive(groups, lr=hyp.lr0, betas=(hyp.momentum, ADAM_BETA2), fused=fused)


def freeze_layers(model: nn.Module, layers: Sequence[int]) -> list[str]:
    """Exclude layers from training; their batch norm statistics still follow the images (v6.1).

    Args:
        model: with its layers in ``model.model``.
        layers: one number N for layers 0 to N - 1, several for just these.

    Returns:
        the names of the frozen parameters.

    Raises:
        UserError: there is no such layer, or nothing is left to train.
    """
    chosen = set(range(layers[0]) if len(layers) == 1 else layers)
    count = len(cast(nn.ModuleList, model.model))
    if chosen and max(chosen) >= count:
        raise UserError(f"--freeze {' '.join(map(str, layers))}: the network has the layers 0 to {count - 1}")
    frozen = []
    for name, parameter in model.named_parameters():
        if int(name.split(".")[1]) in chosen:
            parameter.requires_grad_(False)
            frozen.append(name)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"--freeze {' '.join(map(str, layers))} leaves no layer to train; freeze fewer")
    return frozen


def apply_settings(optimizer: torch.optim.Optimizer, settings: StepSettings) -> None:
    """Set the learning rates of an iteration, and the momentum of SGD (Adam keeps its β1, as in v6.1)."""
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rates[group["name"]]
        if "momentum" in group:
            group["momentum"] = settings.momentum
