"""A TensorFlow Lite graph as a TensorFlow function, operation by operation.

litert-torch gives the network in TensorFlow's own layout; each of its operations has a counterpart in TensorFlow, so
the network needs no second definition there.
"""

import importlib
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.formats.litert import convert
from models.formats.settings import ExportSettings
from models.formats.silence import silence
from models.yolo import Model
from utils.errors import UserError

SAME_ARGUMENTS = {  # operation: the function of TensorFlow that takes its inputs as they are
    "ABS": "abs",
    "ADD": "add",
    "BATCH_MATMUL": "matmul",
    "BROADCAST_TO": "broadcast_to",
    "DIV": "divide",
    "EQUAL": "equal",
    "EXP": "exp",
    "GATHER_ND": "gather_nd",
    "GREATER": "greater",
    "GREATER_EQUAL": "greater_equal",
    "LESS": "less",
    "LESS_EQUAL": "less_equal",
    "LOG": "math.log",
    "LOGICAL_AND": "logical_and",
    "LOGICAL_NOT": "logical_not",
    "LOGICAL_OR": "logical_or",
    "LOGISTIC": "sigmoid",
    "MAXIMUM": "maximum",
    "MINIMUM": "minimum",
    "MUL": "multiply",
    "NEG": "negative",
    "NOT_EQUAL": "not_equal",
    "PAD": "pad",
    "PADV2": "pad",
    "POW": "pow",
    "RELU": "nn.relu",
    "RELU6": "nn.relu6",
    "RESHAPE": "reshape",
    "RSQRT": "math.rsqrt",
    "SELECT": "where",
    "SELECT_V2": "where",
    "SLICE": "slice",
    "SOFTMAX": "nn.softmax",
    "SQRT": "sqrt",
    "SUB": "subtract",
    "TANH": "tanh",
    "TILE": "tile",
    "TRANSPOSE": "transpose",
}
REDUCTIONS = {
    "MEAN": "reduce_mean",
    "REDUCE_ANY": "reduce_any",
    "REDUCE_MAX": "reduce_max",
    "REDUCE_MIN": "reduce_min",
    "SUM": "reduce_sum",
}
ACTIVATIONS = {"NONE": "identity", "RELU": "nn.relu", "RELU6": "nn.relu6", "TANH": "tanh"}  # fused into an operation
NUMBERS = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "INT32": np.int32,
    "INT64": np.int64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


def convert_to_function(model: Model, settings: ExportSettings) -> Any:
    """Return a network as a concrete function of TensorFlow: input ``x``, output ``Identity``.

    Raises:
        ImportError: litert-torch or tensorflow is not installed.
        UserError: an operation of the network has no counterpart.
    """
    graph = convert(model, settings)  # first, see there
    with silence(settings.verbose):
        import tensorflow as tf

        return Translation(graph, tf).function()


class Translation:
    """The translation of one graph.

    Args:
        graph: a TensorFlow Lite file.
        tf: the module tensorflow.
    """

    def __init__(self, graph: bytes, tf: Any) -> None:
        self.tf = tf
        self.schema = importlib.import_module("ai_edge_litert.schema_py_generated")
        self.model = self.schema.ModelT.InitFromObj(self.schema.Model.GetRootAs(graph, 0))
        self.main = self.model.subgraphs[0]
        self.made: list[Any] = []  # descriptions of what the present operation makes
        self.names = _names(self.schema.BuiltinOperator)
        self.codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in self.model.operatorCodes]

    def function(self) -> Any:
        """Return the concrete function."""
        (images,) = self.main.inputs
        spec = self.tf.TensorSpec(tuple(self.main.tensors[images].shape), self.tf.float32, name="x")
        return self.tf.function(self._run, input_signature=[spec], autograph=False).get_concrete_function()

    def _run(self, images: Any) -> Any:
        """Build the graph: run every operation on TensorFlow's symbols."""
        values: dict[int, Any] = self._constants() | {self.main.inputs[0]: images}
        for step in self.main.operators:
            name = self.names[self.codes[step.opcodeIndex]]
            inputs = [values[index] for index in step.inputs if index >= 0]
            self.made = [self.main.tensors[index] for index in step.outputs]
            outputs = self._operation(name)(inputs, step.builtinOptions)
            outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
            values.update(zip(step.outputs, outputs, strict=True))
        return self.tf.identity(values[self.main.outputs[0]])

    def _constants(self) -> dict[int, np.ndarray]:
        """Return weights and other fixed values by their number."""
        types = _names(self.schema.TensorType)
        found: dict[int, np.ndarray] = {}
        for index, tensor in enumerate(self.main.tensors):
            data = self.model.buffers[tensor.buffer].data
            if data is not None and len(data):
                content = np.asarray(data, np.uint8).tobytes()
                found[index] = np.frombuffer(content, NUMBERS[types[tensor.type]]).reshape(_shape(tensor))
        return found

    def _operation(self, name: str) -> Callable[[Sequence[Any], Any], Any]:
        """Return what computes the outputs of an operation from its inputs and options."""
        if name in SAME_ARGUMENTS:
            function = self._named(SAME_ARGUMENTS[name])
            return lambda inputs, options: self._activated(function(*inputs), options)
        if name in REDUCTIONS:
            reduction = self._named(REDUCTIONS[name])
            return lambda inputs, options: reduction(*inputs, keepdims=options.keepDims)
        translated = getattr(self, f"_{name.lower()}", None)
        if translated is None:
            raise UserError(f"this network needs the operation {name}, which is not translated to TensorFlow yet")
        return translated

    def _named(self, name: str) -> Callable[..., Any]:
        return operator.attrgetter(name)(self.tf)

    def _activated(self, value: Any, options: Any) -> Any:
        """Apply the activation that is fused into an operation."""
        number = getattr(options, "fusedActivationFunction", 0)
        return self._named(ACTIVATIONS[_names(self.schema.ActivationFunctionType)[number]])(value) if number else value

    def _padding(self, options: Any) -> str:
        return _names(self.schema.Padding)[options.padding]

    def _conv_2d(self, inputs: Sequence[Any], options: Any) -> Any:
        images, kernel, *bias = inputs
        kernel = self.tf.transpose(kernel, (1, 2, 3, 0))  # out, h, w, in -> h, w, in, out
        strides = (options.strideH, options.strideW)
        dilations = (options.dilationHFactor, options.dilationWFactor)
        found = self.tf.nn.conv2d(images, kernel, strides, self._padding(options), dilations=dilations)
        return self._activated(found + bias[0] if bias else found, options)

    def _depthwise_conv_2d(self, inputs: Sequence[Any], options: Any) -> Any:
        images, kernel, *bias = inputs
        _, height, width, _ = kernel.shape  # (1, h, w, in * copies)
        kernel = self.tf.reshape(kernel, (height, width, images.shape[-1], -1))
        strides = (1, options.strideH, options.strideW, 1)
        dilations = (options.dilationHFactor, options.dilationWFactor)
        found = self.tf.nn.depthwise_conv2d(images, kernel, strides, self._padding(options), dilations=dilations)
        return self._activated(found + bias[0] if bias else found, options)

    def _hard_swish(self, inputs: Sequence[Any], options: Any) -> Any:
        return inputs[0] * self.tf.nn.relu6(inputs[0] + 3) / 6

    def _leaky_relu(self, inputs: Sequence[Any], options: Any) -> Any:
        return self.tf.nn.leaky_relu(inputs[0], options.alpha)

    def _fully_connected(self, inputs: Sequence[Any], options: Any) -> Any:
        values, weights, *bias = inputs
        found = self.tf.matmul(values, weights, transpose_b=True)
        return self._activated(found + bias[0] if bias else found, options)

    def _max_pool_2d(self, inputs: Sequence[Any], options: Any) -> Any:
        window, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
        return self.tf.nn.max_pool2d(inputs[0], window, strides, self._padding(options))

    def _average_pool_2d(self, inputs: Sequence[Any], options: Any) -> Any:
        window, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
        return self.tf.nn.avg_pool2d(inputs[0], window, strides, self._padding(options))

    def _resize_nearest_neighbor(self, inputs: Sequence[Any], options: Any) -> Any:
        half_pixels = {"align_corners": options.alignCorners, "half_pixel_centers": options.halfPixelCenters}
        return self.tf.raw_ops.ResizeNearestNeighbor(images=inputs[0], size=inputs[1], **half_pixels)

    def _resize_bilinear(self, inputs: Sequence[Any], options: Any) -> Any:
        half_pixels = {"align_corners": options.alignCorners, "half_pixel_centers": options.halfPixelCenters}
        return self.tf.raw_ops.ResizeBilinear(images=inputs[0], size=inputs[1], **half_pixels)

    def _concatenation(self, inputs: Sequence[Any], options: Any) -> Any:
        return self._activated(self.tf.concat(inputs, options.axis), options)

    def _cast(self, inputs: Sequence[Any], options: Any) -> Any:
        return self.tf.cast(inputs[0], NUMBERS[_names(self.schema.TensorType)[self.made[0].type]])

    def _arg_max(self, inputs: Sequence[Any], options: Any) -> Any:
        values, axis = inputs
        return self.tf.argmax(
            values, int(np.asarray(axis).item()), NUMBERS[_names(self.schema.TensorType)[options.outputType]]
        )

    def _topk_v2(self, inputs: Sequence[Any], options: Any) -> Any:
        values, indices = self.tf.math.top_k(inputs[0], inputs[1])
        return values, indices


def _names(enumeration: type) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(tensor.shape)
