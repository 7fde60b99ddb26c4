"""A table of a network's layers, and its size in figures."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from models.parser import unread_rows
from models.yolo import Model
from utils.log import LOGGER


def count_gflops(model: nn.Module, stride: int, channels: int, size: int = 640) -> float:
    """Return billions of floating-point operations, 2 per multiply-add, of convolutions and matrix products.

    Measured by torch on tensors without content, for a stride x stride image, and scaled to ``size`` x ``size`` px.
    v6.1 prints about 1 % more, since its counter includes norms and activations.
    """
    device = torch.device("meta")
    state = {name: tensor.to(device) for name, tensor in model.state_dict().items()}
    image = torch.zeros(1, channels, stride, stride, device=device)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        torch.func.functional_call(model, state, (image,))
    return counter.get_total_flops() / 1e9 * (size / stride) ** 2


def layer_table(model: Model) -> str:
    """Return v6.1's table: index, from, number, parameters, module, arguments."""
    lines = [f"{'':>3}{'from':>18}{'n':>3}{'params':>10}  {'module':<22}arguments"]
    for row in model.rows:
        source, arguments = str(row.source), str([*row.arguments, *([row.options] if row.options else [])])
        lines.append(f"{row.index:>3}{source:>18}{row.repeats:>3}{row.parameters:>10}  {row.type:<22}{arguments}")
    return "\n".join(lines)


def summary_line(model: Model) -> str:
    """Return v6.1's line of totals; layers are all modules, containers included, as it counts them."""
    layers = sum(1 for _ in model.modules())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    gradients = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    training = model.training
    try:
        gflops = f", {count_gflops(model.eval(), model.largest_stride, model.channels):.1f} GFLOPs at 640 px"
    except (RuntimeError, NotImplementedError):  # a plug-in that looks at values cannot run on tensors without any
        gflops = ""
    model.train(training)
    return f"Model Summary: {layers} layers, {parameters} parameters, {gradients} gradients{gflops}"


def describe_model(model: Model) -> None:
    """Print the table and the totals, and warn of layers whose output nobody reads."""
    LOGGER.info(layer_table(model))
    LOGGER.info(summary_line(model))
    for row in unread_rows(model.rows):
        LOGGER.warning(
            f"WARNING: nobody reads the output of layer {row.index} {row.type}; "
            f"put {row.index} into the 'from' of the layer that should, or remove it"
        )
