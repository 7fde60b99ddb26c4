"""What the attention layers share: checks of their options, and the neutral start."""

from typing import Any

from torch import nn

from models.common import Conv
from utils.errors import UserError

FEWEST_HIDDEN = 8  # so that a narrow layer keeps something to learn from


def check_whole(layer: nn.Module, name: str, value: Any) -> int:
    """Return ``value`` when it is a whole number of at least 1, otherwise raise a UserError naming layer and option."""
    if type(value) is not int or value < 1:
        raise UserError(f"{type(layer).__name__}: {name} is {value!r}, expected a whole number of 1 or more")
    return value


def check_odd(layer: nn.Module, name: str, value: Any) -> int:
    """Return ``value`` when it is an odd number of at least 1, otherwise raise a UserError naming layer and option."""
    if type(value) is not int or value < 1 or value % 2 == 0:
        raise UserError(f"{type(layer).__name__}: {name} is {value!r}, expected an odd number such as 3 or 7")
    return value


def check_between(layer: nn.Module, name: str, value: Any, most: float) -> float:
    """Return ``value`` when 0 < value <= ``most``, otherwise raise a UserError naming layer and option."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise UserError(f"{type(layer).__name__}: {name} is {value!r}, expected a number above 0, at most {most}")
    return float(value)


def hidden_channels(layer: nn.Module, channels: int, reduction: int) -> int:
    """Return ``channels / reduction``, at least ``FEWEST_HIDDEN``: the narrow middle of a two-layer perceptron."""
    return max(check_whole(layer, "channels", channels) // check_whole(layer, "reduction", reduction), FEWEST_HIDDEN)


def silence(*modules: nn.Module) -> None:
    """Make modules give zero for every input. Of a Conv only the norm is set to zero, so that the weights can learn."""
    for module in modules:
        last = module.bn if isinstance(module, Conv) and module.bn is not None else module
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
