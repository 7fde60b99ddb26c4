"""Nothing lost at step 0: new gates in a pretrained network start without changing what it computes.

A fresh gate multiplies its input by a constant, such as σ(0) = 0.5 (``start_neutral`` sets that up and returns it).
Whatever reads it would see half of what it was trained on, so the factor is divided out of the input weights of the
convolutions that read it, directly or through layers that pass a factor on (Concat, Upsample, pooling, new gates). The
gates stay as published, and training starts from what the pretrained network knows.
"""

import math
from collections import Counter

import torch
from torch import Tensor, fx, nn

from models.common import Concat
from models.registry import NeutralStart
from models.transfer import Transfer
from models.yolo import Detect, Model
from utils.errors import UserError

PASSING = (
    nn.Upsample,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Identity,
    nn.ZeroPad2d,
    nn.Dropout,
    nn.Dropout2d,
)  # f(kx) = k f(x)


def preserve_function(model: Model, transfer: Transfer) -> list[str]:
    """Set new gates to their neutral start, and divide their factor out of the layers that read them.

    Args:
        model: changed in place.
        transfer: what its rows got from the pretrained network.

    Returns:
        One line for each row whose effect could not be taken back, with the reason.

    Raises:
        UserError: a plug-in's ``start_neutral`` returned no positive number.
    """
    factors: list[Tensor | None] = []  # per row, what its output channels were multiplied by; None for ones
    problems: list[str] = []
    for row, got, module in zip(model.rows, transfer.rows, model.model, strict=True):
        new = got.origin is None
        name = f"layer {row.index} {row.type}"
        arriving = [factors[source] if source >= 0 else None for source in row.sources]
        factor = None
        if row.is_gate and not new and got.taken < got.total:
            problems.append(f"{name} got only {got.taken} of its {got.total} tensors")
        if row.is_gate and new:
            gain = _start_neutral(name, module)
            if gain is None:
                problems.append(f"{name} has no neutral start")
            factor = _times(arriving[0], gain or 1.0, row.out_channels)
        elif isinstance(module, Concat):
            channels = [model.rows[source].out_channels for source in row.sources]
            factor = _joined(arriving, channels)
        elif isinstance(module, PASSING):
            factor = arriving[0]
        elif new and any(one is not None for one in arriving):
            problems.append(f"{name} is new and reads a new gate")
        elif any(one is not None for one in arriving):
            problems += [f"{name} {problem}" for problem in _divide(module, arriving)]
        factors.append(factor)
    return problems


def _start_neutral(name: str, module: nn.Module) -> float | None:
    parts = list(module) if isinstance(module, nn.Sequential) else [module]  # a row with a number above 1 is a chain
    product = 1.0
    for part in parts:
        if not isinstance(part, NeutralStart):
            return None
        gain = part.start_neutral()
        if not isinstance(gain, int | float) or not 0 < gain < math.inf:
            raise UserError(f"{name}: start_neutral() returned {gain!r}, expected a number above 0")
        product *= gain
    return product


def _times(factor: Tensor | None, gain: float, channels: int) -> Tensor | None:
    if gain == 1:
        return factor
    return (torch.ones(channels) if factor is None else factor) * gain


def _joined(factors: list[Tensor | None], channels: list[int]) -> Tensor | None:
    if all(factor is None for factor in factors):
        return None
    return torch.cat([torch.ones(n) if one is None else one for one, n in zip(factors, channels, strict=True)])


def _divide(module: nn.Module, factors: list[Tensor | None]) -> list[str]:
    """Divide the input weights of what ``module`` reads by the factors; return why that is impossible, if it is."""
    if isinstance(module, Detect):
        readers = [entry_convolutions(convolution) for convolution in module.m]
    else:
        readers = [entry_convolutions(module)]
    if not all(readers) or len(readers) != len(factors):
        return ["reads a new gate other than by convolutions"]
    for factor, convolutions in zip(factors, readers, strict=True):
        for convolution in convolutions:
            if factor is not None:
                _divide_input(convolution, factor)
    return []


def _divide_input(convolution: nn.Conv2d, factor: Tensor) -> None:
    out_channels, channels = convolution.weight.shape[:2]  # channels of a group
    by_group = factor.to(convolution.weight).view(convolution.groups, 1, channels, 1, 1)
    with torch.no_grad():
        grouped = convolution.weight.unflatten(0, (convolution.groups, out_channels // convolution.groups))
        convolution.weight.copy_((grouped / by_group).flatten(0, 1))


class _Shallow(fx.Tracer):
    """Follows one module's own forward; its children stay closed."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return True


def entry_convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions that read the module's input; empty when anything else reads it, too."""
    if isinstance(module, nn.Conv2d):
        return [module] if module.padding_mode == "zeros" else []
    try:
        graph = _Shallow().trace(module)
    except Exception:  # a forward that looks at values or shapes cannot be followed
        return []
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found: dict[int, nn.Conv2d] = {}
    for user in next(iter(graph.nodes)).users:
        once = user.op == "call_module" and calls[user.target] == 1  # or another input would be divided with it
        inner = entry_convolutions(module.get_submodule(str(user.target))) if once else []
        if not inner:
            return []
        found |= {id(convolution): convolution for convolution in inner}
    return list(found.values())
