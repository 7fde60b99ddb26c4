"""One pass of a new network over an empty image, to see whether its layers fit together and what its strides are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from models.parser import Row, as_list
from models.registry import REGISTRY
from utils.errors import UserError

if TYPE_CHECKING:
    from models.yolo import Model

SIZE = 256  # px; a multiple of every stride in use


def measure_strides(model: "Model") -> list[float]:
    """Return the pixels per grid cell of each level.

    Runs in evaluation mode, so that no batch statistics change; leaves the model in training mode.

    Raises:
        UserError: a layer does not take what it reads, or gives another shape than it promises; the row is named.
    """
    device = next(model.parameters()).device
    model.eval()
    model.detect.train()  # raw outputs: decoding needs the strides
    position: list[tuple[Row, str]] = []
    try:
        with torch.no_grad(), _shapes_checked(model, position):
            raw = model(torch.zeros(1, model.channels, SIZE, SIZE, device=device))
    except UserError:
        raise
    except Exception as error:  # as many kinds as there are ways not to fit
        row, read = position[-1]
        plugin = REGISTRY.find(row.type).plugin
        where = f" at {plugin.position(error)}" if plugin else ""
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"{_name(model, row)}: cannot run on {read} ({type(error).__name__}{where}: {first})"
        ) from error
    model.train()
    return [SIZE / output.shape[2] for output in raw]


@contextmanager
def _shapes_checked(model: "Model", position: list[tuple[Row, str]]) -> Iterator[None]:
    """Check the output of every layer but the head, and note in ``position`` which rows have begun, on what shapes."""
    handles = []
    for row, module in zip(model.rows, model.model, strict=True):

        def begin(_module: nn.Module, inputs: tuple[Any, ...], row: Row = row) -> None:
            position.append((row, ", ".join(_shape(one) for one in as_list(inputs[0]))))

        def check(_module: nn.Module, inputs: tuple[Any, ...], output: Any, row: Row = row) -> None:
            _check_output(_name(model, row), row, inputs[0], output)

        handles.append(module.register_forward_pre_hook(begin))
        if row.index < len(model.rows) - 1:
            handles.append(module.register_forward_hook(check))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_output(name: str, row: Row, read: Any, output: Any) -> None:
    if not isinstance(output, Tensor) or output.ndim != 4:
        got = f"a map of shape {_shape(output)}" if isinstance(output, Tensor) else type(output).__name__
        raise UserError(f"{name}: gives {got}, expected one map (B, C, H, W)")
    if row.is_gate and output.shape != read.shape:
        raise UserError(
            f"{name}: changes the shape, {_shape(read)} in and {_shape(output)} out; "
            "a layer under @layer(gates) must keep it, see models/registry.py for other planners"
        )
    if output.dtype != torch.get_default_dtype():  # that of the image
        wanted, got = (str(kind).removeprefix("torch.") for kind in (torch.get_default_dtype(), output.dtype))
        raise UserError(f"{name}: gives {got}, expected {wanted} as it reads")
    if output.shape[1] != row.out_channels:
        raise UserError(f"{name}: gives {output.shape[1]} channels, but its planner promised {row.out_channels}")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _name(model: "Model", row: Row) -> str:
    return f"{model.yaml_file}: row {row.index} {row.type}"
