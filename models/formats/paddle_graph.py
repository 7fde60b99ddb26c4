"""A network as a static program of Paddle, operation by operation.

torch.export reduces a network to a few dozen operations of torch; each has a counterpart in Paddle, so the network
needs no second definition there, and no file of a third format in between.
"""

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import fx

from models.formats.graph import ExportGraph
from models.formats.settings import ExportSettings
from models.yolo import Model
from utils.errors import UserError

INPUT = "images"
SAME_ARGUMENTS = {  # operation of torch: the function of Paddle that takes its arguments as they are
    "_softmax": "nn.functional.softmax",
    "abs": "abs",
    "bitwise_and": "bitwise_and",
    "bitwise_not": "bitwise_not",
    "bitwise_or": "bitwise_or",
    "bmm": "bmm",
    "cat": "concat",
    "clamp": "clip",
    "cumsum": "cumsum",
    "exp": "exp",
    "expand": "expand",
    "hardtanh": "nn.functional.hardtanh",
    "leaky_relu": "nn.functional.leaky_relu",
    "log": "log",
    "logical_and": "logical_and",
    "logical_not": "logical_not",
    "logical_or": "logical_or",
    "maximum": "maximum",
    "minimum": "minimum",
    "mm": "mm",
    "neg": "neg",
    "permute": "transpose",
    "relu": "nn.functional.relu",
    "rsqrt": "rsqrt",
    "sigmoid": "nn.functional.sigmoid",
    "split_with_sizes": "split",
    "sqrt": "sqrt",
    "squeeze": "squeeze",
    "tanh": "tanh",
    "topk": "topk",
    "unsqueeze": "unsqueeze",
    "view": "reshape",
    "where": "where",
}
PYTHON = {  # operations that Python's operators do as well, with numbers on either side
    "add": operator.add,
    "div": operator.truediv,
    "eq": operator.eq,
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
    "mul": operator.mul,
    "ne": operator.ne,
    "pow": operator.pow,
    "sub": operator.sub,
}
REDUCTIONS = {"amax": "max", "amin": "min", "any": "any", "mean": "mean", "sum": "sum"}
UNCHANGED = ("alias", "clone", "detach")
NUMBERS = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.bool: "bool",
}


class Translation:
    """The translation of one network.

    Args:
        model: fused, in evaluation mode.
        settings: of the export.
        paddle: the module of that name.
    """

    def __init__(self, model: Model, settings: ExportSettings, paddle: Any) -> None:
        self.paddle = paddle
        self.shape = (settings.batch_size, model.channels, *settings.input_hw)
        example = torch.zeros(self.shape)
        self.program = torch.export.export(ExportGraph(model, settings.nms).eval(), (example,)).run_decompositions()
        signature = self.program.graph_signature
        self.stored = signature.inputs_to_parameters | signature.inputs_to_buffers
        self.constants = signature.inputs_to_lifted_tensor_constants

    def save(self, prefix: Path) -> None:
        """Write the program and its weights, beginning with a path.

        Raises:
            UserError: an operation has no counterpart.
        """
        static = self.paddle.static
        self.paddle.enable_static()
        try:
            main, start = static.Program(), static.Program()
            with static.program_guard(main, start), static.scope_guard(static.Scope()):
                images = static.data(INPUT, self.shape, "float32")
                output = self._run(images)
                executor = static.Executor(self.paddle.CPUPlace())
                executor.run(start)
                static.save_inference_model(str(prefix), [images], [output], executor, program=main)
        finally:
            self.paddle.disable_static()

    def _run(self, images: Any) -> Any:
        """Build the program: run every operation on Paddle's symbols."""
        values: dict[fx.Node, Any] = {}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                value = self._value(node)
                values[node] = images if value is None else self._weight(value)
            elif node.op == "call_function":
                arguments = fx.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
                values[node] = self._operation(node)(*arguments[0], **arguments[1])
            else:
                ((output,),) = node.args
                return values[output]
        raise ValueError("the graph has no output")

    def _value(self, node: fx.Node) -> torch.Tensor | None:
        """Return what a placeholder stands for; None for the images."""
        if node.name in self.constants:
            return self.program.constants[self.constants[node.name]]
        name = self.stored.get(node.name)
        if name is None:
            return None
        return self.program.state_dict[name] if name in self.program.state_dict else self.program.constants[name]

    def _weight(self, value: torch.Tensor) -> Any:
        content, kind = value.detach().numpy(), NUMBERS[value.dtype]
        if not value.is_floating_point():
            return self.paddle.assign(content)
        initializer = self.paddle.nn.initializer.Assign(content)
        return self.paddle.static.create_parameter(list(content.shape), kind, default_initializer=initializer)

    def _operation(self, node: fx.Node) -> Callable[..., Any]:
        """Return what computes the output of an operation from its arguments."""
        if node.target is operator.getitem:
            return operator.getitem
        name = str(node.target).split(".")[1]  # aten.NAME.VARIANT
        if name in PYTHON:
            return PYTHON[name]
        if name in UNCHANGED:
            return lambda value, **_: value
        if name in SAME_ARGUMENTS:
            function = self._named(SAME_ARGUMENTS[name])
            return function if name != "_softmax" else lambda value, axis, _: function(value, axis)
        if name in REDUCTIONS:
            reduction = self._named(REDUCTIONS[name])
            return lambda value, axis=None, keepdim=False, **_: reduction(value, axis=axis or None, keepdim=keepdim)
        translated = getattr(self, f"_{name.strip('_')}", None)
        if translated is None:
            raise UserError(f"this network needs the operation {name}, which is not translated to Paddle yet")
        return translated

    def _named(self, name: str) -> Callable[..., Any]:
        return operator.attrgetter(name)(self.paddle)

    def _convolution(
        self,
        images: Any,
        kernel: Any,
        bias: Any,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        transposed: bool,
        output_padding: Sequence[int],
        groups: int,
    ) -> Any:
        functional = self.paddle.nn.functional
        if transposed:
            return functional.conv2d_transpose(
                images, kernel, bias, stride, padding, output_padding, groups=groups, dilation=dilation
            )
        if len(stride) == 1:
            return functional.conv1d(images, kernel, bias, stride, padding, dilation, groups)
        return functional.conv2d(images, kernel, bias, stride, padding, dilation, groups)

    def _addmm(self, bias: Any, first: Any, second: Any) -> Any:
        return self.paddle.mm(first, second) + bias

    def _max_pool2d_with_indices(
        self, images: Any, window: Sequence[int], stride: Sequence[int] = (), padding: Any = 0
    ) -> tuple[Any]:
        return (self.paddle.nn.functional.max_pool2d(images, window, stride or None, padding),)

    def _avg_pool2d(self, images: Any, window: Sequence[int], stride: Sequence[int] = (), padding: Any = 0) -> Any:
        return self.paddle.nn.functional.avg_pool2d(images, window, stride or None, padding, exclusive=False)

    def _upsample_nearest2d(self, images: Any, size: Any, scales: Any = None) -> Any:
        return self.paddle.nn.functional.interpolate(images, size or _scaled(images, scales), mode="nearest")

    def _upsample_bilinear2d(self, images: Any, size: Any, align_corners: bool, scales: Any = None) -> Any:
        size = size or _scaled(images, scales)
        return self.paddle.nn.functional.interpolate(images, size, mode="bilinear", align_corners=align_corners)

    def _select(self, value: Any, axis: int, index: int) -> Any:
        start = index % value.shape[axis]
        return self.paddle.squeeze(self.paddle.slice(value, [axis], [start], [start + 1]), axis)

    def _slice(self, value: Any, axis: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
        length = value.shape[axis]
        first, last, _ = slice(start, end).indices(length)
        return self.paddle.strided_slice(value, [axis], [first], [last], [step])

    def _full_like(self, value: Any, number: float, **_: Any) -> Any:
        return self.paddle.full_like(value, number)

    def _to_copy(self, value: Any, dtype: torch.dtype = torch.float32, **_: Any) -> Any:
        return self.paddle.cast(value, NUMBERS[dtype])

    def _assert_tensor_metadata(self, *_: Any, **__: Any) -> None:
        """Nothing: torch's own check of what it has traced."""

    def _max(self, value: Any, axis: int, keepdim: bool = False) -> tuple[Any, Any]:
        return self.paddle.max(value, axis, keepdim), self.paddle.argmax(value, axis, keepdim)

    def _gather(self, value: Any, axis: int, index: Any) -> Any:
        return self.paddle.take_along_axis(value, index, axis, broadcast=False)

    def _constant_pad_nd(self, value: Any, padding: Sequence[int], number: float = 0.0) -> Any:
        pairs = [(padding[at], padding[at + 1]) for at in range(0, len(padding), 2)][::-1]  # torch begins with the last
        full = [(0, 0)] * (len(value.shape) - len(pairs)) + pairs
        return self.paddle.nn.functional.pad(value, [length for pair in full for length in pair], value=number)


def _scaled(images: Any, scales: Sequence[float]) -> list[int]:
    """Return height and width times factors: Paddle's CPU kernels take no factors from a program."""
    return [int(length * scale) for length, scale in zip(images.shape[2:], scales, strict=True)]
