"""TensorFlow Lite (LiteRT): one file for phones and small computers, run by XNNPACK on the CPU."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.formats import appended
from models.formats.exported import DETECTION_COLUMNS, Runtime
from models.formats.facts import Facts
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.sharing import MOST_PARALLEL, shared
from models.formats.silence import silence
from utils.errors import UserError

if TYPE_CHECKING:
    from models.yolo import Model

RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite")  # the smallest first
MOST_CHANNELS = 4  # an axis of this length holds channels


def export(model: "Model", path: Path, settings: ExportSettings) -> None:
    """Write a network with FP16 weights, or in INT8; see ``models/formats/litert.py`` for inputs and outputs.

    Raises:
        ImportError: litert-torch or ai-edge-quantizer is not installed.
        UserError: the network cannot be converted.
    """
    from models.formats.litert import convert
    from models.formats.quantized import with_half_weights, with_integers

    graph = convert(model, settings)
    path.write_bytes(with_integers(graph, settings) if settings.int8 else with_half_weights(graph, settings))


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts behind the graph."""
    appended.write_facts(path, facts)


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load a file of this project or of YOLOv5, in FP32, FP16 or with quantised inputs and outputs.

    Raises:
        ImportError: no interpreter is installed.
        UserError: the file is damaged, or no detector of YOLOv5.
    """
    return load_with(path, settings, find_runtime())


def find_runtime() -> Any:
    """Return the module of the first interpreter that is installed."""
    failures = []
    for name in RUNTIMES:
        try:
            with silence():
                return importlib.import_module(name)
        except ImportError as error:
            failures.append(error)
    raise failures[0]


def load_with(path: Path, settings: LoadSettings, runtime: Any, delegates: Sequence[Any] = ()) -> Runtime:
    """Load a file with given delegates; see ``load``."""
    facts = appended.read_facts(path)
    parallel = min(settings.parallel or 1, MOST_PARALLEL)
    threads = max((settings.threads or os.cpu_count() or 1) // parallel, 1)
    try:
        with silence():
            interpreters = [
                runtime.Interpreter(str(path), num_threads=threads, experimental_delegates=list(delegates) or None)
                for _ in range(parallel)
            ]
            for interpreter in interpreters:
                interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"'{path}' is no TensorFlow Lite file, or it is damaged: {error}") from error
    sessions = [_Session(interpreter, path) for interpreter in interpreters]
    first = sessions[0]
    return Runtime(
        shared(sessions),
        facts,
        batch_size=first.batch_size,
        input_hw=first.input_hw,
        classes=None if facts.get("nms") else first.columns - 5,
        parallel=parallel,
    )


class _Session:
    """One interpreter, for one thread at a time.

    Attributes:
        batch_size, input_hw: the only ones it takes.
        columns: of the output.
    """

    def __init__(self, interpreter: Any, path: Path) -> None:
        self.interpreter = interpreter
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        outputs = [output for output in outputs if len(output["shape"]) == 3]  # v6.1 may add raw maps
        if len(inputs) != 1 or len(inputs[0]["shape"]) != 4 or len(outputs) != 1:
            raise UserError(f"'{path}' is no detector: expected one image in and one table of boxes out")
        self.input, self.output = inputs[0], outputs[0]
        self.columns = int(self.output["shape"][2])
        if self.columns < DETECTION_COLUMNS:
            raise UserError(f"'{path}' is no detector of YOLOv5: {self.columns} values a box")
        batch, *axes = (int(length) for length in self.input["shape"])
        self.channels_last = axes[2] <= MOST_CHANNELS
        height, width = axes[:2] if self.channels_last else axes[1:]
        self.batch_size, self.input_hw = batch, (height, width)
        self.to_pixels = np.array([width, height, width, height], np.float32)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Predict; see Runtime."""
        pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if self.channels_last else images
        self.interpreter.set_tensor(self.input["index"], to_integers(pixels, self.input))
        self.interpreter.invoke()
        found = to_floats(self.interpreter.get_tensor(self.output["index"]), self.output)
        found[..., :4] *= self.to_pixels
        return found


def to_integers(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Return values as a tensor of a graph wants them: as they are, or quantised by its scale and zero point."""
    if tensor["dtype"] == np.float32:
        return values
    scale, zero = tensor["quantization"]
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale + zero), limits.min, limits.max).astype(tensor["dtype"])


def to_floats(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Undo ``to_integers``; a copy."""
    if tensor["dtype"] == np.float32:
        return values.copy()
    scale, zero = tensor["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale)
