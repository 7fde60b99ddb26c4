"""What an ONNX file says of itself: its input, the output that counts, and the facts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.formats.facts import Facts, from_texts
from utils.errors import UserError

TABLE_AXES = 3  # image, box, values of a box


@dataclass(frozen=True)
class Port:
    """An input or output: its name, whether it is FP16, and its shape: None where open, () if not told."""

    name: str
    half: bool
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class OnnxFile:
    """The input and output that matter, and the facts; {} if there are none."""

    input: Port
    output: Port
    facts: Facts


def described_by_onnx_runtime(path: Path, session: Any) -> OnnxFile:
    """Return what a session of ONNX Runtime knows of its file.

    Raises:
        UserError: it is no detector, or its metadata are damaged.
    """
    inputs, outputs = (
        [Port(port.name, port.type == "tensor(float16)", tuple(map(_length, port.shape))) for port in ports]
        for ports in (session.get_inputs(), session.get_outputs())
    )
    return _described(path, inputs, outputs, session.get_modelmeta().custom_metadata_map)


def described_by_onnx(path: Path) -> OnnxFile:
    """Return what the package onnx reads in a file: OpenCV runs such files, but tells neither names nor shapes.

    Raises:
        ImportError: onnx is not installed.
        UserError: the file is damaged, or no detector.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own, which is in no public place
        raise UserError(f"'{path}' is no ONNX file, or it is damaged; export the model again") from error
    weights = {tensor.name for tensor in model.graph.initializer}  # old files list them as inputs, too
    inputs = [_port(value) for value in model.graph.input if value.name not in weights]
    texts = {pair.key: pair.value for pair in model.metadata_props}
    return _described(path, inputs, list(map(_port, model.graph.output)), texts)


def _port(value: Any) -> Port:
    import onnx

    tensor = value.type.tensor_type
    axes = [_length(axis.dim_value) for axis in tensor.shape.dim]
    return Port(value.name, tensor.elem_type == onnx.TensorProto.FLOAT16, tuple(axes))


def _length(axis: Any) -> int | None:
    """Return the length of an axis, None where the file has a name for it, or nothing."""
    return axis if isinstance(axis, int) and axis > 0 else None


def _described(path: Path, inputs: list[Port], outputs: Iterable[Port], texts: Mapping[str, str]) -> OnnxFile:
    tables = [port for port in outputs if len(port.shape) in (0, TABLE_AXES)]  # v6.1 has raw maps besides
    if not inputs or len(inputs[0].shape) != 4 or not tables:
        raise UserError(f"'{path}' is no detector: expected images in and a table of boxes out")
    try:
        facts = from_texts(texts)
    except ValueError as error:
        raise UserError(f"the metadata of '{path}' are damaged; export the model again") from error
    shape = inputs[0].shape
    return OnnxFile(inputs[0], tables[0], {"shape": shape, **facts} if shape[1] else facts)
